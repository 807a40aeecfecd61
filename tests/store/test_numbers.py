"""What a store holds against S3PRL's plain upstream, one utterance at a time, and the runner's path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pooling_loops
import pytest
import torch
from s3prl import hub
from s3prl.upstream.interfaces import Featurizer
from stores import SAMPLES, overrides
from torch import Tensor
from torch.testing import assert_close

from s3prl_vqpool import cli
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.store import Store
from s3prl_vqpool.store.encode import kept_frames

KINDS = ("mfcc", "large", "base")
Stores = Callable[[str], Store]


def plain(kind: str, checkpoints: dict[str, Path]) -> Any:
    """S3PRL's own upstream."""
    return (hub.mfcc() if kind == "mfcc" else hub.wav2vec2_local(ckpt=str(checkpoints[kind]))).eval()


def ours(kind: str, checkpoints: dict[str, Path]) -> Any:
    if kind == "mfcc":
        return hub.mfcc_vq().eval()
    return hub.wav2vec2_vq_local(ckpt=str(checkpoints[kind])).eval()


def wav_of(store: Store, row: int) -> Tensor:
    return torch.from_numpy(audio.read(store.utterances[row].path))


@pytest.mark.parametrize("kind", KINDS)
def test_store_equals_s3prls_upstream_one_at_a_time(
    kind: str, stores: Stores, checkpoints: dict[str, Path]
) -> None:
    store, upstream, with_codes = stores(kind), plain(kind, checkpoints), ours(kind, checkpoints)
    featurizer = Featurizer(upstream, upstream_device="cpu")
    for row, utterance in enumerate(store.utterances):
        wav = wav_of(store, row)
        with torch.no_grad():
            states = upstream([wav])["hidden_states"]
            codes = with_codes([wav])["codes"][0]
            kept = featurizer.tolist([wav], states[0])[0]
        layers = torch.stack([state[0] for state in states])  # [layers, T, D]
        assert torch.equal(store.codes(row), codes)
        assert utterance.length == layers.size(1) == len(codes)
        assert_close(store.frames(row), layers.mean(dim=0), atol=1e-5, rtol=0)
        for name in store.manifest["poolings"]:
            if name == "mean":
                expected = layers[:, : len(kept)].mean(dim=1)
            else:
                weights = pooling_loops.weights(name, [tuple(code) for code in codes.tolist()])
                expected = (torch.tensor(weights)[None, :, None] * layers).sum(dim=1)
            assert_close(store.vectors(name, [row])[0], expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["VQ-LP", "mean", "AP"])
def test_store_gives_the_runners_logits_at_batch_size_one(
    kind: str, pooling: str, stores: Stores, checkpoints: dict[str, Path], datarc: dict[str, Any], build: Any
) -> None:
    store, upstream = stores(kind), ours(kind, checkpoints)
    featurizer = Featurizer(upstream, upstream_device="cpu")
    torch.manual_seed(0)
    dim = store.manifest["dim"]
    head = build("ic", datarc, pooling, upstream_dim=dim)
    layer_weights = torch.ones(1)
    if store.manifest["layers"] > 1:
        torch.nn.init.normal_(featurizer.weights)
        layer_weights = featurizer.weights.softmax(dim=0)
    for row in range(len(store.utterances)):
        wav = wav_of(store, row)
        with torch.no_grad():
            expected = torch.cat(head._logits_per_slot(featurizer([wav], upstream([wav]))), dim=1)[0]
            mixed = torch.einsum("l,ld->d", layer_weights, store.vectors(pooling, [row])[0])
            logits = head.model.post_net["linear"](head.projector(mixed))
        assert_close(logits, expected, atol=1e-4, rtol=0)


def test_rows_are_the_splits_in_order(stores: Stores, datarc: dict[str, Any], build: Any) -> None:
    store, corpus = stores("mfcc"), build("ic", datarc).corpus
    listed = [utterance for split in ("train", "dev", "test") for utterance in corpus.splits[split]]
    assert store.rows(listed) == list(range(12))
    assert store.rows(corpus.splits["dev"][::-1]) == [7, 6, 5, 4]
    assert [u.samples for u in store.utterances] == list(SAMPLES)
    for utterance, row in zip(listed, store.utterances):
        assert (row.id, row.label, str(row.path)) == (utterance.id, utterance.label, str(utterance.path))
    assert len({row.sha256 for row in store.utterances}) == 12


def test_vectors_of_all_rows_are_in_list_order(stores: Stores) -> None:
    store = stores("base")
    everything = store.vectors("VQ-LP")
    assert everything.shape == (12, 4, 48)
    for row in range(12):
        assert torch.equal(everything[row], store.vectors("VQ-LP", [row])[0])
    assert torch.equal(store.vectors("AP", [9, 2]), store.vectors("AP")[[9, 2]])


def test_half_precision_is_the_rounded_store(extract: Any, stores: Stores, tmp_path: Path) -> None:
    assert extract("large", tmp_path / "half", "--dtype", "float16", "--frames") == 0
    half, full = Store.open(tmp_path / "half"), stores("large")
    assert half.vectors("VQ-LP").dtype == torch.float16
    assert torch.equal(half.vectors("VQ-LP"), full.vectors("VQ-LP").half())
    assert half.frames(3).dtype == torch.float32
    assert torch.equal(half.frames(3), full.frames(3).half().float())


def test_workers_change_nothing(extract: Any, stores: Stores, tmp_path: Path) -> None:
    assert extract("large", tmp_path / "store", num_workers=2) == 0
    read = Store.open(tmp_path / "store")
    assert torch.equal(read.vectors("VQ-LP"), stores("large").vectors("VQ-LP"))
    assert read.utterances == stores("large").utterances


def test_silence_is_stored_as_windows(synthetic: Any, tmp_path: Path, build: Any) -> None:
    datarc = synthetic["ks"]
    command = ["extract", "-u", "mfcc_vq", "-d", "vqpool_ks", *overrides(datarc), "--poolings", "VQ-LP"]
    assert cli.main([*command, "--store", str(tmp_path / "ks")]) == 0
    store, corpus = Store.open(tmp_path / "ks"), build("ks", datarc).corpus
    drawn = [u for u in corpus.splits["train"] if u.frames is not None]
    assert drawn
    for utterance, row in zip(drawn, store.rows(drawn)):
        assert (store.utterances[row].path, store.utterances[row].start) == (utterance.path, 0)
        wav = torch.from_numpy(audio.read(utterance.path, corpus.gain_db, 0, 16000))
        assert torch.equal(store.codes(row), hub.mfcc_vq().eval()([wav])["codes"][0])
    for path in {
        utterance.path for utterance in drawn
    }:  # whole seconds, one after the other, named by their number
        windows = [row for row in store.utterances if row.path == path]
        whole = audio.length(path) // 16000
        assert whole > 2
        assert [row.start for row in windows] == [16000 * k for k in range(whole)]
        assert {row.samples for row in windows} == {row.frames for row in windows} == {16000}
    seconds = [u for u in corpus.splits["dev"] if u.frames is not None]
    assert len(set(store.rows(seconds))) == len(seconds)
    assert set(store.rows(drawn)) <= set(store.rows(seconds))


def test_folds_share_one_store(synthetic: Any, tmp_path: Path, build: Any) -> None:
    datarc = synthetic["er"]
    command = ["extract", "-u", "mfcc_vq", "-d", "vqpool_er", *overrides(datarc), "--poolings", "AP"]
    assert cli.main([*command, "--store", str(tmp_path / "er")]) == 0
    store = Store.open(tmp_path / "er")
    for fold in ("fold1", "fold4"):
        corpus = build("er", {**datarc, "test_fold": fold, "pre_load": False}).corpus
        rows = [row for split in corpus.splits.values() for row in store.rows(split)]
        assert sorted(rows) == list(range(len(store.utterances)))


def test_kept_frames_are_those_of_s3prls_featurizer() -> None:
    """Python's `round`, as in s3prl/upstream/interfaces.py: half to even. At least one frame is kept."""
    samples = [1, 100, 160, 161, 320, 480, 481, 800, 16_000]
    assert kept_frames(samples, 320).tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 50]
