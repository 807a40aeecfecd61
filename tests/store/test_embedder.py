"""`Embedder`: its vectors against a store's, a loop's and the runner's statistics; what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pooling_loops
import pytest
import soundfile
import soxr
import torch
from stores import SAMPLES
from torch import Tensor
from torch.testing import assert_close

from s3prl_vqpool import Embedder, cli, pooling
from s3prl_vqpool.corpora import Utterance, UtteranceDataset, audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.runner import statistics
from s3prl_vqpool.store import Store, embedder
from s3prl_vqpool.store.files import STATISTICS

KINDS = ("mfcc", "large", "base")
Stores = Callable[[str], Store]
Make = Callable[..., Embedder]


@pytest.fixture(scope="session")
def make(checkpoints: dict[str, Path]) -> Make:
    def make(kind: str, pooling: str = "VQ-LP", **options: Any) -> Embedder:
        name, ckpt = ("mfcc_vq", None) if kind == "mfcc" else ("wav2vec2_vq_local", str(checkpoints[kind]))
        return Embedder(name, ckpt=ckpt, pooling=pooling, device="cpu", **options)

    return make


def paths(store: Store) -> list[Path]:
    return [row.path for row in store.utterances]


def close(found: Tensor, expected: Tensor) -> None:
    assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["VQ-LP", "mean", "VQ-AllSquash-OR"])
def test_vectors_are_the_stores_in_the_order_given(kind: str, name: str, stores: Stores, make: Make) -> None:
    store = stores(kind)
    embed, rows = make(kind, name, batch_seconds=2.1), [7, 0, 11, 3, 5, 1]
    found = embed([paths(store)[row] for row in rows])
    assert found.dtype == torch.float32
    close(found, store.vectors(name, rows).mean(dim=1))


@pytest.mark.parametrize("layer", [0, 2])
def test_layer_is_that_of_the_store(layer: int, stores: Stores, make: Make) -> None:
    store = stores("large")
    close(make("large", layer=layer)(paths(store)), store.vectors("VQ-LP")[:, layer])


def test_vector_is_the_weighted_mean_of_the_loop(stores: Stores, make: Make) -> None:
    store = stores("base")
    for row in (0, 6, 11):
        codes = [tuple(code) for code in store.codes(row).tolist()]
        weights = torch.tensor(pooling_loops.weights("VQ-LP", codes), dtype=torch.float32)
        close(make("base")(store.utterances[row].path), (weights[:, None] * store.frames(row)).sum(0)[None])


@pytest.mark.parametrize("name", ["VQ-LP+std", "SP", "mean+std"])
def test_deviation_is_that_of_the_mean_over_layers(name: str, stores: Stores, make: Make) -> None:
    store = stores("large")
    module = pooling.build(name, store.manifest["dim"])
    found = make("large", name, batch_seconds=2.1)(paths(store))
    for row in range(len(SAMPLES)):
        frames, codes = store.frames(row)[None], store.codes(row)[None]
        length = min(frames.size(1), int(store.kept[row])) if name == "mean+std" else frames.size(1)
        close(found[row], module(frames, torch.tensor([length]), codes)[0])


def test_deviation_of_a_layer_is_of_its_frames(stores: Stores, make: Make) -> None:
    embed, path = make("large", "AP+std", layer=1), paths(stores("large"))[4]
    states = embed.upstream([torch.from_numpy(audio.read(path))])["hidden_states"][1][0].detach()
    close(embed(path)[0], torch.cat([states.mean(dim=0), states.std(dim=0)]))


def test_paths_arrays_and_tensors_are_the_same(stores: Stores, make: Make, tmp_path: Path) -> None:
    embed, path = make("base"), paths(stores("base"))[7]
    samples, _ = soundfile.read(path)
    soundfile.write(tmp_path / "same.flac", samples, 16000)
    given = [str(path), path, tmp_path / "same.flac", samples, torch.from_numpy(samples).float()]
    vectors = embed(given)
    assert vectors.shape == (5, stores("base").manifest["dim"])
    close(vectors, vectors[:1].expand(5, -1))
    for one in (str(path), samples, torch.from_numpy(samples)):
        close(embed(one), vectors[:1])
    close(embed(each for each in given), vectors)


def test_other_rates_and_channels_are_read_as_everywhere(make: Make, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((44100, 2))
    soundfile.write(tmp_path / "stereo.wav", noise, 44100, "FLOAT")
    mono = soxr.resample(noise.astype(np.float32).mean(axis=1), 44100, 16000, quality="HQ")
    embed = make("large")
    close(embed(tmp_path / "stereo.wav"), embed(mono))


def test_counts_of_a_store_are_its_vectors(stores: Stores, make: Make, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stores("large").folder, tmp_path / "store"))
    assert cli.main(["store", "add-pooling", str(folder), "VQ-SIF", "--option", "a=1e-2"]) == 0
    store = Store.open(folder)
    embed = make("large", "VQ-SIF", statistics=folder / STATISTICS, a=1e-2)
    close(embed(paths(store)), store.vectors("VQ-SIF").mean(dim=1))


@pytest.mark.parametrize("name", ["VQ-LP|whitening", "VQ-GP+std|standardise"])
@pytest.mark.parametrize("layer", [None, 2])
def test_map_of_an_experiment_is_taken(
    name: str, layer: int | None, stores: Stores, make: Make, tmp_path: Path
) -> None:
    from s3prl.upstream.interfaces import Featurizer

    store, upstream = stores("large"), make("large").upstream
    training = UtteranceDataset([Utterance(path, (0,), path.stem) for path in paths(store)[:6]])
    method, file = pooling.method(name), tmp_path / STATISTICS
    featurizer = Featurizer(upstream, upstream_device="cpu", layer_selection=layer)
    found = statistics.obtain(method, method.with_defaults({}), upstream, featurizer, training, None, file)
    module = pooling.build(name, store.manifest["dim"])
    module.set_statistics(*found)
    vectors = make("large", name, statistics=file, layer=layer)(paths(store))
    for row in range(len(SAMPLES)):
        states = upstream([torch.from_numpy(audio.read(paths(store)[row]))])["hidden_states"]
        frames = torch.stack([state[0].detach() for state in states])
        frames = frames.mean(dim=0) if layer is None else frames[layer]
        expected = module(frames[None], torch.tensor([len(frames)]), store.codes(row)[None])[0]
        assert_close(vectors[row], expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match="layer"):
        make("large", name, statistics=file, layer=1)
    with pytest.raises(InputError, match="weights"):
        make("base", name, statistics=file, layer=layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "VQ-LPP"}, "Did you mean VQ-LP"),
        ({"pooling": "VAP"}, "learned with a head"),
        ({"pooling": "VQ-GP"}, "statistics=FILE"),
        ({"pooling": "VQ-LP|whitening"}, "statistics=FILE"),
        ({"statistics": "some.safetensors"}, "takes no statistics: leave some.safetensors out"),
        ({"pooling": "VQ-GP", "statistics": "none.safetensors"}, "none.safetensors: no such file"),
        ({"a": 1}, "VQ-LP"),
        ({"device": "gpu"}, "device gpu"),
        ({"device": "cuda:99"}, "device cuda:99"),
        ({"ckpt": "some.pt"}, "some.pt"),
        ({"upstream": "wav2vec2_v"}, "Did you mean"),
    ],
)
def test_refuses_in_a_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        Embedder(**{"upstream": "mfcc_vq", "device": "cpu", **options})
    assert "\n" not in str(raised.value)


def test_utterance_at_fault_is_named(stores: Stores, make: Make, tmp_path: Path) -> None:
    embed, good = make("large"), paths(stores("large"))[0]
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16000)
    for bad, message in (
        (tmp_path / "none.wav", "none.wav: no such file"),
        (tmp_path / "text.wav", "text.wav: not audio"),
        (tmp_path / "short.wav", "short.wav: 100 samples"),
        (np.zeros(300), "utterance 1: 300 samples"),
        (np.zeros((2, 16000)), r"utterance 1: Expected floating samples .* \[2, 16000\]"),
        (np.zeros(16000, dtype=np.int16), "utterance 1: .*int16"),
        (np.full(16000, np.nan), "utterance 1: holds NaN"),
        (np.full(16000, 1e38), "utterance 1: .*hidden states are not: "),
    ):
        with pytest.raises(InputError, match=message) as raised:
            embed([good, bad, good])
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="No utterances"):
        embed([])
    with pytest.raises(InputError, match=r"layer 7: .* 0 to 3"):
        make("large", layer=7)(good)


def test_no_more_than_a_batch_is_in_memory(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wavs = [tmp_path / f"{k}.wav" for k in range(6)]
    for wav in wavs:
        soundfile.write(wav, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    embed, seen = make("large", batch_seconds=2), []
    encoder = embed._encoder
    monkeypatch.setattr(embed, "_encoder", lambda batch: seen.append(len(batch)) or encoder(batch))
    assert len(embed(wavs)) == 6
    assert seen == [2, 2, 2]


def test_utterances_are_counted_as_they_are_done(
    stores: Stores, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Bar:
        def __init__(self, **given: Any) -> None:
            told.append((given["total"], given["disable"]))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            told.append("closed")

        def update(self, count: int) -> None:
            told.append(count)

    monkeypatch.setattr(embedder, "tqdm", Bar)
    embed, given = make("mfcc", "AP", batch_seconds=2), paths(stores("mfcc"))
    for progress in (True, False):
        told.clear()
        embed(given, progress)
        first, *counts, last = told
        assert (first, last) == ((len(given), None if progress else True), "closed")
        assert len(counts) > 1
        assert sum(counts) == len(given)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_refused(layer: int, stores: Stores, make: Make) -> None:
    assert stores("large").manifest["layers"] == 4
    with pytest.raises(InputError, match=rf"^layer {layer}: this upstream's hidden states are 0 to 3\.$"):
        make("large", "AP", layer=layer)(paths(stores("large"))[:1])
