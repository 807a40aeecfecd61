"""`vqpool reproduce`: each step is a verb's, killed it ends with the same bytes, and nothing is made twice."""

from __future__ import annotations

import json
import random
import shlex
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from s3prl_vqpool import cli
from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.corpora.tasks import Protocol
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import layout
from s3prl_vqpool.store.progress import Progress
from s3prl_vqpool.tables.paper.steps import Step
from s3prl_vqpool.tables.paper.work import LOG, Log, work

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks")]

import kills  # noqa: E402

KILLS = 3


@pytest.fixture
def command(synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kills.Command:
    """`reproduce` of IC alone, trained for one epoch."""
    short = Protocol(batch=64, epochs=1)
    monkeypatch.setattr(
        tasks, "_tasks", {name: replace(task, protocol=short) for name, task in tasks._tasks.items()}
    )
    corpora = tmp_path / "corpora.yaml"
    corpora.write_text(yaml.safe_dump({"ic": synthetic["ic"]}))
    output = tmp_path / "paper"
    argv = [
        "reproduce",
        "-u",
        "mfcc_vq",
        "--output",
        str(output),
        "--corpora",
        str(corpora),
        "--device",
        "cpu",
        "--seeds",
        "3",
        "1",
    ]
    return kills.Command("reproduce", argv, output)


def tree(folder: Path) -> dict[str, str]:
    """All but what has the date in it."""
    return {
        name: digest
        for name, digest in content(folder).items()
        if name != LOG and not name.endswith(".provenance.json")
    }


content = kills.content


def test_killed_it_continues_to_the_same_bytes(
    command: kills.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kills, "content", tree)
    command.prepare()
    begun = time.monotonic()
    assert cli.main(list(command.argv)) == 0
    expected, duration = tree(command.output), time.monotonic() - begun
    assert {
        "tables/nearest.md",
        "tables/mfcc_vq/supervised_paper.json",
        "stores/mfcc_vq/ic/done.json",
    } <= set(expected)
    generator = random.Random(3)
    outcomes = []
    for _ in range(KILLS):
        command.prepare()
        outcome = kills.kill_once(command, expected, generator.uniform(0.1, 0.9) * duration, tmp_path)
        duration = duration if outcome.killed else min(duration, outcome.after)  # the machine is faster now
        outcomes.append(outcome)
    assert [outcome for outcome in outcomes if outcome.wrong] == []
    assert any(outcome.killed for outcome in outcomes)


def test_nothing_is_made_twice_and_each_step_is_a_command(
    command: kills.Command, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(list(command.argv)) == 0
    first = capfd.readouterr().err
    assert "KS: not set, left out" in first
    assert "IC: 186 utterances, 0.09 h of speech" in first
    assert "h of speech per hour, measured for" in first
    log = (command.output / LOG).read_text()
    commands = [shlex.split(line.split(" $ vqpool ")[1]) for line in log.splitlines() if " $ vqpool " in line]
    assert [words[:2] for words in commands[:5]] == [
        ["extract", "-u"],
        ["benchmark", "nearest"],
        ["benchmark", "supervised"],
        ["benchmark", "join"],
        ["benchmark", "join"],
    ]
    predicted = pd.read_csv(command.output / "tables/mfcc_vq/supervised_paper.predictions.csv")
    assert set(predicted["seed"]) == {3, 1}
    kinds = ["accuracy", "accuracy", "layers", "embedding", "codebook", "confusion"]
    assert [words[:2] for words in commands[5:]] == [
        *(["plot", kind] for kind in kinds),
        ["report", str(command.output)],
    ]
    before = {path: path.stat().st_mtime_ns for path in command.output.rglob("*") if path.name != LOG}
    assert cli.main(list(command.argv)) == 0
    again = capfd.readouterr().err
    assert again.count(": there already") == len(commands) + 1  # the plan's line, and all steps
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()} == {
        path: stamp for path, stamp in before.items() if path.is_file()
    }
    expected = tree(command.output)
    (command.output / "tables/mfcc_vq/nearest.json").unlink()
    assert cli.main(commands[1]) == 0  # the step alone, by the verb
    assert tree(command.output) == expected


def test_a_table_of_ones_own_with_five_folds_goes_all_the_way(command: kills.Command, tmp_path: Path) -> None:
    """ESC-50's layout: fold and class are in the names of its files."""
    rows, rng = ["filename,fold,target,category,esc10,src_file,take"], np.random.default_rng(0)
    (tmp_path / "ESC-50" / "audio").mkdir(parents=True)
    for fold, (name, hertz), take in product(range(1, 6), (("dog", 300), ("rain", 2500)), "ABC"):
        file = f"{fold}-{name}-{take}.wav"
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(8000) / 16000)
        soundfile.write(tmp_path / "ESC-50" / "audio" / file, tone + rng.normal(0, 0.02, 8000), 16000)
        rows.append(f"{file},{fold},0,{name},True,0,{take}")
    (tmp_path / "ESC-50" / "esc50.csv").write_text("\n".join(rows) + "\n")
    named = {"table": "ESC-50/esc50.csv", "root": "ESC-50/audio"}
    named["columns"] = {"path": "filename", "label": "category"}
    (tmp_path / "corpora.yaml").write_text(yaml.safe_dump({"table": named}))
    assert cli.main(list(command.argv)) == 0
    log = (command.output / LOG).read_text()
    assert "TABLE: 30 utterances, 0.00 h of speech" in log
    assert "left out" not in log.replace("not set, left out", "")
    tables = command.output / "tables"
    for name in ("nearest", "supervised_paper"):
        own = json.loads((tables / "mfcc_vq" / f"{name}.json").read_text())
        assert [score["fold"] for score in own["scores"]["VQ-LP"]["TABLE"]] == list("12345")
        joined = pd.read_csv(tables / f"{name}.csv")
        assert list(joined.columns[:4]) == ["source", "pooling", "layer", "TABLE"]
        assert set(joined["source"]) == {"mfcc_vq"}, "the paper has no figures of it"
    truth = pd.read_csv(tables / "mfcc_vq" / "nearest.predictions.csv", dtype=str)
    files = truth["utterance"].map(lambda path: Path(path).stem.split("-"))
    assert [name[0] for name in files] == list(truth["fold"]), "each fold is test once"
    assert [name[1] for name in files] == list(truth["label"])
    assert "TABLE" in (command.output / "report.html").read_text()


def test_too_little_disk_and_upstreams_without_weights_are_refused_before_anything_is_written(
    command: kills.Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layout, "free", lambda folder: 1000)
    assert cli.main(list(command.argv)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {command.output}: needs ")
    assert error.endswith("make room, or give --dtype float16, or fewer upstreams.")
    assert not (command.output / "stores").exists()
    assert cli.main(["reproduce", "-u", "wav2vec2_vq_local", *command.argv[3:]]) == 2
    assert "-u wav2vec2_vq_local: needs -k" in capsys.readouterr().err


def test_two_at_once_are_refused(
    command: kills.Command, elsewhere: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from s3prl_vqpool.files import alone

    elsewhere(lambda: alone(command.output))
    assert cli.main(list(command.argv)) == 2
    assert "is writing there" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ the parts
@pytest.fixture
def step(tmp_path: Path) -> Step:
    (tmp_path / "in.json").write_text("1")
    return Step(
        "a table",
        ("benchmark", "x"),
        (tmp_path / "t.csv", tmp_path / "t.json"),
        (tmp_path / "in.json",),
        {"a": 1},
    )


def test_a_step_is_done_until_an_input_a_fact_the_command_or_a_version_changes(
    step: Step, tmp_path: Path, monkeypatch: Any
) -> None:
    assert step.changed(tmp_path) == "t.csv is not there"
    for path in step.outputs:
        path.write_text("")
    assert step.changed(tmp_path) == "t.key.json is not there"
    step.end(tmp_path)
    assert step.changed(tmp_path) is None
    assert replace(step, facts={"a": 2}).changed(tmp_path) == "other facts than before"
    assert replace(step, argv=("benchmark", "y")).changed(tmp_path) == "other command than before"
    (tmp_path / "in.json").write_text("2")
    assert step.changed(tmp_path) == "other inputs than before"
    step.end(tmp_path)
    monkeypatch.setattr("s3prl_vqpool.tables.provenance.__version__", "9")
    assert step.changed(tmp_path) == "other versions than before"
    step.key_file.write_text("{")
    part = tmp_path / ".t.key.json.1.part"
    part.write_text("half")
    assert step.changed(tmp_path) == "t.key.json is damaged"
    step.begin()
    assert not part.exists()
    assert step.changed(tmp_path) == "t.key.json is not there"


def test_a_step_that_fails_is_not_done(step: Step, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="vqpool benchmark x ended with exit code 1"):
        work([step], tmp_path, lambda argv: 1, Log(tmp_path))
    assert not step.key_file.exists()


def test_a_figure_that_is_refused_is_left_out_and_tried_again(
    step: Step, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        raise InputError("too few utterances")

    work([replace(step, optional=True)], tmp_path, run, Log(tmp_path))
    assert "[1/1] a table: left out: too few utterances" in capfd.readouterr().err
    assert step.changed(tmp_path) == "t.csv is not there"
    with pytest.raises(InputError):
        work([step], tmp_path, run, Log(tmp_path))


def test_a_line_says_what_is_done_left_and_to_go(
    step: Step, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(argv: list[str]) -> int:
        with Progress("supervised", 4, "score") as progress:
            progress.begun -= 3600
            progress.advance()
            time.sleep(0.1)
        for path in step.outputs:
            path.write_text("")
        return 0

    work([step], tmp_path, run, Log(tmp_path), every=0.03)
    line = "[1/1] a table: supervised: 1 of 4 score done, 3 left, 1.0 score per hour, 3 h 0 min to go"
    assert line in capfd.readouterr().err
    assert line in (tmp_path / LOG).read_text()


# ----------------------------------------------------------------------------------------------- table over all
def stored(path: Path, source: str, figures: dict[str, float], **more: Any) -> Path:
    row = {"source": source, "pooling": "AP", "accuracy": figures, "average": None, "layer": None}
    row |= {"deviation": {}, "interval": {}, "p": {}, "slots": {}}
    layer = {**row, "layer": 0}
    content = {"title": "T", "notes": ["same", f"of {source}"], "rows": [{**row, **more}, layer]}
    path.write_text(json.dumps(content))
    return path


def test_join_marks_what_lies_outside_the_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interval = {"KS": [50.0, 58.0], "ER": [50.0, 55.0]}
    base = stored(tmp_path / "a.json", "wav2vec2_vq", {"KS": 54.0, "ER": 52.0}, interval=interval)
    tiny = stored(tmp_path / "b.json", "wav2vec2_vq_tiny", {"KS": 20.0, "ER": 30.0})
    assert cli.main(["benchmark", "join", str(base), str(tiny), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "nearest.md").read_text()
    assert "| wav2vec2_vq | AP | KS | 54.00 | 50.00 to 58.00 | 58.44 | -4.44 | * |" in text
    assert "| wav2vec2_vq | AP | ER | 52.00 | 50.00 to 55.00 | 53.44 | -1.44 |  |" in text
    assert "| wav2vec2_vq_tiny | AP | KS | 20.00" not in text
    rows = (tmp_path / "out" / "nearest.csv").read_text().splitlines()
    assert rows[1].startswith("wav2vec2_vq,AP,mean,54.00,52.00")
    assert rows[2].startswith("wav2vec2_vq_tiny,AP,mean,20.00,30.00")
    assert "- same\n- wav2vec2_vq: of wav2vec2_vq\n- wav2vec2_vq_tiny: of wav2vec2_vq_tiny\n" in text
    capsys.readouterr()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"rows": [], "title": "T", "notes": []}', '{"rows": [1]}']
)
def test_join_refuses_other_files_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert cli.main(["benchmark", "join", str(path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path}")


def test_join_refuses_one_upstream_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [stored(tmp_path / name, "u", {"KS": 1.0}) for name in ("a.json", "b.json")]
    assert cli.main(["benchmark", "join", *map(str, paths), "--output", str(tmp_path)]) == 2
    assert f"{paths[1]}: u has a table already" in capsys.readouterr().err
