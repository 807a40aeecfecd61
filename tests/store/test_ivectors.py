"""`vqpool embed --ivector-period`: Kaldi's folder, against a loop over beginnings that are pooled one by one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from stores import tree
from torch import Tensor

from s3prl_vqpool import Embedder, cli, pooling
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.errors import Stopped
from s3prl_vqpool.runner import plugin
from s3prl_vqpool.store import layout, prefixes
from s3prl_vqpool.store.encode import kept_frames

LENGTHS = {"one": 15999, "two": 2500, "three": 20000}
NAMES = ["ivector_online.1.ark", "ivector_online.scp", "ivector_period"]


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of noise and a piece of silence, in two parts; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "SHARD_SECONDS", 2)
    generator = np.random.default_rng(0)
    (tmp_path / "speech").mkdir()
    for name, samples in LENGTHS.items():
        wav = 0.1 * generator.standard_normal(samples)
        wav[samples // 3 : samples // 2] = 0  # frames with equal codes
        soundfile.write(f"speech/{name}.wav", wav, 16000)
    return tmp_path


def argv(options: str, upstream: list[str]) -> list[str]:
    return ["embed", "speech", *upstream, "--device", "cpu", "--output", "out", *shlex.split(options)]


@pytest.fixture
def upstream(checkpoints: dict[str, Path]) -> list[str]:
    return ["-u", "wav2vec2_vq_local", "-k", str(checkpoints["base"])]


def matrices() -> dict[str, np.ndarray]:
    return dict(kaldiio.load_scp("out/ivector_online.scp").items())


def beginnings(path: str, upstream: list[str], name: str, every: int, layer: int | None) -> Tensor:
    """[rows, E]: a loop over the beginnings of one utterance, each pooled alone."""
    with torch.no_grad():
        model = plugin.upstreams()[upstream[1]](ckpt=upstream[3] if upstream[2:] else None).eval()
        wav = torch.from_numpy(audio.read(path))
        found = model([wav])
    length = int(found["code_lengths"][0])
    codes = found["codes"][:, :length]
    method = pooling.method(name)
    if method.all_frames:
        length = min(length, int(kept_frames([len(wav)], model.get_downsample_rates("hidden_states"))))
    states = [state[:, : codes.size(1)] for state in found["hidden_states"]]
    states = [sum(states) / len(states)] if layer is None else [states[layer]]
    rows = []
    for end in [*range(every, codes.size(1), every), codes.size(1)]:
        kept = min(end, length)
        module = pooling.build(name, states[0].size(2))
        rows.append(module(states[0][:, :kept], torch.tensor([kept]), codes[:, :kept])[0])
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("VQ-LP", None),
        ("VQ-LP", 1),
        ("VQ-Squash-AND", None),
        ("VQ-AllSquash-OR", None),
        ("AP", None),
        ("mean", None),
        ("VQ-LP+std", None),
        ("SP", 2),
    ],
)
def test_each_row_is_the_vector_of_a_beginning(
    name: str, layer: int | None, speech: Path, upstream: list[str]
) -> None:
    options = f"--pooling {name} --ivector-period 10" + ("" if layer is None else f" --layer {layer}")
    assert cli.main(argv(options, upstream)) == 0
    found = matrices()
    assert list(found) == sorted(LENGTHS)
    for key, rows in found.items():
        expected = beginnings(f"speech/{key}.wav", upstream, name, 5, layer)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected, atol=2e-5, rtol=2e-5)
    embed = Embedder(upstream[1], ckpt=upstream[3], pooling=name, layer=layer, device="cpu")
    whole = embed([f"speech/{key}.wav" for key in found])
    np.testing.assert_allclose([rows[-1] for rows in found.values()], whole, atol=2e-5, rtol=2e-5)


def test_the_folder_is_kaldis(speech: Path, upstream: list[str]) -> None:
    assert cli.main(argv("--ivector-period 20", upstream)) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == NAMES
    assert Path("out/ivector_period").read_text() == "20\n"
    for line in Path("out/ivector_online.scp").read_text().splitlines():
        assert line.split()[1].startswith(f"{speech}/out/ivector_online.1.ark:")
    for key, rows in matrices().items():
        features = (LENGTHS[key] - 400) // 160 + 1  # frames of Kaldi's MFCC
        assert abs(features - 20 * len(rows)) < 20


def test_ten_milliseconds_an_upstreams_frame(speech: Path) -> None:
    assert cli.main(argv("--ivector-period 7 --pooling AP", ["-u", "fbank_vq"])) == 0
    for key, rows in matrices().items():
        expected = beginnings(f"speech/{key}.wav", ["-u", "fbank_vq"], "AP", 7, None)
        np.testing.assert_allclose(rows, expected, atol=2e-5, rtol=2e-5)


def test_beginnings_that_are_pooled_in_turns_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(23, 4, generator=generator) for _ in range(2)]
    codes = torch.randint(0, 3, (23, 2), generator=generator)
    given = "VQ-AllSquash-AND", {}, layers, codes, 2, 23 * 320, 320
    at_once = prefixes.pooled(*given)
    monkeypatch.setattr(prefixes, "_AT_ONCE", 200)
    torch.testing.assert_close(prefixes.pooled(*given), at_once)
    assert at_once.shape == (12, 2, 4)


def test_a_map_of_training_is_obeyed(speech: Path, upstream: list[str], tmp_path: Path) -> None:
    model = plugin.upstreams()[upstream[1]](ckpt=upstream[3])
    dim = Embedder(upstream[1], ckpt=upstream[3], device="cpu")("speech/two.wav").size(1)
    fitted = pooling.LinearMap("VQ-LP|standardise", torch.arange(dim) / 10, torch.arange(1, dim + 1) / 5)
    identity = {**model.identity(), "selection": "hidden_states", "layer": None, "normalize": False}
    fitted.save(tmp_path / "map.safetensors", identity)
    mapped = "--pooling 'VQ-LP|standardise' --statistics map.safetensors"
    for options, read in (
        (
            "--ivector-period 10 --output {}",
            lambda name: kaldiio.load_scp(f"{name}/ivector_online.scp")["one"],
        ),
        ("--output {}.npz", lambda name: np.load(f"{name}.npz")["vectors"]),
    ):
        assert cli.main(argv(options.format("plain"), upstream)) == 0
        assert cli.main(argv(f"{mapped} {options.format('mapped')}", upstream)) == 0
        expected = fitted(torch.from_numpy(read("plain").copy()))
        np.testing.assert_allclose(read("mapped"), expected, atol=1e-5, rtol=1e-5)


def test_counts_of_training_are_obeyed(speech: Path, upstream: list[str], tmp_path: Path) -> None:
    from s3prl_vqpool.runner import statistics

    model = plugin.upstreams()[upstream[1]](ckpt=upstream[3]).eval()
    found = model([torch.from_numpy(audio.read("speech/one.wav"))])
    counts = pooling.counts(found["codes"], found["code_lengths"], model.codebook_sizes)
    counts.save(tmp_path / "counts.safetensors", dict(model.identity()))
    assert statistics.load(pooling.method("VQ-GP"), tmp_path / "counts.safetensors", dict(model.identity()))
    options = "--pooling VQ-GP --statistics counts.safetensors --ivector-period 10"
    assert cli.main(argv(options, upstream)) == 0
    rows = matrices()["one"]
    states = sum(found["hidden_states"]) / len(found["hidden_states"])
    ends = [*range(5, states.size(1), 5), states.size(1)]
    assert len(rows) == len(ends)
    for row, end in zip(rows, ends):
        weights = pooling.weights("VQ-GP", found["codes"][:, :end], torch.tensor([end]), counts=counts)
        expected = pooling.pool(states[:, :end], weights)[0].detach()
        np.testing.assert_allclose(row, expected, atol=2e-5, rtol=2e-5)


def test_a_stopped_run_continues_to_the_same_bytes(
    speech: Path, upstream: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(argv("--ivector-period 10", upstream)) == 0
    expected = tree(Path("out"))
    for name in NAMES:
        Path("out", name).unlink()
    batch, calls = Embedder.batch, []

    def stopping(self: Embedder, names: Any, *more: Any) -> Any:
        calls.append(list(names))
        if len(calls) == 2:
            raise Stopped(15)
        return batch(self, names, *more)

    monkeypatch.setattr(Embedder, "batch", stopping)
    assert cli.main(argv("--ivector-period 10", upstream)) == 128 + 15
    assert [path.name for path in Path("out").iterdir()] == ["ivector_online.1.ark.parts"]
    assert cli.main(argv("--ivector-period 20", upstream)) == 2  # parts of another period
    assert cli.main(argv("--ivector-period 10", upstream)) == 0
    assert calls[2] == calls[1]
    assert tree(Path("out")) == expected


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            "--ivector-period 5",
            "--ivector-period 5: counts frames of 10 ms, and a frame of this upstream has 20 ms",
        ),
        ("--ivector-period 0", "--ivector-period 0: counts frames of 10 ms"),
        ("--ivector-period 10 --pooling SAP", "SAP: is learned with a head"),
        ("--ivector-period 10 --output v.ark", "v.ark: with --ivector-period a folder is written: name one."),
        ("--ivector-period 10 --output full", "full/ivector_period: is there already"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    options: str, problem: str, speech: Path, upstream: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").mkdir()
    Path("full/ivector_period").write_text("10\n")
    before = sorted(speech.rglob("*"))
    assert cli.main(argv(options, upstream)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith(f"error: {problem}")
    assert sorted(speech.rglob("*")) == before


def test_beginnings_are_pooled_sixteen_million_numbers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def weights(
        name: str, options: dict, indices: torch.Tensor, lengths: torch.Tensor, *_: object
    ) -> torch.Tensor:
        asked.append(lengths.tolist())
        return torch.zeros(indices.shape[:2])

    monkeypatch.setattr(prefixes, "weights_of", weights)
    monkeypatch.setattr(prefixes, "moments", lambda _, frames, weights: torch.zeros(len(frames), 3))
    codes = torch.zeros(8, 1, dtype=torch.int64)
    for size, calls in ((2**18, [8]), (2**18 + 1, [7, 1]), (2**20, [2, 2, 2, 2]), (2**22, [1] * 8)):
        asked.clear()
        layer = torch.empty(1).expand(8, size)
        assert prefixes.pooled("AP", {}, [layer], codes, 1, 999, 320).shape == (8, 1, 3)
        assert [len(each) for each in asked] == calls
        assert [length for each in asked for length in each] == list(range(1, 9))
    assert [prefixes.ends(frames, 3) for frames in (1, 3, 4, 7)] == [[1], [3], [3, 4], [3, 6, 7]]
