"""Users' own upstreams and tasks, in folders that a command names, and by entry points: the guides' code, outside."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
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
HEAD = """
import csv
from pathlib import Path
from s3prl_vqpool.corpora.base import Corpus, Utterance
from s3prl_vqpool.corpora.tasks import Place, Protocol, Task, register


def load(datarc, fold):
    rows = list(csv.reader(open(datarc["table"])))
    classes = tuple(sorted({label for _, label, _ in rows}))
    splits = {name: [] for name in ("train", "dev", "test")}
    for path, label, split in rows:
        splits[split].append(Utterance(Path(path), (classes.index(label),), Path(path).stem))
    return Corpus("own", splits, (classes,))


register(
    Task("own", "tones", "vqpool_own", f"{__name__}:load", (Place("table", "TABLE"),), protocol=Protocol(8, 2))
)
"""
CONFIG = """
runner: {total_steps: 4, gradient_clipping: 1, gradient_accumulate_steps: 1, log_step: 2, eval_step: 2, save_step: 2,
  max_keep: 1, eval_dataloaders: [dev, test]}
optimizer: {name: TorchOptim, torch_optim_name: Adam, lr: 1.0e-2}
downstream_expert:
  datarc: {table: null, num_workers: 0, train_batch_size: 4, eval_batch_size: 4}
  modelrc: {projector_dim: 16, pooling: VQ-LP}
"""


def blocks(page: str) -> dict[str, str]:
    text = (ROOT / "docs" / "guides" / page).read_text()
    return dict(re.findall(r'^```\w+ title="([^"\n]*)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`ups` with the guide's upstream, `tasks` with a task of tones, and a package with an entry point."""
    root = tmp_path_factory.mktemp("own")
    for title, text in blocks("add-an-upstream.md").items():
        write(root / "ups" / Path(title).relative_to("upstream_expert"), text)
    write(root / "plain/twice/hubconf.py", "def mfcc_vq():\n    pass\n")
    write(root / "broken/oops/hubconf.py", "import nothing_of_that_name\n")
    write(root / "taken/wav2vec2/hubconf.py", "")
    (root / "empty").mkdir()
    own = root / "tasks" / "vqpool_own"
    write(own / "task.py", HEAD)
    expert = blocks("add-a-task.md")["downstream/vqpool_esc/expert.py"]
    write(own / "expert.py", expert.replace('"esc"', '"own"'))
    write(own / "config.yaml", CONFIG)
    write(
        root / "site/own_package/hubconf.py",
        "from s3prl import hub as _hub\ndef mine():\n    return _hub.fbank()\n",
    )
    write(root / "site/broken_package/hubconf.py", "1 / 0\n")
    write(root / "site/own-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    points = "a = own_package.hubconf\nb = broken_package.hubconf\n"
    write(root / "site/own-1.0.dist-info/entry_points.txt", f"[s3prl_vqpool.upstreams]\n{points}")
    rng, lines = np.random.default_rng(0), []
    for number in range(24):
        pitch, split = ("low", "high")[number % 2], ("train", "train", "dev", "test")[number // 2 % 4]
        tone = np.sin(2 * np.pi * (300, 2000)[number % 2] * np.arange(8000) / 16000)
        path = root / "audio" / f"{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.3 * tone + rng.normal(0, 0.02, 8000), 16000)
        lines.append(f"{path},{pitch},{split}\n")
    write(root / "table.csv", "".join(lines))
    write(root / "named.yaml", "own: {table: table.csv}\n")
    return root


TABLE = '-o "config.downstream_expert.datarc.table=table.csv"'
BOTH = "--upstream-dir ups --downstream-dir tasks"
COMMANDS = {
    "unknown": "vqpool codes audio/0.wav -u fbank_mfcc_vq",
    "broken": "vqpool codes audio/0.wav -u mfcc_vq --upstream-dir broken",
    "taken": "vqpool codes audio/0.wav -u mfcc_vq --upstream-dir taken",
    "twice": "vqpool codes audio/0.wav -u mfcc_vq --upstream-dir plain",
    "empty": "run_downstream.py --downstream-dir empty -m train -n a -u mfcc_vq -d vqpool_own",
    "absent": "vqpool codes audio/0.wav -u mfcc_vq --upstream-dir absent",
    "codes": "vqpool codes audio/0.wav -u fbank_mfcc_vq --upstream-dir=ups",
    "same": "vqpool codes audio/0.wav -u mfcc_vq",
    "train": f"run_downstream.py {BOTH} -m train -n own -u fbank_mfcc_vq -d vqpool_own {TABLE}",
    "evaluate": f"run_downstream.py -m evaluate -e result/downstream/own/dev-best.ckpt {BOTH}",
    "extract": f"vqpool extract {BOTH} -u fbank_mfcc_vq -d vqpool_own --store feats {TABLE}",
    "heads": f"vqpool train --downstream-dir tasks -d vqpool_own --store feats --poolings VQ-LP -p heads {TABLE}",
    "nearest": "vqpool benchmark nearest --store feats --output results --downstream-dir tasks",
    "list": "vqpool list upstreams --upstream-dir ups",
    "tasks": "vqpool list downstreams --downstream-dir tasks",
    "doctor": f"vqpool doctor {BOTH} --own table.csv",
    "corpora": "vqpool corpora export own --corpora named.yaml --downstream-dir tasks --output own.csv",
    "plot": "vqpool plot utterance audio/0.wav -u fbank_mfcc_vq --upstream-dir ups --output one.svg",
    "classify": f"vqpool classify -e result/downstream/own/dev-best.ckpt audio --output labels.csv {BOTH}",
    "reproduce": f"vqpool reproduce -u fbank_mfcc_vq {BOTH} --corpora named.yaml --seeds 0 --output paper",
}


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, tuple[int, str, str]]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder / 'site'}", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([shlex.split(command) for command in COMMANDS.values()]),
        **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 300},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: list[Any] = json.loads(ran.stdout.splitlines()[-1])
    return dict(zip(COMMANDS, map(tuple, found)))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("unknown", "Unknown upstream with codes 'fbank_mfcc_vq'"),
        ("broken", "oops/hubconf.py: fails when it is imported (ModuleNotFoundError"),
        ("taken", "taken/wav2vec2: wav2vec2 is the name of another upstream"),
        ("twice", "there is an upstream mfcc_vq already"),
        ("empty", "--downstream-dir empty: no downstream in it"),
        ("absent", "--upstream-dir absent: no such folder"),
    ],
)
def test_mistakes_are_one_line(results: dict[str, tuple[int, str, str]], command: str, said: str) -> None:
    code, _, err = results[command]
    assert code == 2
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("command", list(COMMANDS)[6:])
def test_commands_succeed(results: dict[str, tuple[int, str, str]], command: str) -> None:
    code, _, err = results[command]
    assert code == 0, err


def test_codes_are_those_of_the_own_upstream(results: dict[str, tuple[int, str, str]]) -> None:
    (own,), (same,) = (results[name][1].splitlines() for name in ("codes", "same"))
    assert json.loads(own)["codes"] == json.loads(same)["codes"]


def test_the_task_is_trained_evaluated_and_listed(
    results: dict[str, tuple[int, str, str]], folder: Path
) -> None:
    assert "test acc:" in results["evaluate"][1]
    assert (folder / "result/downstream/own/dev-best.ckpt").is_file()
    assert (
        "OWN"
        in "".join(path.read_text() for path in (folder / "results").glob("*.md")) + results["nearest"][1]
    )
    assert "vqpool_own" in results["tasks"][1]
    assert re.search(r"^fbank_mfcc_vq ", results["list"][1], re.MULTILINE)
    assert not re.search(r"^mine ", results["list"][1], re.MULTILINE)  # it has no codes


def test_doctor_export_and_classify_know_them(results: dict[str, tuple[int, str, str]], folder: Path) -> None:
    found = results["doctor"][1].splitlines()
    assert any(re.match(r"ok  upstreams with codes: .*\bfbank_mfcc_vq\b", line) for line in found)
    assert any(re.match(r"ok  downstreams: .*\bvqpool_own\b", line) for line in found)
    assert "ok  own: own: train 12, dev 6, test 6; classes 2" in found
    rows = list(csv.DictReader((folder / "own.csv").open()))
    given = list(csv.reader((folder / "table.csv").open()))
    assert sorted((row["path"], row["label"], row["split"]) for row in rows) == sorted(map(tuple, given))
    labels = {row["id"]: row["label"] for row in csv.DictReader((folder / "labels.csv").open())}
    predicted = (folder / "result/downstream/own/test_predict.txt").read_text().splitlines()
    assert {name: labels[name] for name in (line.split()[0] for line in predicted)} == dict(
        line.split() for line in predicted
    )


def test_reproduce_hands_them_to_its_steps(results: dict[str, tuple[int, str, str]], folder: Path) -> None:
    log = (folder / "paper/reproduce.log").read_text()
    commands = [line.split(" $ ")[1] for line in log.splitlines() if " $ " in line]
    assert len(commands) > 8
    assert all(command.endswith(f" {BOTH}") for command in commands)
    assert "left out" not in log.replace("not set, left out", "")
    table = json.loads((folder / "paper/tables/nearest.json").read_text())
    assert {row["source"] for row in table["rows"]} == {"fbank_mfcc_vq"}, "the paper has no such task"


def test_entry_points_are_on_the_hub_and_a_broken_one_warns(folder: Path) -> None:
    code = "import s3prl_vqpool\nfrom s3prl import hub\nprint(type(hub.mine()).__name__, hasattr(hub, 'b'))"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder / 'site'}"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 120},
    )
    assert ran.stdout.splitlines()[-1] == "UpstreamExpert False", ran.stderr
    assert (
        "entry point b of s3prl_vqpool.upstreams: fails when it is imported (ZeroDivisionError" in ran.stderr
    )
