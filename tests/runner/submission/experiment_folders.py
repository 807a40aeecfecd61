"""Experiment folders as the runner leaves them, with chosen predictions, and what `vqpool submit` makes of them."""

from __future__ import annotations

import argparse
import csv
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)

# isort: split
import torch

from s3prl_vqpool.runner import provenance


class Refused(Exception):
    """The one line that a mistake gives."""


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def truth_of(task: str, datarc: dict[str, str], fold: str = "fold1") -> list[str]:
    """A prediction file without a mistake, read off the corpus's own lists."""
    if task == "ks":
        paths = sorted(Path(datarc["speech_commands_test_root"]).glob("*/*.wav"))
        return [f"{path.parent.name}-{path.name} {path.parent.name}" for path in paths]
    if task == "sid":
        names = re.findall(r"^3 (.+)\.wav$", Path(datarc["meta_data"]).read_text(), re.M)
        return [f"{name.replace('/', '-')} {name.split('/')[0]}" for name in names]
    if task == "ic":
        with open(Path(datarc["file_path"], "data", "test_data.csv")) as file:
            return [
                ",".join([Path(row["path"]).stem, row["action"], row["object"], row["location"]])
                for row in csv.DictReader(file)
            ]
    listed = Path(datarc["meta_data"], fold.replace("fold", "Session"), "test_meta_data.json")
    rows = json.loads(listed.read_text())["meta_data"]
    return [f"{Path(row['path']).stem} {row['label']}" for row in rows]


class Experiment:
    """A folder as the runner leaves it after `-m evaluate -e FOLDER/dev-best.ckpt`, with chosen predictions."""

    def __init__(self, folder: Path, task: str, datarc: dict[str, str], fold: str = "", **args: Any) -> None:
        folder.mkdir(parents=True)
        self.task, self.folder, self.fold = task, folder, fold
        self.datarc = {**datarc, **({"test_fold": fold} if fold else {})}
        stem, suffix = f"test_{fold}" if fold else "test", "csv" if task == "ic" else "txt"
        self.file, self.truth = (folder / f"{stem}_{what}.{suffix}" for what in ("predict", "truth"))
        self.json = folder / f"{stem}_provenance.json"
        self.member = (
            f"predict/{task}_{fold}_public/predict.txt" if fold else f"predict/{task}_public/predict.{suffix}"
        )
        self.args = {"upstream": "mfcc_vq", "downstream": f"vqpool_{task}", "expdir": str(folder), **args}
        self.best = self.checkpoint("dev-best.ckpt")
        self.lines = truth_of(task, datarc, fold or "fold1")
        self.truth.write_text("\n".join(self.lines) + "\n")
        self.evaluated()

    def checkpoint(self, name: str, number: int = 0) -> Path:
        config = {"downstream_expert": {"datarc": self.datarc}}
        state = {"Args": argparse.Namespace(**self.args), "Config": config, "Step": number}
        torch.save(state, self.folder / name)
        return self.folder / name

    def evaluated(self, lines: list[str] | None = None, mode: str = "evaluate", **given: Any) -> Experiment:
        """The predictions (``lines``) and their record, as the expert writes them."""
        self.file.write_text("\n".join(self.lines if lines is None else lines) + "\n")
        args = {"init_ckpt": str(self.best), **self.args, "downstream": f"vqpool_{self.task}", **given}
        start = provenance.origin(mode, args)
        self.json.write_text(provenance.describe(start, 0, "test", self.datarc, self.file))
        return self

    @property
    def command(self) -> str:
        return f"run_downstream.py -m evaluate -e {self.folder}/dev-best.ckpt"
