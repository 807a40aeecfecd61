"""`vqpool benchmark supervised` on stores of synthesised speech."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import extract
from torch import Tensor

from s3prl_vqpool import pooling
from s3prl_vqpool.cli.main import main
from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.pooling.options import grid
from s3prl_vqpool.store import Store

pytest.importorskip("rich")

FOLD = "config.downstream_expert.datarc.test_fold"
STEPS = "config.runner.total_steps=20,,config.runner.eval_step=10"
Command = Callable[..., int]


@pytest.fixture(scope="module")
def stored(synthetic: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of stores: ic with frames, er with vectors only."""
    options = {"ic": ["--frames", "--poolings", "mean", "VQ-LP"], "er": ["--poolings", "mean", "VQ-LP"]}
    return extract(tmp_path_factory.mktemp("stores"), synthetic, options)


@pytest.fixture
def command(stored: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("ic", ..., more=[...])` with 5 epochs; the table goes to the test's folder."""
    for task in tasks.registered():
        short = replace(task, protocol=replace(task.protocol, epochs=5))
        monkeypatch.setitem(tasks._tasks, task.name, short)

    def command(*tasks: str, more: list[str]) -> int:
        folders = [stored[task] for task in tasks]
        return main(["benchmark", "supervised", "--store", *folders, "--output", str(tmp_path), *more])

    return command


def content(folder: Path, protocol: str) -> Any:
    return json.loads((folder / f"supervised_{protocol}.json").read_text())


def test_all_poolings_of_a_store_with_frames(command: Command, tmp_path: Path, capsys: Any) -> None:
    assert command("ic", more=["--reference", "paper", "--lr", "1e-1", "1e-2", "--seeds", "4", "5"]) == 0
    printed = capsys.readouterr()
    assert "paper: XLS-R" in printed.out
    assert not printed.err  # no progress bar where there is no terminal
    rows = list(csv.DictReader((tmp_path / "supervised_paper.csv").open()))
    assert [row["pooling"] for row in rows if row["source"] == "mfcc_vq"] == list(pooling.methods())
    assert [row["IC"] for row in rows if row["source"] == "paper: base"] == [
        *("91.88", "97.39", "95.70"),
        *("97.39", "97.47", "99.50"),
    ]
    made = content(tmp_path, "paper")
    assert made["seeds"] == [4, 5]
    assert made["settings"]["IC"] == {"batch": 512, "epochs": 5, "rates": [0.1, 0.01], "seeds": [4, 5]}
    for name, by_task in made["scores"].items():
        (score,) = by_task["IC"]
        tried = score["candidates"]
        assert len(tried) == 2 * len(grid(pooling.method(name).options))
        best = max(tried, key=lambda each: sum(each["dev"]))
        assert (score["options"], score["rate"]) == (best["options"], best["rate"])
        assert (
            f"{name}, IC: lr = {'1e-1' if score['rate'] == 0.1 else '1e-2'}, chosen on dev" in made["notes"]
        )
        row = next(row for row in rows if row["pooling"] == name)
        assert float(row["IC"]) == pytest.approx(sum(score["accuracy"]) / 2, abs=0.006)


def test_stores_without_frames_give_what_vectors_allow(command: Command, tmp_path: Path, capsys: Any) -> None:
    """And mfcc has one layer, so that the row of layer 0 is that of the mean over layers."""
    assert command("er", "ic", more=["--layers", "--seeds", "0"]) == 0
    assert "left out" in capsys.readouterr().err
    made = content(tmp_path, "paper")
    assert list(made["scores"]) == ["mean", "VQ-LP"]
    assert [score["fold"] for score in made["scores"]["VQ-LP"]["ER"]] == [f"fold{k}" for k in range(1, 6)]
    average, layer = (row for row in made["rows"] if row["pooling"] == "VQ-LP")
    assert (average["layer"], layer["layer"]) == (None, 0)
    assert layer["accuracy"]["ER"] == average["accuracy"]["ER"]
    assert average["deviation"] == {}


def test_superb_scores_are_those_of_vqpool_train(
    command: Command, stored: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    more = ["--protocol", "superb", "-o", STEPS, "--lr", "1e-1", "1e-3", "--seeds", "0", "1"]
    assert command("er", more=more) == 0
    made = content(tmp_path, "superb")
    assert made["settings"]["ER"]["runner"]["total_steps"] == 20
    trained = {}
    for seed in (0, 1):
        argv = ["train", "-d", "vqpool_er", "--store", stored["er"], "-o", f"{STEPS},,{FOLD}=fold2"]
        argv += ["--poolings", "mean", "VQ-LP", "--lr", "1e-1", "1e-3", "--seed", str(seed)]
        capsys.readouterr()
        assert main([*argv, "-p", str(tmp_path / "train" / str(seed))]) == 0
        for line in capsys.readouterr().out.splitlines()[:4]:
            name, rate, dev, test, step = re.match(
                r"(\S+) +lr=(\S+) +dev +(\S+)% +test +(\S+)% +step +(\d+)", line
            ).groups()
            trained.setdefault((name, float(rate)), []).append((float(dev), float(test), int(step)))
    for name, by_task in made["scores"].items():
        score = by_task["ER"][1]
        assert score["fold"] == "fold2"
        for each in score["candidates"]:
            assert each["dev"] == pytest.approx([dev for dev, _, _ in trained[name, each["rate"]]], abs=0.006)
        _, test, step = zip(*trained[name, score["rate"]])
        assert score["accuracy"] == pytest.approx(test, abs=0.006)
        assert score["best"] == list(step)
    assert len({each for runs in trained.values() for _, each, _ in runs}) > 1


def test_superb_again_leaves_finished_heads_alone(command: Command, tmp_path: Path) -> None:
    more = ["--protocol", "superb", "-o", STEPS, "--poolings", "mean"]
    assert command("ic", more=[*more, "--seeds", "0"]) == 0
    files = [path for path in (tmp_path / "superb").rglob("*") if path.is_file()]
    assert {"states-20.ckpt", "log.log", "test_predict.csv"} <= {path.name for path in files}
    before = {path: path.stat().st_mtime_ns for path in files}
    first = content(tmp_path, "superb")["scores"]["mean"]["IC"][0]["accuracy"]
    assert command("ic", more=[*more, "--seeds", "0", "1", "--overwrite"]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert len(list((tmp_path / "superb").rglob("states-20.ckpt"))) == 2
    assert content(tmp_path, "superb")["scores"]["mean"]["IC"][0]["accuracy"][:1] == first


def test_added_poolings_are_measured(stored: dict[str, str], tmp_path: Path) -> None:
    """Of VQ-SIF the store has one `a`, so SUPERB's head takes it, and what leaves `a` to dev does not."""
    folder = tmp_path / "ic"
    shutil.copytree(stored["ic"], folder)
    assert main(["store", "add-pooling", str(folder), "VQ-GP", "VQ-SIF"]) == 0
    argv = ["benchmark", "supervised", "--store", str(folder), "--output", str(tmp_path), "--seeds", "0"]
    argv += ["--poolings", "VQ-SIF", "VQ-GP", "--layers"]
    assert main([*argv, "--protocol", "superb", "-o", STEPS]) == 0
    rows = content(tmp_path, "superb")["rows"]
    assert [(row["pooling"], row["layer"]) for row in rows] == [
        ("VQ-SIF", None),
        ("VQ-GP", None),
        ("VQ-GP", 0),
    ]
    for name in ("VQ-SIF", "VQ-GP"):
        log = (tmp_path / "superb" / "IC" / "seed=0" / name / "lr=1e-4" / "log.log").read_text()
        (score,) = content(tmp_path, "superb")["scores"][name]["IC"]
        (test,) = re.findall(rf"^test at step {score['best'][0]}: (\S+)$", log, re.MULTILINE)
        assert score["accuracy"] == [100 * float(test)]


def test_unwritable_output_is_said_before_anything_is_computed(
    command: Command, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").touch()
    assert command("er", more=["--poolings", "VQ-LP", "--output", str(tmp_path / "file" / "sub")]) == 2
    printed = capsys.readouterr()
    assert "file/sub: Not a directory: check the path." in printed.err
    assert not printed.out


def test_superb_perfect_encoder_scores_100(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_hot(self: Store, pooling: str, rows: Any = None) -> Tensor:
        known = sorted({utterance.label for utterance in self.utterances})
        wanted = range(len(self.utterances)) if rows is None else rows
        places = [known.index(self.utterances[row].label) for row in wanted]
        return torch.eye(self.manifest["dim"])[places][:, None]

    monkeypatch.setattr(Store, "vectors", one_hot)
    steps = "config.runner.total_steps=60,,config.runner.eval_step=20"
    assert command("ic", more=["--protocol", "superb", "-o", steps, "--lr", "1e-2", "--seeds", "0"]) == 0
    assert [row["accuracy"]["IC"] for row in content(tmp_path, "superb")["rows"]] == [100, 100]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--poolings", "SAP"], "no frames for SAP"),
        (["--poolings", "VQ-LQ"], "Did you mean VQ-LP"),
        (["--lr", "0"], "--lr: expected a number above 0, but got 0.0"),
        (["--seeds", "-1"], "--seeds -1"),
        (["--poolings", "VQ-LP", "-o", STEPS], "--protocol superb"),
        (["--protocol", "superb", "--poolings", "AP", "-o", STEPS], "has no vectors of AP"),
        (["--protocol", "superb", "--poolings", "Whitening", "-o", STEPS], "a map is fitted where"),
        (["--protocol", "superb", "-o", "config.runner.total_steps=10"], "eval_step 1000"),
        (["--protocol", "superb", "-o", f"{STEPS},,config.optimizer.lr=fast"], "config.optimizer.lr"),
        (
            ["--protocol", "superb", "-o", f"{STEPS},,config.runner.eval_dataloaders=['dev']"],
            "got ['dev']",
        ),
    ],
)
def test_mistakes_are_one_line(
    more: list[str], named: str, command: Command, tmp_path: Path, capsys: Any
) -> None:
    assert command("er", more=more) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_has_examples(capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", "supervised", "--help"])
    assert ended.value.code == 0
    assert "vqpool benchmark supervised --protocol superb" in capsys.readouterr().out
