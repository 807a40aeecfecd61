"""`vqpool benchmark nearest` on stores of synthesised speech."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from fakes import extract

from s3prl_vqpool.cli.main import main
from s3prl_vqpool.tables.table1 import unsupervised

pytest.importorskip("rich")


@pytest.fixture(scope="module")
def stored(synthetic: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of stores: ks with frames, er with vectors only."""
    options = {"ks": ["--frames", "--poolings", "VQ-LP"], "er": ["--poolings", "mean", "AP", "VQ-LP"]}
    return extract(tmp_path_factory.mktemp("stores"), synthetic, options)


def test_all_poolings_of_a_store_with_frames(
    stored: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = [
        "benchmark",
        "nearest",
        "--store",
        stored["ks"],
        "--reference",
        "paper",
        "--output",
        str(tmp_path / "new"),
    ]
    assert main(argv) == 0
    printed = capsys.readouterr()
    assert "VQ-AllSquash-OR" in printed.out
    assert "paper: XLS-R" in printed.out
    assert not printed.err  # no progress bar where there is no terminal
    rows = list(csv.DictReader((tmp_path / "new" / "nearest.csv").open()))
    assert [row["pooling"] for row in rows if row["source"] == "mfcc_vq"] == unsupervised()
    assert [row["KS"] for row in rows if row["source"] == "paper: base"][:2] == ["58.44", "68.43"]
    content = json.loads((tmp_path / "new" / "nearest.json").read_text())
    (sif,) = content["scores"]["VQ-SIF"]["KS"]
    best = max(sif["candidates"], key=lambda each: each["dev"])
    assert sif["options"] == best["options"]
    assert set(best["options"]) == {"a"}
    assert content["stores"]["KS"]["fingerprint"]


def test_stores_without_frames_give_what_vectors_allow(
    stored: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = [
        "benchmark",
        "nearest",
        "--store",
        stored["er"],
        stored["ks"],
        "--layers",
        "--output",
        str(tmp_path),
    ]
    assert main(argv) == 0
    assert "left out" in capsys.readouterr().err
    content = json.loads((tmp_path / "nearest.json").read_text())
    assert list(content["scores"]) == ["mean", "AP", "Whitening", "SoftDecay", "VQ-LP"]
    assert [score["fold"] for score in content["scores"]["AP"]["ER"]] == [f"fold{k}" for k in range(1, 6)]
    mean_row, layer_row = [r for r in content["rows"] if r["pooling"] == "VQ-LP"]
    assert (mean_row["layer"], layer_row["layer"]) == (None, 0)
    assert layer_row["accuracy"] == pytest.approx(mean_row["accuracy"])  # mfcc has one layer
    tables = {path: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    assert main([*argv[:3], stored["ks"], "--output", str(tmp_path)]) == 2
    assert "nearest.csv: is there already: name another, or give --overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == tables
    assert main([*argv, "--poolings", "AP"]) == 2
    assert "--layers" in capsys.readouterr().err


def test_points_by_pattern_with_an_option(
    stored: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("sklearn.covariance")
    argv = ["benchmark", "nearest", "--store", stored["ks"], "--poolings", "AP"]
    argv += ["vq-?p+std|*", "VQ-SIF+std"]
    assert main([*argv, "--option", "shrinkage=ledoit-wolf", "a=0.1", "--output", str(tmp_path)]) == 0
    maps = ("standardise", "whitening", "softdecay")
    expected = ["AP", *(f"VQ-{w}P+std|{m}" for w in "LGB" for m in maps), "VQ-SIF+std"]
    content = json.loads((tmp_path / "nearest.json").read_text())
    scores = {name: by_task["KS"][0] for name, by_task in content["scores"].items()}
    assert list(scores) == expected
    assert scores["VQ-LP+std|whitening"]["options"] == {"shrinkage": "ledoit-wolf"}
    assert scores["VQ-SIF+std"]["options"] == {"a": 0.1}
    assert scores["VQ-SIF+std"]["candidates"] == []
    assert "VQ-SIF+std, KS: a = 0.1, as given" in content["notes"]
    assert main([*argv, "--output", str(tmp_path / "plain")]) == 0
    plain = json.loads((tmp_path / "plain" / "nearest.json").read_text())["scores"]
    assert plain["VQ-SIF+std"]["KS"][0]["candidates"]
    changed = [n for n in expected if plain[n]["KS"][0]["accuracy"] != scores[n]["accuracy"]]
    assert set(changed) <= {name for name in expected if "whitening" in name or "SIF" in name}


def test_mistakes_are_one_line(stored: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    for more, message in (
        (["--output", str(tmp_path / "file")], "file: File exists: name another place."),
        (["--output", str(tmp_path / "file" / "sub")], "Not a directory: check the path."),
        (["--output", str(tmp_path), "--poolings", "SAP"], "is learned"),
        (["--output", str(tmp_path), "--poolings", "SP"], "no frames for SP"),
        (["--output", str(tmp_path), "--poolings", "AP", "--option", "a=1"], "none of AP takes it"),
        (
            ["--output", str(tmp_path), "--poolings", "AP|whitening", "--option", "shrinkage=x"],
            "--option shrinkage: expected none or ledoit-wolf, but got 'x'",
        ),
    ):
        assert main(["benchmark", "nearest", "--store", stored["er"], *more]) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.err.splitlines()[-1].startswith("error: ")
        assert not printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_stores_without_a_pooling_in_common_have_nothing_to_compare(
    stored: dict[str, str],
    synthetic: dict[str, dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    other = extract(tmp_path / "stores", synthetic, {"ic": ["--poolings", "VQ-Squash-AND"]})["ic"]
    argv = ["benchmark", "nearest", "--store", stored["er"], other, "--output", str(tmp_path / "out")]
    assert main(argv) == 2
    assert "error: --store: these stores have no pooling in common" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_extract_says_which_rows_a_store_gives(
    synthetic: dict[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = extract(tmp_path / "stores", synthetic, {"ic": ["--poolings", "mean", "AP"]})["ic"]
    said = (
        f"gives 4 of the {len(unsupervised())} rows of vqpool benchmark nearest (mean AP Whitening SoftDecay)"
    )
    assert f"without --frames, this store {said}: add --frames for all of them" in capsys.readouterr().err
    assert main(["benchmark", "nearest", "--store", folder, "--output", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "nearest.csv").open()))
    assert [row["pooling"] for row in rows] == ["mean", "AP", "Whitening", "SoftDecay"]


def test_help_has_an_example(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "nearest", "--help"])
    assert ended.value.code == 0
    assert "vqpool benchmark nearest --store feats_ks" in capsys.readouterr().out
