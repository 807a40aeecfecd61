"""`s3prl_vqpool.problem`: numbers against the runner's head and S3PRL's own model, and a short run of each problem."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import waves
from torch.nn.utils.rnn import pad_sequence

from s3prl_vqpool import codes
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner.head import SuperbHead
from s3prl_vqpool.runner.library import UpstreamWithCodes

MISSING = [
    name
    for name in ("librosa", "editdistance", "more_itertools", "tensorboard")
    if not importlib.util.find_spec(name)
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"the extra [superb] is not installed: no {MISSING}")
GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "problem.md").read_text()
MODEL = ({}, 5, {"name": "mfcc_vq"}, {})
STEPS = {"total_steps": 2, "log_step": 1, "eval_step": 2, "save_step": 2, "gradient_accumulate": 1}


def batch(*samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    return pad_sequence(waves(*samples), batch_first=True), torch.tensor(samples)


def model(**build_downstream: Any) -> torch.nn.Module:
    from s3prl_vqpool.problem import VqpoolKS

    torch.manual_seed(0)
    return VqpoolKS().build_model(*MODEL, build_downstream).eval()


# --------------------------------------------------------------------------------------------- upstream
@pytest.mark.parametrize("samples", [(16000, 9000, 4321), (16123,)])
def test_upstream_gives_s3prls_states_and_the_upstreams_codes(samples: tuple[int, ...]) -> None:
    from s3prl.nn import S3PRLUpstream

    wavs, lengths = batch(*samples)
    ours, theirs = UpstreamWithCodes("mfcc_vq").eval(), S3PRLUpstream("mfcc_vq").eval()
    states, frames, indices, real = ours(wavs, lengths, codes=True)
    expected, expected_frames = theirs(wavs, lengths)
    torch.testing.assert_close(states, expected, rtol=0, atol=0)
    torch.testing.assert_close(frames, expected_frames, rtol=0, atol=0)
    result = theirs.upstream([wav[:n] for wav, n in zip(wavs, samples)])
    assert torch.equal(indices, result["codes"])
    assert torch.equal(real, result["code_lengths"])


def test_codes_that_are_returned_do_not_stay_for_a_head() -> None:
    upstream = UpstreamWithCodes("mfcc_vq").eval()
    upstream(*batch(8000), codes=True)
    assert codes.take([0]) is None
    _, lengths = upstream(*batch(8000))
    assert codes.take(lengths[0].tolist()) is not None


def test_upstream_without_codes_leaves_none_of_an_earlier_batch() -> None:
    UpstreamWithCodes("mfcc_vq").eval()(*batch(8000))
    plain = UpstreamWithCodes("mfcc").eval()
    plain(*batch(8000))
    assert codes.take([50]) is None
    with pytest.raises(InputError, match="published none"):
        plain(*batch(8000), codes=True)


# ------------------------------------------------------------------------------------------------- head
@pytest.mark.parametrize("pooling", ["VQ-LP", "VQ-AllSquash-AND", "AP", "mean"])
def test_logits_are_those_of_the_runners_head(pooling: str) -> None:
    ours = model(pooling=pooling, hidden_size=7)
    upstream, featurizer = ours.upstream, ours.featurizer
    wavs, lengths = batch(16000, 9000, 4321)
    found = ours(wavs, lengths)

    head = SuperbHead(featurizer.output_size, 7, 5, pooling)
    head.load_state_dict(ours.downstream.state_dict())
    frames, frame_lengths = featurizer(*upstream(wavs, lengths))
    codes.publish(None)
    result = upstream.upstream([wav[:n] for wav, n in zip(wavs, lengths)])
    codes.publish(None)
    of_batch = codes.Codes(result["codes"], result["code_lengths"], (1,), ())
    torch.testing.assert_close(found, head.logits(frames, frame_lengths, of_batch), rtol=0, atol=0)


def test_vq_lp_is_not_the_mean_and_sees_each_batch_anew() -> None:
    ours = model()
    first, second = batch(16000, 9000), batch(9000, 16000)
    both = [ours(*each) for each in (first, second)]
    alone = torch.cat([ours(first[0][:1], first[1][:1]), ours(first[0][1:, :9000], first[1][1:])])
    torch.testing.assert_close(both[0], alone, rtol=1e-5, atol=1e-6)
    averaging = model(pooling="mean")
    averaging.load_state_dict(ours.state_dict())
    assert (averaging(*first) - both[0]).abs().max() > 1e-4


def test_mean_gives_the_output_of_s3prls_own_model() -> None:
    from s3prl.problem import SuperbKS

    ours = model(pooling="mean", hidden_size=7)
    theirs = SuperbKS().build_model(*MODEL, {"hidden_size": 7}).eval()
    places = {"projector": "hidden_layers.0", "model.post_net.linear": "final_proj"}
    state = ours.state_dict()
    for mine, other in places.items():
        for kind in ("weight", "bias"):
            state[f"downstream.{other}.{kind}"] = state.pop(f"downstream.{mine}.{kind}")
    theirs.load_state_dict(state)
    wavs = batch(16000, 9000, 4321)
    torch.testing.assert_close(ours(*wavs), theirs(*wavs), rtol=1e-5, atol=1e-6)


def test_counts_come_from_a_file_of_the_same_upstream(tmp_path: Path) -> None:
    from s3prl_vqpool import pooling
    from s3prl_vqpool.runner.statistics import whose

    upstream = UpstreamWithCodes("mfcc_vq").eval()
    _, _, indices, real = upstream(*batch(16000, 9000), codes=True)
    counts = pooling.counts(indices, real, upstream.upstream.codebook_sizes)
    counts.save(tmp_path / "own.safetensors", whose(upstream.upstream))
    counts.save(tmp_path / "other.safetensors", {"upstream": "other", "weights": "0"})
    ours = model(pooling="VQ-GP", pooling_statistics=str(tmp_path / "own.safetensors"))
    wavs = batch(16000, 9000)
    states, frames, indices, real = ours.upstream(*wavs, codes=True)
    head = ours.downstream
    weights = pooling.weights("VQ-GP", indices, real, counts=counts)  # [B, T]
    projected = head.projector(ours.featurizer(states, frames)[0])[:, : indices.size(1)]
    expected = head.model.post_net["linear"](pooling.pool(projected, weights))
    torch.testing.assert_close(ours(*wavs), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="other"):
        model(pooling="VQ-GP", pooling_statistics=str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("build_downstream", "said"),
    [
        ({"poolng": "VQ-LP"}, "poolng"),
        ({"pooling": "VQ-PL"}, "VQ-PL"),
        ({"pooling": "AP|whitening"}, "run_downstream.py alone"),
        ({"pooling": "VQ-GP"}, "needs a file"),
        ({"pooling": "VQ-LP", "pooling_statistics": "x"}, "takes none"),
        ({"hidden_size": 0}, "hidden_size"),
    ],
)
def test_mistakes_end_in_one_line(build_downstream: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        model(**build_downstream)
    assert said in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_upstream_without_codes_is_refused_before_training() -> None:
    from s3prl_vqpool.problem import VqpoolKS

    with pytest.raises(InputError, match="mfcc has no codes: choose one"):
        VqpoolKS().build_model({}, 5, {"name": "mfcc"}, {}, {})
    VqpoolKS().build_model({}, 5, {"name": "mfcc"}, {}, {"pooling": "mean"})


# ------------------------------------------------------------------------------------------------- runs
def evaluated(folder: Path) -> dict[str, float]:
    (result,) = folder.glob("evaluate/valid_best/test/result.yaml")
    return yaml.safe_load(result.read_text())


def trained(name: str, folder: Path, eval_batch: int = 3, **prepare_data: Any) -> dict[str, float]:
    """Two steps of a problem, and its test of at most ``eval_batch`` batches."""
    from s3prl_vqpool import problem

    one = getattr(problem, name)()
    config = {**one.default_config(), "prepare_data": prepare_data, "build_upstream": {"name": "mfcc_vq"}}
    config.update(target_dir=str(folder / "out"), cache_dir=str(folder), device="cpu")
    config.update(num_workers=0, eval_batch=eval_batch)
    config["train"].update(STEPS)
    one.run(**config)
    return evaluated(folder / "out")


def test_ks_by_the_guides_example(synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpora").symlink_to(Path(synthetic["ks"]["speech_commands_root"]).parent)
    monkeypatch.chdir(tmp_path)
    example, _ = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert 0 <= evaluated(tmp_path / "ks")["accuracy"] <= 1
    lines = (tmp_path / "ks" / "train.csv").read_text().splitlines()
    assert sum(",_silence_," in line for line in lines) == 10 * len(
        list((tmp_path / "corpora" / "speech_commands_v0.01" / "_background_noise_").glob("*.wav"))
    )  # ten seconds each, cut into seconds by torchaudio.info


def test_sid(synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3prl.dataio.corpus.voxceleb1sid import VoxCeleb1SID

    shutil.copy(synthetic["sid"]["meta_data"], tmp_path / "iden_split.txt")
    read = VoxCeleb1SID._get_standard_usage
    monkeypatch.setattr(
        VoxCeleb1SID, "_get_standard_usage", staticmethod(lambda root, _: read(root, tmp_path))
    )
    result = trained("VqpoolSID", tmp_path, dataset_root=synthetic["sid"]["file_path"], n_jobs=1)
    assert 0 <= result["accuracy"] <= 1


def test_ic(synthetic: dict, tmp_path: Path) -> None:
    result = trained("VqpoolIC", tmp_path, eval_batch=1, dataset_root=synthetic["ic"]["file_path"])
    assert 0 <= result["accuracy"] <= 1


def test_er(synthetic: dict, tmp_path: Path) -> None:
    for split in ("train", "test"):
        source = Path(synthetic["er"]["meta_data"]) / "Session1" / f"{split}_meta_data.json"
        shutil.copy(source, tmp_path / f"test_session1_{split}_metadata.json")
    result = trained("VqpoolER", tmp_path, iemocap=synthetic["er"]["root"], test_fold=0)
    assert 0 <= result["accuracy"] <= 1
