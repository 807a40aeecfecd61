"""A sweep names its winner: the table of all heads and the link to the best on dev."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training import Config, one_line, train

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.trainer import winner
from s3prl_vqpool.trainer.winner import Head

NAN = float("nan")


def head(folder: Path, pooling: str, rate: str, dev: float, test: float = 0.5, step: int = 10) -> Head:
    return Head(pooling, rate, step, dev, test, folder / pooling / f"lr={rate}")


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / winner.TABLE).open()))


def test_dev_chooses_where_test_disagrees(tmp_path: Path) -> None:
    among = [
        head(tmp_path, "mean", "1e-1", 0.5, 0.9),
        head(tmp_path, "mean", "1e-2", 0.6, 0.1),
        head(tmp_path, "VQ-LP", "1e-1", 0.7, 0.2),
        head(tmp_path, "VQ-LP", "1e-2", 0.7, 0.3),  # equal: the first is taken
        head(tmp_path, "AP", "1e-1", 0.0, 0.1),
        head(tmp_path, "SP", "1e-1", NAN, NAN, step=0),
    ]
    winner.write(among, tmp_path)
    assert winner.winner(among) == among[2]
    assert [row["chosen"] for row in rows(tmp_path)] == ["", "rate", "best", "", "", ""]
    assert rows(tmp_path)[2] == {
        **{"pooling": "VQ-LP", "lr": "1e-1", "step": "10", "dev": "70.0000", "test": "20.0000"},
        **{"chosen": "best", "folder": "VQ-LP/lr=1e-1"},
    }
    assert (rows(tmp_path)[5]["dev"], rows(tmp_path)[5]["test"]) == ("", "")
    assert os.readlink(tmp_path / "best") == "VQ-LP/lr=1e-1"  # so that the folder can move


def test_a_head_without_dev_is_at_step_0(tmp_path: Path) -> None:
    run = SimpleNamespace(pooling="AP", config={"optimizer": {"lr": 0.01}}, folder=tmp_path)
    for log, figures in (
        (None, (0, NAN, NAN)),
        ("test at step 5: 0.5\n", (0, NAN, NAN)),
        ("dev at step 5: 0.25\ntest at step 5: 0.5\n", (5, 0.25, 0.5)),
        ("dev at step 5: 0.25\n", (5, 0.25, NAN)),
    ):
        if log is not None:
            (tmp_path / "log.log").write_text(log)
        (found,) = winner.heads([run])  # type: ignore[list-item]
        assert (found.pooling, found.rate, found.folder) == ("AP", "1e-2", tmp_path)
        assert (found.step, found.dev, found.test) == pytest.approx(figures, nan_ok=True)
    assert winner.winner([found]) == found
    assert found.checkpoint == tmp_path / "dev-best.ckpt"


def test_the_link_follows_and_goes(tmp_path: Path) -> None:
    first, second = head(tmp_path, "mean", "1e-1", 0.5), head(tmp_path, "mean", "1e-2", 0.6)
    for among, target in (([first], "lr=1e-1"), ([first, second], "lr=1e-2")):
        winner.write(among, tmp_path)
        assert Path(os.readlink(tmp_path / "best")).name == target
    winner.write([head(tmp_path, "mean", "1e-1", 0.0)], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heads.csv"]


def test_what_is_no_link_stays(tmp_path: Path) -> None:
    winner.require_place(tmp_path)
    (tmp_path / "best").symlink_to("nowhere")
    winner.require_place(tmp_path)
    (tmp_path / "best").unlink()
    (tmp_path / "best").mkdir()
    with pytest.raises(InputError, match="best: is no link"):
        winner.require_place(tmp_path)


def test_train_writes_table_and_link(ic: Any, config: Config, tmp_path: Path, capsys: Any) -> None:
    file, exp = config(total_steps=20, eval_step=10), tmp_path / "exp"
    assert train(ic("mfcc")[1], file, exp, "--lr", "1e-1", "1e-2") == 0
    *_, best, table = capsys.readouterr().out.splitlines()
    found = rows(exp)
    assert [row["folder"] for row in found] == ["VQ-LP/lr=1e-1", "VQ-LP/lr=1e-2"]
    highest = max(found, key=lambda row: float(row["dev"]))
    assert highest["chosen"] == "best"
    log = (exp / "best" / "log.log").read_text()
    assert f"test at step {highest['step']}: " in log
    assert (exp / "best" / "dev-best.ckpt").samefile(exp / highest["folder"] / "dev-best.ckpt")
    assert best == f"best on dev: VQ-LP lr={highest['lr']}, {exp / 'best'}"
    assert table == f"all heads: {exp / 'heads.csv'}"
    (exp / "best").unlink()
    (exp / "best").write_text("mine")
    assert train(ic("mfcc")[1], file, exp, "--lr", "1e-3") == 2
    assert "best: is no link: rename it, or choose another -p" in one_line(capsys)
    assert not (exp / "VQ-LP" / "lr=1e-3").exists()
