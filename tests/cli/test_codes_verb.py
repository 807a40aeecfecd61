"""`vqpool codes`: what it prints and stores is what the upstream gives, with its times."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import LARGE, converted_checkpoint, waves

from s3prl_vqpool import cli
from s3prl_vqpool.corpora import audio
from s3prl_vqpool.runner import plugin


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = []
    for i, samples in enumerate((16000, 7600)):
        names.append(str(tmp_path / f"{i}.wav"))
        wav = torch.cat(
            [waves(samples // 2, seed=i)[0], torch.zeros(samples - samples // 2)]
        )  # ends in silence
        soundfile.write(names[-1], wav.numpy(), 16000)
    return names


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return str(converted_checkpoint(tmp_path / "tiny.pt", LARGE))


def codes_of(checkpoint: str, file: str) -> list[tuple[int, ...]]:
    upstream = plugin.upstreams()["wav2vec2_vq_local"](ckpt=checkpoint).eval()
    with torch.no_grad():
        found = upstream([torch.from_numpy(audio.read(file))])["codes"][0]
    return [tuple(frame) for frame in found.tolist()]


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[dict]:
    assert cli.main(["codes", *argv]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_codes_prints_a_line_per_file(
    files: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = printed(capsys, *files, "-u", "wav2vec2_vq_local", "-k", checkpoint)
    assert [entry["file"] for entry in entries] == files
    for entry in entries:
        assert entry["sizes"] == [20, 20]
        assert [tuple(frame) for frame in entry["codes"]] == codes_of(checkpoint, entry["file"])
        assert entry["start"] == [pytest.approx(0.02 * t) for t in range(len(entry["codes"]))]
        assert entry["end"] == [pytest.approx(0.02 * (t + 1)) for t in range(len(entry["codes"]))]


def test_collapse_joins_runs_and_keeps_their_times(
    files: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for entry in printed(capsys, *files, "-u", "wav2vec2_vq_local", "-k", checkpoint, "--collapse"):
        runs = [
            (code, len(list(group))) for code, group in itertools.groupby(codes_of(checkpoint, entry["file"]))
        ]
        ends = list(itertools.accumulate(length for _, length in runs))
        assert [tuple(code) for code in entry["codes"]] == [code for code, _ in runs]
        assert entry["end"] == [pytest.approx(0.02 * end) for end in ends]
        assert entry["start"] == [pytest.approx(0.02 * start) for start in [0, *ends[:-1]]]
        assert max(length for _, length in runs) > 3  # the silence


def test_formats_hold_the_same(
    tmp_path: Path, files: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*files, "-u", "wav2vec2_vq_local", "-k", checkpoint, "--collapse"]
    entries = printed(capsys, *argv)
    for suffix in ("jsonl", "npz"):
        assert printed(capsys, *argv, "--output", str(tmp_path / f"units.{suffix}")) == []
    assert [json.loads(line) for line in (tmp_path / "units.jsonl").read_text().splitlines()] == entries
    with np.load(tmp_path / "units.npz") as arrays:
        assert len(arrays.files) == 3 * len(files)
        for entry in entries:
            for key in ("codes", "start", "end"):
                np.testing.assert_array_equal(arrays[f"{entry['file']}.{key}"], entry[key])
    assert not list(tmp_path.glob("*.part"))


def test_kaldi_archive_holds_the_same(
    tmp_path: Path, files: list[str], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kaldiio = pytest.importorskip("kaldiio", reason="kaldiio is not installed")
    argv = [*files, "-u", "wav2vec2_vq_local", "-k", checkpoint]
    entries = printed(capsys, *argv)
    assert printed(capsys, *argv, "--output", str(tmp_path / "units.ark")) == []
    stored = dict(kaldiio.load_ark(str(tmp_path / "units.ark")))
    listed = kaldiio.load_scp(str(tmp_path / "units.scp"))
    assert list(listed) == files
    for file in files:
        np.testing.assert_array_equal(listed[file], stored[file])
    assert list(stored) == files
    for entry in entries:
        matrix = stored[entry["file"]]
        np.testing.assert_array_equal(matrix[:, 2:], entry["codes"])
        np.testing.assert_allclose(matrix[:, :2].T, [entry["start"], entry["end"]], atol=1e-6)


def test_codes_of_shipped_codebooks_need_nothing(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = printed(capsys, files[0], files[0], "-u", "fbank_vq")
    assert entry["sizes"] == [32, 32, 32]
    assert entry["end"][-1] == pytest.approx(0.01 * ((16000 - 400) // 160 + 1))


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["none.wav", "-u", "mfcc_vq"], "none.wav"),
        (["FILE", "-u", "mfc_vq"], "Unknown upstream with codes 'mfc_vq'. Did you mean mfcc_vq"),
        (["FILE", "-u", "mfcc_vq", "--output", "units.txt"], "name a .jsonl, .npz, .ark file"),
        (["FILE", "-u", "mfcc_vq", "--output", "none/units.npz"], "in a folder that exists"),
        (
            ["SHORT", "-u", "mfcc_vq", "--output", "units.npz"],
            "short.wav: Utterance 0 of the batch has 500 samples",
        ),
        (["FILE", "-u", "wav2vec2_vq_local"], "needs a checkpoint"),
        (["FILE", "-u", "kmeans_vq"], "needs codebooks: -g codebook.yaml"),
        (["FILE", "-u", "mfcc_vq", "--device", "abacus"], "--device abacus: torch knows no such device."),
        (["FILE", "-u", "mfcc_vq", "--device", "cuda:99"], "cuda:99: expected cpu, or cuda where torch sees"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], capsys: pytest.CaptureFixture[str],
    argv: list[str], problem: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    soundfile.write("short.wav", waves(500)[0].numpy(), 16000)
    before = set(tmp_path.iterdir())
    assert (
        cli.main(["codes", *({"FILE": files[0], "SHORT": "short.wav"}.get(part, part) for part in argv)]) == 2
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert problem in err
    assert len(err.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before
