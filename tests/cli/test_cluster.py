"""`vqpool cluster`: from stores and from files of vectors, its outputs, and bad input in one line."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3prl_vqpool.cli import main
from s3prl_vqpool.cli.cluster import _duration
from s3prl_vqpool.store import Store
from s3prl_vqpool.store import vectors as written

IDS = [f"s{k % 3}-u{k:02}" for k in range(30)]
VECTORS = (np.eye(3, 4)[np.arange(30) % 3] + 0.01 * np.random.default_rng(0).standard_normal((30, 4))).astype(
    np.float32
)


def write(path: Path, ids: list[str] = IDS, vectors: np.ndarray = VECTORS) -> Path:
    written.write(path, ids, vectors)
    return path


def argv(path: Path, *more: str) -> list[str]:
    given = ["cluster", "--vectors", str(path), "--output", str(path.parent / "out" / "utt2spk"), *more]
    return given if "--method" in more else [*given, "--method", "kmeans", "--clusters", "3"]


def utt2spk(folder: Path) -> Path:
    path = folder / "reference"
    path.write_text("".join(f"{name} {name[:2]}\n" for name in [*IDS, "s9-more"]))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".ark", ".scp"])
@pytest.mark.parametrize("method", ["kmeans --clusters 3", "agglomerative --clusters 3", "hdbscan"])
def test_speakers_are_found_from_every_kind_of_file(
    suffix: str, method: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = write(tmp_path / f"v{suffix.replace('scp', 'ark')}").with_suffix(suffix)
    assert main(argv(path, "--utt2spk", str(utt2spk(tmp_path)), "--prefix", "--method", *method.split())) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["30 utterances: 3 clusters", "3 classes in the reference"]
    assert out[2:-1] == [f"{name:<10}1.0000" for name in ("ARI", "NMI", "V-measure", "purity", "coverage")]
    told = json.loads((tmp_path / "out" / "utt2spk.json").read_text())
    assert set(told["scores"].values()) == {1.0}
    assert told["settings"]["method"] == method.split()[0]
    lines = (tmp_path / "out" / "utt2spk").read_text().splitlines()
    assert lines == sorted(f"cluster-{1 + k % 3}-{name} cluster-{1 + k % 3}" for k, name in enumerate(IDS))
    members = (tmp_path / "out" / "spk2utt").read_text().splitlines()
    assert members[1].split() == ["cluster-2", *(f"cluster-2-{name}" for name in IDS[1::3])]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "v.npz", vectors=np.random.default_rng(1).standard_normal((30, 4)))
    found = []
    for seed in ("0", "0", "1"):
        more = ["--seed", seed, "--whiten", "--pca", "3", "--overwrite", "--utt2spk", str(utt2spk(tmp_path))]
        assert main(argv(path, *more)) == 0
        found.append(
            [hashlib.sha256(each.read_bytes()).digest() for each in sorted((tmp_path / "out").iterdir())]
        )
    assert len(found[0]) == 3
    assert found[0] == found[1]
    assert found[0][2] != found[2][2]


def test_nothing_is_replaced_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path / "v.npz")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "spk2utt").write_text("mine")
    assert main(argv(path)) == 2
    assert "out/spk2utt: is there already" in capsys.readouterr().err
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["spk2utt"]
    assert main(argv(path, "--overwrite")) == 0


@pytest.fixture(scope="module")
def stored(synthetic: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    found = {}
    for task in ("sid", "er"):
        datarc = {**synthetic[task], "num_workers": 0}
        override = ",,".join(f"config.downstream_expert.datarc.{k}={v}" for k, v in datarc.items())
        found[task] = folder / task
        words = [
            "extract",
            "-u",
            "mfcc_vq",
            "-d",
            f"vqpool_{task}",
            "--store",
            str(found[task]),
            "-o",
            override,
        ]
        assert main([*words, "--frames", "--poolings", "VQ-LP"]) == 0
    return found


def test_a_store_by_labels_and_by_speakers(
    stored: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = ["--method", "agglomerative", "--clusters", "2", "--overwrite"]
    out = tmp_path / "utt2spk"
    words = [
        "cluster",
        "--store",
        str(stored["sid"]),
        "--pooling",
        "VQ-SIF+std|standardise",
        "--split",
        "all",
    ]
    assert main([*words, "--option", "a=1e-2", "--reference", "labels", "--output", str(out), *given]) == 0
    store = Store.open(stored["sid"])
    clustered = {line.split()[0] for line in out.read_text().splitlines()}
    assert clustered == {row.id for row in store.utterances}
    told = json.loads((tmp_path / "utt2spk.json").read_text())
    assert told["classes"] == len({row.label for row in store.utterances})
    assert (told["pooling"], told["split"], told["option"]) == ("VQ-SIF+std|standardise", "all", ["a=1e-2"])
    words = ["cluster", "--store", str(stored["er"]), "--reference", "speakers", "--output", str(out), *given]
    assert main(words) == 0
    assert json.loads((tmp_path / "utt2spk.json").read_text())["classes"] == 2  # of one session
    capsys.readouterr()
    words[2] = str(stored["sid"])
    assert main(words) == 2
    assert "the corpus does not say who speaks in" in capsys.readouterr().err
    assert main([*words[:3], "--pooling", "AP*", "--output", str(out), *given]) == 2
    assert "--pooling AP*: means" in capsys.readouterr().err


def swapped(name: str, value: Any) -> np.ndarray:
    found = VECTORS.copy()
    found[IDS.index(name), 1] = value
    return found


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def array(content: np.ndarray, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, content, **kwargs)
    return file.getvalue()


def large() -> bytes:
    """An array that claims 10^12 rows."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)})
    return file.getvalue() + bytes(480)


Make = Callable[[Path], Path]
BAD: dict[str, tuple[Make, str]] = {
    "ids twice": (lambda d: write(d / "v.npz", [*IDS[:-1], IDS[0]]), "v.npz: the id 's0-u00' comes twice"),
    "ids with spaces": (lambda d: write(d / "v.npz", [*IDS[:-1], "a b"]), "v.npz: the id 'a b' is no word"),
    "fewer ids": (lambda d: write(d / "v.npy", IDS[:-1]), "v.npy: has 30 vectors, but 29 ids"),
    "nan": (
        lambda d: write(d / "v.npz", IDS, swapped("s1-u04", np.nan)),
        "the vector of s1-u04 is not finite",
    ),
    "inf": (
        lambda d: write(d / "v.parquet", IDS, swapped("s1-u04", np.inf)),
        "the vector of s1-u04 is not finite",
    ),
    "integers": (lambda d: write(d / "v.npz", IDS, VECTORS.astype(int)), "expected vectors of floats [N, D]"),
    "one row": (lambda d: write(d / "v.npz", IDS, VECTORS[0]), "expected vectors of floats [N, D]"),
    "no vectors": (lambda d: write(d / "v.npy", [], VECTORS[:0]), "expected vectors of floats [N, D]"),
    "no file": (lambda d: d / "v.npz", "v.npz: no such file"),
    "other format": (lambda d: utt2spk(d).rename(d / "v.csv"), "v.csv: not a file of vectors"),
    "no ids": (lambda d: archive(d / "v.npz", vectors=array(VECTORS)), "has no array 'ids', only vectors"),
    "ids no text": (
        lambda d: archive(d / "v.npz", ids=array(np.arange(30)), vectors=array(VECTORS)),
        "expected ids as text",
    ),
    "a pickle": (
        lambda d: archive(d / "v.npz", ids=array(np.array(IDS, object), allow_pickle=True), vectors=b""),
        "v.npz: damaged, or no vectors in it",
    ),
    "a size that is not there": (
        lambda d: archive(d / "v.npz", ids=array(np.array(IDS)), vectors=large()),
        "claims 16,000,000,000,128 bytes, but has 608",
    ),
    "cut": (lambda d: cut(write(d / "v.npz")), "v.npz: damaged"),
    "cut npy": (lambda d: cut(write(d / "v.npy")), "v.npy: damaged"),
    "cut ark": (lambda d: cut(write(d / "v.ark")), "v.ark: is cut, or damaged: the vector of 's"),
    "ids twice in an ark": (
        lambda d: write(d / "v.ark", [*IDS[:-1], IDS[0]]),
        "v.ark: the key 's0-u00' comes twice",
    ),
    "nan in an ark": (
        lambda d: write(d / "v.ark", IDS, swapped("s1-u04", np.nan)),
        "v.ark: the vector of s1-u04 is not finite",
    ),
    "cut parquet": (lambda d: cut(write(d / "v.parquet")), "v.parquet: damaged"),
}


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_bad_vectors_are_one_line(
    make: Make, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(argv(make(tmp_path))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--method kmeans --clusters 31", "--clusters 31: expected 1 to 30"),
        ("--method kmeans", "give the number of clusters"),
        ("--method hdbscan --clusters 3", "finds the number itself"),
        ("--pooling AP", "--pooling: is of a store"),
        ("--split dev", "--split: is of a store"),
        ("--option a=1", "--option: is of a store"),
        ("--reference labels", "--reference: is of a store"),
        ("--seed -1", "--seed -1: expected"),
        ("--output {0}/out/clusters", "clusters: name a file such as utt2spk"),
        ("--utt2spk {0}/nowhere", "nowhere: no such file"),
        ("--utt2spk {0}/short", "short: has no line for 's2-u29', and for 1 of 30"),
        ("--utt2spk {0}/twice", "twice, line 31: 's0-u00' is in line 1 already"),
        ("--utt2spk {0}/half", "half, line 3: Expected 'UTTERANCE SPEAKER'"),
    ],
)
def test_other_mistakes_are_one_line(
    more: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [f"{name} {name[:2]}" for name in IDS]
    for name, content in {
        "short": lines[:-1],
        "twice": [*lines, lines[0]],
        "half": [*lines[:2], IDS[2]],
    }.items():
        (tmp_path / name).write_text("\n".join(content))
    assert main(argv(write(tmp_path / "v.npz"), *more.format(tmp_path).split())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()


def test_hdbscan_of_many_says_how_long(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3prl_vqpool.tables.clustering import methods

    path = write(tmp_path / "v.npz")
    assert main(argv(path, "--method", "hdbscan")) == 0
    assert not capsys.readouterr().err
    monkeypatch.setattr(methods, "SECONDS_OF_100_000", 7300 * (100_000 / 30) ** 2 * 64 / 4)
    assert main(argv(path, "--method", "hdbscan", "--overwrite")) == 0
    assert (
        "all 30 vectors with each other, which takes about 2 hours; --method kmeans"
        in capsys.readouterr().err
    )
    assert main(argv(path, "--method", "hdbscan", "--overwrite", "--pca", "2")) == 0
    assert "which takes about 61 minutes; " in capsys.readouterr().err, "half as many numbers"
    assert main(argv(path, "--overwrite")) == 0
    assert not capsys.readouterr().err
    assert [_duration(each) for each in (25, 600, 2e5)] == ["25 seconds", "10 minutes", "2 days"]
