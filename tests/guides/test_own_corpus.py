"""docs/guides/own-corpus.md: its commands run in the page's order, on ESC-50's layout with made audio."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_add_a_task import DRIVER, Session, esc50, of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "own-corpus.md").read_text()
(NAMED,) = re.findall(r'^```yaml title="corpora.yaml"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.sub(r"\n\s+", " ", "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)))
DRAWN = "config.downstream_expert.datarc.split={'by': 'random', 'folds': 3}"
STEPS = ",,config.runner.total_steps=2,,config.runner.eval_step=2"
TRAIN = f'run_downstream.py -m train -n drawn -u mfcc_vq -d vqpool_table -o "{DRAWN}{STEPS}"'
MORE = (
    TRAIN,
    "run_downstream.py -m evaluate -e result/downstream/drawn/dev-best.ckpt",
    TRAIN.replace("-n drawn", "-n six").replace("-d vqpool_table", "-d vqpool_table -v 6"),
    "vqpool corpora export table --output esc.csv",
    "vqpool submit --ks result/downstream/esc --output submission",
)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    folder = tmp_path_factory.mktemp("work")
    esc50(folder / "ESC-50")
    (folder / "corpora.yaml").write_text(NAMED)
    commands = [*COMMANDS.splitlines(), *MORE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DRIVER],
        input=json.dumps([shlex.split(command) for command in commands]),
        **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "timeout": 600},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads(ran.stdout.splitlines()[-1])
    return Session(folder, {command: tuple(result) for command, result in zip(commands, results)})


def test_every_command_of_the_page_succeeds(session: Session) -> None:
    for command in COMMANDS.splitlines():
        code, _, err = session.results[command]
        assert code == 0, (command, err)


def test_doctor_counts_each_fold(session: Session) -> None:
    lines = [line for line in of(session, "doctor")[1].splitlines() if line.startswith("ok  table ")]
    table = session.folder / "ESC-50" / "meta" / "esc50.csv"
    assert lines == [f"ok  table {fold}: {table}: train 18, dev 6, test 6; classes 3" for fold in range(1, 6)]


def test_the_runner_holds_out_the_fold_that_v_names(session: Session) -> None:
    expdir = session.folder / "result" / "downstream" / "esc"
    truth = dict(line.split("\t") for line in (expdir / "test_2_truth.tsv").read_text().splitlines())
    assert truth == {f"2-{name}-{take}": name for name in ("dog", "rain", "siren") for take in "AB"}
    printed = of(session, "inference")[1].splitlines()[-1].split("\t")
    assert printed[0].endswith("1-dog-A")
    assert printed[1] in ("dog", "rain", "siren")
    assert of(session, "-v 6")[0] == 2


def test_heads_and_tables_are_of_the_folds_of_the_table(session: Session) -> None:
    truth = (session.folder / "heads" / "VQ-LP" / "lr=1e-2" / "test_4_truth.tsv").read_text()
    assert {line[0] for line in truth.splitlines()} == {"4"}
    results = session.folder / "results"
    for name in ("nearest", "supervised_paper", "supervised_superb"):
        scores = json.loads((results / f"{name}.json").read_text())["scores"]["VQ-LP"]["TABLE"]
        assert [score["fold"] for score in scores] == list("12345")


def test_store_and_experiment_keep_what_was_drawn(session: Session) -> None:
    rows = list(csv.DictReader((session.folder / "drawn" / "split.csv").open()))
    assert len(rows) == 30
    assert [sum(row["split"] == split for row in rows) for split in ("train", "dev", "test")] == [21, 3, 6]
    assert not (session.folder / "feats" / "split.csv").exists(), "the table itself says the folds"
    expdir = session.folder / "result" / "downstream" / "drawn"
    kept = {row["id"]: row["fold1"] for row in csv.DictReader((expdir / "split.csv").open())}
    truth = [line.split("\t")[0] for line in (expdir / "test_fold1_truth.tsv").read_text().splitlines()]
    assert sorted(truth) == sorted(name for name, split in kept.items() if split == "test")


def test_a_store_whose_table_draws_otherwise_now_is_refused(session: Session) -> None:
    """Nothing but who is in which split has changed."""
    from s3prl_vqpool.cli.main import main

    kept = session.folder / "drawn" / "split.csv"
    before = kept.read_text()
    kept.write_text(before.replace(",test,", ",dev,", 1))
    command = ["benchmark", "nearest", "--store", str(kept.parent), "--output", str(session.folder / "again")]
    assert main(command) == 2
    kept.write_text(before)
    assert main(command) == 0


def test_submit_takes_no_such_experiment(session: Session) -> None:
    code, _, err = of(session, "submit")
    assert code == 2
    assert "an experiment of -d vqpool_table. Expected one of -d vqpool_ks." in err


def test_the_folds_are_exported_as_columns(session: Session) -> None:
    code, out, _ = of(session, "export")
    assert code == 0
    assert "datarc.columns={'split': ['1', '2', '3', '4', '5']}" in out
    for row in csv.DictReader((session.folder / "esc.csv").open()):
        fold = Path(row["path"]).name[0]
        assert row[fold] == "test"
        assert row[str((int(fold) - 2) % 5 + 1)] == "dev"
