"""vq-wav2vec: codes as fairseq computes them, hidden states as S3PRL's own expert."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import golden
import pytest
import torch
from s3prl import hub
from s3prl.upstream.wav2vec.wav2vec_model import Wav2VecConfig, Wav2VecModel
from s3prl.upstream.wav2vec2.wav2vec2_model import AudioPretrainingConfig
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import cli
from s3prl_vqpool.checkpoints import download
from s3prl_vqpool.errors import InputError

LENGTHS = (7600, 16000, 465, 12345)
CONVOLUTIONS = [(10, 5), (8, 4), (4, 2), (4, 2), (4, 2), (1, 1)]
MODELS = {"gumbel": "fairseq_vq_wav2vec_gumbel", "kmeans": "fairseq_vq_wav2vec_kmeans"}


def frames(samples: int) -> int:
    for kernel, stride in CONVOLUTIONS:
        samples = (samples - kernel) // stride + 1
    return samples


def checkpoint(path: Path, vq_type: str, **changes: Any) -> str:
    """A tiny model in S3PRL's converted format."""
    settings: dict[str, Any] = {
        "infonce": True,
        "conv_feature_layers": str([(16, kernel, stride) for kernel, stride in CONVOLUTIONS]),
        "conv_aggregator_layers": "[(16, 2, 1), (16, 3, 1)]",
        "vq_type": vq_type,
        "vq_vars": 20,
        "vq_dim": 16,
        **changes,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wav2VecModel(Wav2VecConfig(**settings))
        if vq_type == "kmeans":
            torch.nn.init.normal_(model.vector_quantizer.embedding)
    state = {
        "task_cfg": asdict(AudioPretrainingConfig()),
        "model_cfg": settings,
        "model_weight": model.state_dict(),
    }
    torch.save(state, path)
    return str(path)


@golden.needed
@pytest.mark.parametrize("converted", [False, True], ids=["as it is", "converted"])
@pytest.mark.parametrize("kind", MODELS)
def test_codes_equal_fairseqs(tmp_path: Path, kind: str, converted: bool) -> None:
    expected, path = golden.expected("fairseq"), str(golden.CHECKPOINTS / f"{MODELS[kind]}.pt")
    if converted:
        assert cli.main(["convert", path, "--output", str(tmp_path / "a.safetensors")]) == 0
        path = str(tmp_path / "a.safetensors")
    upstream = hub.vq_wav2vec_vq_custom(ckpt=path).eval()
    for i in range(3):
        with torch.no_grad():
            found = upstream([expected[f"wav.{i}"]])
        assert torch.equal(found["codes"][0], expected[f"{MODELS[kind]}.{i}.codes"])
    assert upstream.codebook_sizes == (40, 40)
    assert upstream.get_downsample_rates("hidden_states") == 160


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gumbel", {}),
        ("gumbel", {"vq_depth": 2, "vq_groups": 4}),
        ("gumbel", {"combine_groups": True}),
        ("kmeans", {}),
        ("kmeans", {"combine_groups": True}),
    ],
    ids=str,
)
def test_batch_equals_s3prls_expert(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    path, wavs = checkpoint(tmp_path / "tiny.pt", kind, **changes), waves(*LENGTHS)
    plain, ours = (
        hub.vq_wav2vec_custom(path).eval(),
        hub.vq_wav2vec_vq_custom(ckpt=path, model_config=None).eval(),
    )
    with torch.no_grad():
        expected, found = plain(wavs), ours(wavs)
    assert set(found) == {*expected, "codes", "code_lengths"}
    for mine, theirs in zip(found["hidden_states"], expected["hidden_states"], strict=True):
        assert torch.equal(mine, theirs)
    assert found["code_lengths"].tolist() == [frames(n) for n in LENGTHS]
    for b, length in enumerate(found["code_lengths"].tolist()):
        assert torch.equal(found["codes"][b, :length], expected["codeids"][b, :length])
        assert (found["codes"][b, length:] == -1).all()
    assert len(found["codes"].unique()) > 5
    assert ours.codebook_sizes == (20,) * changes.get("vq_groups", 2)


@pytest.mark.parametrize("kind", MODELS)
def test_codes_in_training_have_no_gumbel_noise(tmp_path: Path, kind: str) -> None:
    ours, wavs = hub.vq_wav2vec_vq_custom(ckpt=checkpoint(tmp_path / "tiny.pt", kind)), waves(16000, 12345)
    found = ours.train()(wavs)
    assert torch.equal(found["codes"], ours.eval()(wavs)["codes"])
    if kind == "gumbel":  # S3PRL's ids are of the noisy logits there
        real = found["codes"][0]
        assert not torch.equal(found["codeids"][0, : len(real)], real)


def test_files_of_other_models_are_refused_with_the_right_name(tmp_path: Path) -> None:
    wav2vec2 = converted_checkpoint(tmp_path / "wav2vec2.pt", LARGE)
    with pytest.raises(InputError, match=r"is no vq-wav2vec .* use -u wav2vec2_vq_custom"):
        hub.vq_wav2vec_vq_custom(ckpt=str(wav2vec2))
    with pytest.raises(InputError, match="is no vq-wav2vec"):
        hub.vq_wav2vec_vq_custom(ckpt=checkpoint(tmp_path / "wav2vec.pt", "none"))
    with pytest.raises(InputError, match=r"not wav2vec 2\.0: use -u vq_wav2vec_vq_custom"):
        hub.wav2vec2_vq_custom(ckpt=checkpoint(tmp_path / "vq.pt", "kmeans"))
    with pytest.raises(InputError, match="needs a checkpoint"):
        hub.vq_wav2vec_vq_custom()


@pytest.mark.parametrize("field", ["conv_feature_layers", "conv_aggregator_layers"])
def test_layers_that_are_code_are_refused_unrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.chdir(tmp_path)  # S3PRL evaluates these fields with eval()
    path = checkpoint(Path("tiny.pt"), "gumbel")
    state = torch.load(path, weights_only=True)
    state["model_cfg"][field] = "__import__('os').system('touch CANARY')"
    torch.save(state, path)
    with pytest.raises(InputError, match=f"refused, {field} is"):
        hub.vq_wav2vec_vq_custom(ckpt=path)
    assert not Path("CANARY").exists()


@pytest.mark.parametrize(
    ("name", "twin"), [("vq_wav2vec_vq", "vq_wav2vec"), ("vq_wav2vec_kmeans_vq", "vq_wav2vec_kmeans")]
)
def test_named_upstream_asks_for_the_file_of_s3prls(
    monkeypatch: pytest.MonkeyPatch, name: str, twin: str
) -> None:
    asked: list[str] = []

    class Asked(Exception):
        pass

    def ask(url: str, *_: Any, **__: Any) -> Path:
        asked.append(url)
        raise Asked

    monkeypatch.setattr(download, "fetch", ask)
    monkeypatch.setitem(hub.vq_wav2vec.__globals__, "_urls_to_filepaths", ask)
    for each in (name, twin):
        with pytest.raises(Asked):
            getattr(hub, each)()
    assert asked[0] == asked[1]
