"""docs/guides/add-a-task.md: its files go into a copy of the package, where its commands run in the page's order."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "add-a-task.md").read_text()
BLOCKS = re.findall(r'^```(\w+)(?: title="([^"\n]*)")?\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
REGISTRY = "s3prl_vqpool/corpora/tasks.py"
FILES = {title: text for _, title, text in BLOCKS if title and title != REGISTRY}
(ENTRY,) = (text for _, title, text in BLOCKS if title == REGISTRY)
(COMMANDS,) = (text for language, _, text in BLOCKS if language == "sh")
#: One process for all commands: importing S3PRL takes longer than any of them.
DRIVER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from s3prl_vqpool.cli.main import main
from s3prl_vqpool.runner import run_downstream
results = []
for program, *argv in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = (run_downstream.main if program == "run_downstream.py" else main)(argv)
    results.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Session:
    """What the page's commands left in ``folder``: (exit code, stdout, stderr) of each."""

    folder: Path
    results: dict[str, tuple[int, str, str]]


def esc50(folder: Path) -> None:
    """Three kinds of sounds, two of them in ESC-10, twice in each fold: tones of one pitch a class, noise added."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    with open(folder / "meta" / "esc50.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for fold in range(1, 6):
            for number, (name, hertz, small) in enumerate(
                [("dog", 300, True), ("rain", 1200, True), ("siren", 3000, False)]
            ):
                for take in "AB":
                    time = np.arange(44100 // 2) / 44100
                    samples = 0.3 * np.sin(2 * np.pi * hertz * time) + rng.normal(0, 0.02, len(time))
                    soundfile.write(folder / "audio" / f"{fold}-{name}-{take}.wav", samples, 44100)
                    writer.writerow([f"{fold}-{name}-{take}.wav", fold, number, name, small, 0, take])


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("work")
    for name in ("s3prl_vqpool", "downstream"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("upstream_expert", "configs"):
        (tree / name).symlink_to(ROOT / name)
    for title, text in FILES.items():
        (tree / title).parent.mkdir(exist_ok=True)
        (tree / title).write_text(text)
    with open(tree / REGISTRY, "a") as file:
        file.write(ENTRY)
    esc50(folder / "ESC-50")
    commands = re.sub(r"\n\s+", " ", COMMANDS).splitlines()
    commands += ["vqpool list downstreams", "vqpool doctor --esc nowhere ESC-50/meta/esc50.csv"]
    commands += [
        commands[4].replace("test_fold=4", "subset=all"),
        commands[1].replace("-n esc", "-n six").replace("-v 2", "-v 6"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps([shlex.split(command) for command in commands]),
        **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 600},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads(ran.stdout.splitlines()[-1])
    return Session(folder, {command: tuple(result) for command, result in zip(commands, results)})


def of(session: Session, *words: str) -> tuple[int, str, str]:
    """The result of the one command with all of these words."""
    (found,) = [
        result for command, result in session.results.items() if all(word in command for word in words)
    ]
    return found


def test_three_files_have_at_most_60_lines_of_code() -> None:
    assert len(FILES) == 3
    assert sum(bool(line.strip()) for text in FILES.values() for line in text.splitlines()) <= 60
    assert ENTRY.count("register(") == 1


def test_every_command_of_the_page_succeeds(session: Session) -> None:
    for command in re.sub(r"\n\s+", " ", COMMANDS).splitlines():
        code, _, err = session.results[command]
        assert code == 0, (command, err)


def test_doctor_and_list_know_the_task(session: Session) -> None:
    lines = [line for line in of(session, "doctor", "ESC-50/audio")[1].splitlines() if " esc " in line]
    assert lines == [f"ok  esc {fold}: esc: train 18, dev 6, test 6; classes 3" for fold in range(1, 6)]
    assert "vqpool_esc" in of(session, "list downstreams")[1]
    (missing,) = [line for line in of(session, "nowhere")[1].splitlines() if line.startswith("NO ")]
    assert "30 of 30 files are missing" in missing


def test_the_runner_holds_out_the_fold_that_v_names(session: Session) -> None:
    expdir = session.folder / "result" / "downstream" / "esc"
    assert "vqpool_esc: 2 is held out for test" in of(session, "-m evaluate")[1]
    truth = dict(line.split() for line in (expdir / "test_2_truth.txt").read_text().splitlines())
    names = ("dog", "rain", "siren")
    assert truth == {f"2-{name}-{take}": name for name in names for take in "AB"}
    assert of(session, "-v 6")[0] == 2
    assert "error: Unknown fold of vqpool_esc: '6'." in of(session, "-v 6")[2]


def test_heads_are_of_the_stores_subset_and_of_the_fold(session: Session) -> None:
    """The task's own key was lost between `extract` and `train`."""
    for pooling in ("VQ-LP", "mean"):
        truth = (session.folder / "heads" / pooling / "lr=1e-2" / "test_4_truth.txt").read_text()
        assert {line.split()[1] for line in truth.splitlines()} == {"dog", "rain"}
        assert {line[0] for line in truth.splitlines()} == {"4"}
    code, _, err = of(session, "vqpool train", "subset=all")
    assert code == 2
    assert "config.downstream_expert.datarc.subset 'all': the store was extracted with 'esc10'" in err


def test_tables_have_the_mean_of_five_folds_and_an_empty_cell_for_the_paper(session: Session) -> None:
    rows = list(csv.DictReader((session.folder / "results" / "nearest.csv").open()))
    content = json.loads((session.folder / "results" / "nearest.json").read_text())
    for name, scores in content["scores"].items():
        assert [score["fold"] for score in scores["ESC"]] == list("12345")
        mean = sum(score["accuracy"] for score in scores["ESC"]) / 5
        assert [row["ESC"] for row in rows if (row["source"], row["pooling"]) == ("mfcc_vq", name)] == [
            f"{mean:.2f}"
        ]
    assert {row["source"] for row in rows} == {"mfcc_vq"}, "no rows of the paper, which has no such task"
    assert "paper: has no figures of ESC." in content["notes"]
    for protocol in ("paper", "superb"):
        made = json.loads((session.folder / "results" / f"supervised_{protocol}.json").read_text())
        assert [score["fold"] for score in made["scores"]["VQ-LP"]["ESC"]] == list("12345")
