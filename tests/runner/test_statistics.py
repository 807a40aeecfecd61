"""Training statistics of a head: one pass before step 1, its file, and whose they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch
from s3prl import hub
from s3prl.downstream.vqpool_ic.expert import DownstreamExpert
from s3prl.upstream.interfaces import Featurizer
from tiny import LARGE, converted_checkpoint
from torch.nn import functional
from torch.testing import assert_close

from s3prl_vqpool import pooling
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import plugin

WITH_STATISTICS = [name for name in pooling.methods() if pooling.method(name).needs_statistics]
POINTS = ["VQ-LP|standardise", "VQ-BP+std|whitening", "mean+std|softdecay"]


@pytest.fixture(scope="module")
def datarc(synthetic: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {**synthetic["ic"], "train_batch_size": 4, "eval_batch_size": 4, "num_workers": 0}


@pytest.fixture(scope="module")
def upstream() -> Any:
    return hub.mfcc_vq().eval()


@pytest.fixture(scope="module")
def featurizer(upstream: Any) -> Featurizer:
    return Featurizer(upstream, upstream_device="cpu")


def expert(
    datarc: dict[str, Any], expdir: Path, name: str, upstream_dim: int = 39, **modelrc: Any
) -> DownstreamExpert:
    """An expert whose training set is ten utterances long."""
    expdir.mkdir(exist_ok=True)
    section = {"datarc": dict(datarc), "modelrc": {"projector_dim": 8, "pooling": name, **modelrc}}
    one = DownstreamExpert(upstream_dim=upstream_dim, downstream_expert=section, expdir=str(expdir))
    one.corpus.splits["train"] = one.corpus.splits["train"][:10]
    return one


def audio_of_the_training_set(one: DownstreamExpert) -> list[torch.Tensor]:
    return [torch.from_numpy(audio.read(utterance.path)) for utterance in one.dataset("train").utterances]


def test_pass_counts_every_training_frame_once(
    datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    one = expert(datarc, tmp_path, "VQ-BP")
    one.prepare(upstream, featurizer)
    seen: Counter[tuple[int, ...]] = Counter()
    for wav in audio_of_the_training_set(one):
        seen.update(map(tuple, upstream([wav])["codes"][0].tolist()))
    counts = one.model.pooling.counts
    assert dict(zip(map(tuple, counts.tuples.tolist()), counts.occurrences.tolist())) == seen


@pytest.mark.parametrize("name", ["Whitening", "SoftDecay"])
def test_pass_fits_the_mean_vectors_of_real_frames(
    name: str, datarc: dict[str, Any], upstream: Any, tmp_path: Path
) -> None:
    model = hub.wav2vec2_vq_local(ckpt=str(converted_checkpoint(tmp_path / "tiny.pt", LARGE))).eval()
    one = expert(datarc, tmp_path, name, upstream_dim=48)
    one.prepare(model, Featurizer(model, upstream_device="cpu"))
    vectors = []
    for wav in audio_of_the_training_set(one):
        with torch.no_grad():
            layers = torch.stack(model([wav])["hidden_states"]).mean(dim=0)  # [1, T, D]
        vectors.append(layers[0].mean(dim=0))
    fitted = pooling.fit(name, torch.stack(vectors))
    assert_close(one.model.pooling.mean, fitted.mean, atol=1e-5, rtol=0)
    probe = torch.stack(vectors[:3])
    stored = pooling.LinearMap(name, one.model.pooling.mean, one.model.pooling.factor)
    assert_close(stored(probe), fitted(probe), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [*WITH_STATISTICS, *POINTS])
def test_statistics_travel_in_the_checkpoint(
    name: str, datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    trained = expert(datarc, tmp_path / "trained", name)
    assert trained.lacks_statistics
    trained.prepare(upstream, featurizer)
    resumed = expert(datarc, tmp_path / "resumed", name)
    resumed.load_state_dict(trained.state_dict())
    assert not resumed.lacks_statistics
    wav = audio_of_the_training_set(trained)[:2]
    with torch.no_grad():
        expected = trained._logits_per_slot(featurizer(wav, upstream(wav)))
        got = resumed._logits_per_slot(featurizer(wav, upstream(wav)))
    assert_close(got, expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", POINTS)
def test_pass_fits_the_vectors_of_the_point_itself(
    name: str, datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    """Each training utterance pooled alone, with the counts of the training set where they are needed."""
    one = expert(datarc, tmp_path, name)
    one.prepare(upstream, featurizer)
    known = pooling.method(name)
    results = [upstream([wav]) for wav in audio_of_the_training_set(one)]
    found = [(r["hidden_states"][0], r["codes"], r["code_lengths"]) for r in results]
    counts = {}
    if known.needs_counts:
        counts["counts"] = sum(pooling.counts(q, n, upstream.codebook_sizes) for _, q, n in found)
    module = pooling.build(known.unmapped.name, 39, **counts)
    vectors = torch.cat([module(h[:, : q.size(1)], n, q) for h, q, n in found])
    fitted, head = pooling.fit(name, vectors), one.model.pooling
    assert_close(head.mean, fitted.mean, atol=1e-4, rtol=1e-4)
    stored = pooling.LinearMap(known.spec, head.mean, head.factor)
    assert_close(stored(vectors), fitted(vectors), atol=1e-2, rtol=1e-2)


def test_the_file_of_a_point_with_counts_serves_it_and_no_other(
    datarc: dict[str, Any],
    upstream: Any,
    featurizer: Featurizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = expert(datarc, tmp_path / "first", "VQ-BP+std|standardise")
    first.prepare(upstream, featurizer)
    given = str(tmp_path / "first" / "pooling_statistics.safetensors")
    monkeypatch.setattr("s3prl_vqpool.runner.statistics._passes", lambda *_: pytest.fail("a second pass"))
    second = expert(datarc, tmp_path / "second", "VQ-BP+std|standardise", pooling_statistics=given)
    second.prepare(upstream, featurizer)
    for key, value in first.model.pooling.state_dict().items():
        assert torch.equal(second.model.pooling.state_dict()[key], value), key
    for other in ("VQ-BP|standardise", "VQ-GP+std|standardise", "VQ-BP"):
        with pytest.raises(InputError, match="but it is of VQ-BP\\+std\\|standardise"):
            expert(datarc, tmp_path / other, other, pooling_statistics=given).prepare(upstream, featurizer)


def test_stored_map_of_another_option_is_made_again(
    datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn.covariance")
    plain = expert(datarc, tmp_path, "Whitening")
    plain.prepare(upstream, featurizer)
    shrunk = expert(datarc, tmp_path, "Whitening", pooling_options={"shrinkage": "ledoit-wolf"})
    shrunk.prepare(upstream, featurizer)
    assert torch.equal(plain.model.pooling.mean, shrunk.model.pooling.mean)
    assert not torch.equal(plain.model.pooling.factor, shrunk.model.pooling.factor)


def test_second_start_reads_what_the_first_pass_stored(
    datarc: dict[str, Any],
    upstream: Any,
    featurizer: Featurizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = expert(datarc, tmp_path, "VQ-GP")
    first.prepare(upstream, featurizer)
    monkeypatch.setattr("s3prl_vqpool.runner.statistics._passes", lambda *_: pytest.fail("a second pass"))
    second = expert(datarc, tmp_path, "VQ-GP")
    second.prepare(upstream, featurizer)
    assert torch.equal(second.model.pooling.tuples, first.model.pooling.tuples)
    assert torch.equal(second.model.pooling.occurrences, first.model.pooling.occurrences)


def test_stored_statistics_of_another_upstream_are_made_again(
    datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    other = pooling.Counts(torch.zeros(1, 2, dtype=torch.long), torch.ones(1, dtype=torch.long), (64, 64))
    other.save(tmp_path / "pooling_statistics.safetensors", {**upstream.identity(), "weights": "others"})
    one = expert(datarc, tmp_path, "VQ-GP")
    one.prepare(upstream, featurizer)
    assert one.model.pooling.counts.frames > 1


def test_stored_statistics_of_another_layer_or_pooling_are_made_again(
    datarc: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """A run that was killed before its first checkpoint is started again with another `-l`, then another pooling."""
    model = hub.wav2vec2_vq_local(ckpt=str(checkpoints["large"])).eval()
    for name, layer in (("Whitening", 1), ("Whitening", 3), ("SoftDecay", 3), ("VQ-GP", 3), ("SoftDecay", 1)):
        selecting = Featurizer(model, upstream_device="cpu", layer_selection=layer)
        ours, fresh = (expert(datarc, tmp_path / folder, name, 48) for folder in ("same", f"{name}{layer}"))
        for one in (ours, fresh):
            one.prepare(model, selecting)
        for key, found in ours.model.pooling.state_dict().items():
            assert torch.equal(found, fresh.model.pooling.state_dict()[key]), (name, layer, key)


def test_given_vectors_statistics_of_other_features_are_refused(
    datarc: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = hub.wav2vec2_vq_local(ckpt=str(checkpoints["large"])).eval()
    expert(datarc, tmp_path, "Whitening", 48).prepare(
        model, Featurizer(model, upstream_device="cpu", layer_selection=1)
    )
    given = tmp_path / "pooling_statistics.safetensors"
    one = expert(datarc, tmp_path / "other", "Whitening", 48, pooling_statistics=str(given))
    for other, difference in (
        ({"layer_selection": 3}, "layer 3, but they were made with 1"),
        ({"layer_selection": 1, "normalize": True}, "normalize True, but they were made with False"),
        ({"feature_selection": "last_hidden_state"}, "selection 'last_hidden_state', but "),
    ):
        with pytest.raises(InputError, match=rf"expected AP\|whitening with {difference}"):
            one.prepare(model, Featurizer(model, upstream_device="cpu", **other))
    one.prepare(model, Featurizer(model, upstream_device="cpu", layer_selection=1))
    assert not one.lacks_statistics


def test_given_statistics_are_used_and_those_of_another_upstream_refused(
    datarc: dict[str, Any], upstream: Any, featurizer: Featurizer, tmp_path: Path
) -> None:
    table = pooling.Counts(torch.zeros(1, 2, dtype=torch.long), torch.tensor([7]), (64, 64))
    table.save(tmp_path / "ours.safetensors", upstream.identity())
    one = expert(datarc, tmp_path, "VQ-GP", pooling_statistics=str(tmp_path / "ours.safetensors"))
    one.prepare(upstream, featurizer)
    assert one.model.pooling.counts.frames == 7
    table.save(tmp_path / "theirs.safetensors", {**upstream.identity(), "weights": "others"})
    one = expert(datarc, tmp_path, "VQ-GP", pooling_statistics=str(tmp_path / "theirs.safetensors"))
    with pytest.raises(InputError, match=r"theirs\.safetensors: expected counts with weights '[0-9a-f]{64}'"):
        one.prepare(upstream, featurizer)


def test_pass_leaves_random_state_and_modes_alone(
    datarc: dict[str, Any], featurizer: Featurizer, tmp_path: Path
) -> None:
    upstream = hub.mfcc_vq().train()
    before = torch.get_rng_state()
    expert(datarc, tmp_path, "VQ-GP").prepare(upstream, featurizer)
    after_construction = torch.get_rng_state()
    one = expert(datarc, tmp_path / "again", "VQ-GP")
    state = torch.get_rng_state()
    one.prepare(upstream, featurizer)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(before, after_construction)  # a head's initial weights are drawn from it
    assert upstream.training


@pytest.mark.parametrize("name", ["VQ-BP", "Whitening", "VQ-BP|standardise"])
def test_dropout_of_the_upstream_changes_no_statistics(
    datarc: dict[str, Any], featurizer: Featurizer, tmp_path: Path, name: str
) -> None:
    """The upstream is in train() when a pass begins; here its hidden states have dropout, so its codes do, too."""
    upstream = hub.mfcc_vq()
    inner = upstream.upstream
    drop = lambda module, args, found: {  # noqa: E731
        "hidden_states": [
            functional.dropout(states, 0.5, module.training) for states in found["hidden_states"]
        ]
    }
    inner.register_forward_hook(drop)
    found = []
    for mode in (True, False):
        one = expert(datarc, tmp_path / str(mode), name)
        one.prepare(upstream.train(mode), featurizer)
        found.append(one.model.pooling.state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    wavs = audio_of_the_training_set(one)[:1]
    with torch.no_grad():
        assert not torch.equal(upstream.train()(wavs)["codes"], upstream.eval()(wavs)["codes"])


def test_plain_upstream_has_no_statistics(
    datarc: dict[str, Any], featurizer: Featurizer, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="publishes no codes"):
        expert(datarc, tmp_path, "VQ-GP").prepare(hub.mfcc(), featurizer)


def test_fingerprint_changes_with_any_weight(tmp_path: Path) -> None:
    def fingerprint(seed: int) -> str:
        path = converted_checkpoint(tmp_path / f"{seed}.pt", LARGE, seed=seed)
        return plugin.upstreams()["wav2vec2_vq_local"](ckpt=str(path)).fingerprint()

    assert fingerprint(0) == fingerprint(0)
    assert fingerprint(0) != fingerprint(1)
