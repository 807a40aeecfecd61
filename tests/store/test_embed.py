"""`vqpool embed`: every format against a loop of one by one, kills, and what is refused before work."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pandas as pd
import pytest
import soundfile
from stores import tree

from s3prl_vqpool import Embedder, cli
from s3prl_vqpool.errors import Stopped
from s3prl_vqpool.store import layout

LENGTHS = {"b/one": 15999, "a/two": 2500, "a/three": 20000, "c": 7600, "d": 16000}


@pytest.fixture
def speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five files of noise; the working directory. Parts hold a second or two of speech."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layout, "SHARD_SECONDS", 2)
    generator = np.random.default_rng(0)
    for name, samples in LENGTHS.items():
        path = tmp_path / "speech" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(samples), 16000)
    return tmp_path


@pytest.fixture
def argv(checkpoints: dict[str, Path]) -> list[str]:
    """`vqpool embed` with a tiny wav2vec 2.0."""
    return ["embed", "speech", "-u", "wav2vec2_vq_local", "-k", str(checkpoints["base"]), "--device", "cpu"]


def one_by_one(checkpoint: Path, **options: Any) -> tuple[list[str], np.ndarray]:
    embed = Embedder("wav2vec2_vq_local", ckpt=str(checkpoint), device="cpu", **options)
    ids = sorted(LENGTHS, key=lambda name: Path(f"{name}.wav"))
    return ids, np.concatenate([embed(f"speech/{name}.wav").numpy() for name in ids])


def loaded(path: Path) -> tuple[list[str], np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["ids"].tolist(), arrays["vectors"]
    if path.suffix == ".npy":
        return path.with_suffix(".ids.txt").read_text().splitlines(), np.load(path)
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        return frame["id"].tolist(), np.stack(frame["vector"])
    stored = kaldiio.load_scp(str(path.with_suffix(".scp")))
    again = dict(kaldiio.load_ark(str(path)))
    assert list(again) == list(stored)
    for key, vector in again.items():
        np.testing.assert_array_equal(stored[key], vector)
    return list(stored), np.stack(list(stored.values()))


@pytest.mark.parametrize("suffix", ["npz", "npy", "parquet", "ark"])
def test_every_format_holds_the_vectors_of_a_loop(
    suffix: str, speech: Path, argv: list[str], checkpoints: dict[str, Path]
) -> None:
    assert cli.main([*argv, "--output", f"v.{suffix}"]) == 0
    ids, vectors = loaded(Path(f"v.{suffix}"))
    expected_ids, expected = one_by_one(checkpoints["base"])
    assert ids == expected_ids
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=1e-5)
    beside = {"npy": ["v.ids.txt"], "ark": ["v.scp"]}.get(suffix, [])
    assert sorted(path.name for path in speech.iterdir()) == sorted(["speech", f"v.{suffix}", *beside])


def test_options_are_obeyed(speech: Path, argv: list[str], checkpoints: dict[str, Path]) -> None:
    assert cli.main([*argv, "--pooling", "AP+std", "--layer", "1", "--output", "v.npz"]) == 0
    _, expected = one_by_one(checkpoints["base"], pooling="AP+std", layer=1)
    np.testing.assert_allclose(loaded(Path("v.npz"))[1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("suffix", ["npz", "npy", "parquet", "ark"])
def test_a_stopped_run_continues_to_the_same_bytes(
    suffix: str, speech: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--output", f"v.{suffix}"]
    assert cli.main([*argv, *out]) == 0
    files = [path for path in speech.iterdir() if path.is_file()]
    whole = {path.name: path.read_bytes() for path in files}
    for path in files:
        path.unlink()
    batch, calls = Embedder.batch, []

    def stopping(self: Embedder, names: Any, *more: Any) -> Any:
        calls.append(list(names))
        if len(calls) == 2:
            raise Stopped(15)
        return batch(self, names, *more)

    monkeypatch.setattr(Embedder, "batch", stopping)
    assert cli.main([*argv, *out]) == 128 + 15
    assert not [path for path in speech.iterdir() if path.is_file()]
    assert sorted(tree(speech / f"v.{suffix}.parts")) == ["manifest.json", "part-00000.safetensors"]
    assert cli.main([*argv, *out]) == 0
    assert calls[2] == calls[1]  # the first part is not computed again
    assert {path.name: path.read_bytes() for path in speech.iterdir() if path.is_file()} == whole
    assert not Path(f"v.{suffix}.parts").exists()


def test_parts_of_other_options_or_audio_are_refused(
    speech: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s3prl_vqpool.store import embed

    with monkeypatch.context() as patch:
        patch.setattr(embed, "remove_parts", lambda work: None)
        assert cli.main([*argv, "--output", "v.npz"]) == 0
    again = [*argv, "--output", "v.npz", "--overwrite"]
    assert cli.main([*again, "--pooling", "AP"]) == 2
    said = (
        "error: v.npz.parts: was begun with another pooling: give the same options and audio to continue, or "
    )
    assert capsys.readouterr().err.splitlines()[-1] == f"{said}remove it."
    soundfile.write("speech/c.wav", np.zeros(2501), 16000)
    assert cli.main(again) == 2
    assert "was begun with another audio" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--output v.txt", "v.txt: name a .npy, .npz, .parquet, .ark file."),
        ("--output none/v.npz", "none/v.npz: name a file in a folder that exists."),
        ("--output v.npz --pooling VQ-PL", "Unknown pooling 'VQ-PL'. Did you mean VQ-LP"),
        ("--output v.npz --pooling SAP", "SAP: is learned with a head"),
        ("--output v.npz --pooling VQ-GP", "VQ-GP: needs training statistics"),
        ("--output v.npz --option a=1", "Unknown option of pooling VQ-LP: 'a'."),
        ("--output v.npz --option a", "--option a: expected NAME=VALUE"),
        ("--output v.npz --layer 9", "layer 9: this upstream's hidden states are 0 to 3."),
        ("spaced --output v.ark", "'a b': Kaldi's archives cannot hold ids with spaces"),
        ("broken --output v.npz", "broken/x.wav: not audio"),
        ("short --output v.npz", "short/x.wav: 300 samples are too short for"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    options: str, problem: str, speech: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, name, samples in (("spaced", "a b", 16000), ("short", "x", 300), ("broken", "y", 16000)):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/{name}.wav", np.zeros(samples), 16000)
    Path("broken/x.wav").write_text("text")
    before = sorted(path.name for path in speech.iterdir())
    assert cli.main([*argv[:2], *shlex.split(options), *argv[2:]]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith(f"error: {problem}")
    assert sorted(path.name for path in speech.iterdir()) == before
