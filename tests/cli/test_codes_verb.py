"""`vqpool codes`: what it prints and stores is what the upstream gives, with its times."""

import itertools
import json
import struct
from pathlib import Path

import kaldiio
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


def kaldi_integers(content: bytes) -> dict[str, list[int]]:
    """Key -> integers of an archive, as Kaldi's BasicVectorHolder<int32> reads it."""
    found, at = {}, 0
    while at < len(content):
        end = content.index(b" ", at)
        key, at = content[at:end].decode(), end + 1
        assert content[at : at + 3] == b"\0B\4"
        (count,) = struct.unpack("<i", content[at + 3 : at + 7])
        at += 7
        found[key] = [number for size, number in struct.iter_unpack("<bi", content[at : at + 5 * count])]
        assert content[at : at + 5 * count : 5] == b"\4" * count
        at += 5 * count
    return found


@pytest.mark.parametrize("collapse", [[], ["--collapse"]])
def test_kaldi_archive_has_the_joint_index_of_each_frame_or_run(
    tmp_path: Path,
    files: list[str],
    checkpoint: str,
    capsys: pytest.CaptureFixture[str],
    collapse: list[str],
) -> None:
    argv = [*files, "-u", "wav2vec2_vq_local", "-k", checkpoint, *collapse]
    assert printed(capsys, *argv, "--output", str(tmp_path / "units.ark")) == []
    expected = {}
    for file in files:
        codes = codes_of(checkpoint, file)
        kept = [code for code, _ in itertools.groupby(codes)] if collapse else codes
        expected[Path(file).stem] = [20 * i + j for i, j in kept]
    assert kaldi_integers((tmp_path / "units.ark").read_bytes()) == expected
    listed = kaldiio.load_scp(str(tmp_path / "units.scp"))
    assert list(listed) == list(expected)
    for key, indices in expected.items():
        assert listed[key].dtype == np.int32
        np.testing.assert_array_equal(listed[key], indices)
    pairs = np.stack(np.unravel_index(listed["0"], (20, 20)), axis=1)
    assert [tuple(pair) for pair in pairs.tolist()][:5] == codes_of(checkpoint, files[0])[:5]


def test_one_codebook_gives_its_codes(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "codebook.yaml"
    assert (
        cli.main(
            ["kmeans", str(tmp_path), "-u", "mfcc", "-l", "0", "--entries", "7", "--output", str(config)]
        )
        == 0
    )
    argv = [files[0], "-u", "kmeans_vq", "-g", str(config)]
    capsys.readouterr()
    (entry,) = printed(capsys, *argv)
    assert printed(capsys, *argv, "--output", str(tmp_path / "units.ark")) == []
    np.testing.assert_array_equal(
        kaldiio.load_scp(str(tmp_path / "units.scp"))["0"], [code for (code,) in entry["codes"]]
    )


def test_a_kaldi_data_directory_gives_the_codes_of_its_segments(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"r0 {files[0]}\n")
    (data / "segments").write_text("r0-a r0 0.1 0.6\nr0-b r0 0.3 0.9\n")
    entries = printed(capsys, str(data), "-u", "fbank_vq")
    wav = audio.read(files[0])
    upstream = plugin.upstreams()["fbank_vq"]().eval()
    expected = {
        name: upstream([torch.from_numpy(wav[start:end])])["codes"][0].tolist()
        for name, start, end in (("r0-a", 1600, 9600), ("r0-b", 4800, 14400))
    }
    assert {entry["id"]: entry["codes"] for entry in entries} == expected
    assert {entry["file"] for entry in entries} == {files[0]}
    for suffix in ("npz", "ark"):
        assert printed(capsys, str(data), "-u", "fbank_vq", "--output", str(tmp_path / f"u.{suffix}")) == []
    with np.load(tmp_path / "u.npz") as arrays:
        assert {name: arrays[f"{name}.codes"].tolist() for name in expected} == expected
    stored = kaldi_integers((tmp_path / "u.ark").read_bytes())
    assert stored == {name: [(32 * i + j) * 32 + k for i, j, k in codes] for name, codes in expected.items()}


def test_more_joint_indices_than_integers_are_refused(
    tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("s3prl_vqpool.cli.codes._MOST_INDICES", 32**3 - 1)
    argv = ["codes", files[0], "-u", "fbank_vq", "--output", str(tmp_path / "u.ark")]
    assert cli.main(argv) == 2
    assert "codebooks of 32 x 32 x 32 entries have more joint indices" in capsys.readouterr().err
    assert not list(tmp_path.glob("u.*"))
    monkeypatch.setattr("s3prl_vqpool.cli.codes._MOST_INDICES", 32**3)
    assert cli.main(argv) == 0


def test_codes_of_shipped_codebooks_need_nothing(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = printed(capsys, files[0], files[0], "-u", "fbank_vq")
    assert entry["sizes"] == [32, 32, 32]
    assert entry["end"][-1] == pytest.approx(0.01 * ((16000 - 400) // 160 + 1))


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["none.wav", "-u", "mfcc_vq"], "none.wav: no such file or folder"),
        (["FILE", "sub/0.wav", "-u", "mfcc_vq", "--output", "u.ark"], "0.wav: the id '0' is that of"),
        (["a b.wav", "-u", "mfcc_vq", "--output", "u.ark"], "Kaldi's archives cannot hold ids with spaces"),
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
    Path("sub").mkdir()
    for name in ("a b.wav", "sub/0.wav"):
        Path(name).write_bytes(Path(files[0]).read_bytes())
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
