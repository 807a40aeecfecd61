"""Tables as CSV, Markdown, JSON and on the terminal; the published figures."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from s3prl_vqpool.corpora import tasks
from s3prl_vqpool.tables import table1
from s3prl_vqpool.tables.predictions import COLUMNS
from s3prl_vqpool.tables.published import TABLE1, TABLE2, Figures, Printed
from s3prl_vqpool.tables.table import (
    Row,
    Table,
    about_published,
    files,
    measured,
    published,
    repeated,
)

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper.md"
FULL = {"KS": 50.0, "SID": 25.0, "IC": 12.5, "ER": 100 / 3}
TASKS = tuple(FULL)
NONE = pd.DataFrame(columns=list(COLUMNS))


def table(tasks: tuple[str, ...] = TASKS, layers: int = 2) -> Table:
    accuracy = {task: FULL[task] for task in tasks}
    rows = [measured("mfcc_vq", name, accuracy) for name in ("AP", "VQ-LP")]
    rows += published(TABLE1, ["AP", "VQ-LP"], tasks)
    rows += [measured("mfcc_vq", "AP", accuracy, layer) for layer in range(layers)]
    return Table("a title", tasks, rows, ["a note"], {"stores": {"KS": {"upstream": "mfcc_vq"}}}, NONE)


def printed(*figures: float) -> Printed:
    *cells, average = figures
    return Printed(dict(zip(("KWS", "SID", "IC", "ER"), cells)), average)


def test_published_figures_are_those_of_the_paper() -> None:
    assert TABLE1["base"]["AP"] == printed(58.44, 13.85, 26.71, 53.44, 38.11)
    assert TABLE1["base"]["VQ-AllSquash-OR"].accuracy["SID"] == 12.99
    assert TABLE1["large"]["VQ-LP"] == printed(83.07, 19.42, 55.00, 57.29, 53.69)
    assert TABLE1["XLS-R"]["VQ-BP"].accuracy["KWS"] == 86.30
    assert TABLE1["XLS-R"]["Whitening"].accuracy["ER"] == 50.69
    assert all(list(rows) == list(TABLE1["base"]) for rows in TABLE1.values())
    assert set(TABLE1["base"]) <= set(table1.unsupervised())
    assert TABLE2["base"]["SAP"] == printed(95.15, 40.86, 97.39, 55.66, 72.27)
    assert TABLE2["XLS-R"]["VQ-LP"] == printed(97.59, 68.13, 94.38, 70.67, 82.69)
    assert all(list(rows) == ["AP", "SP", "VQ-LP", "SAP", "ASP", "VAP"] for rows in TABLE2.values())


@pytest.mark.skipif(not PAPER.is_file(), reason=f"{PAPER} is absent")
@pytest.mark.parametrize(("heading", "table"), [("### Table 1", TABLE1), ("### Table 2", TABLE2)])
def test_published_figures_equal_the_whole_table(heading: str, table: Figures) -> None:
    text = PAPER.read_text().split(heading)[1].split("### ")[0]
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")
    ]
    columns = cells[0][2:-1]
    assert sorted(columns) == sorted(task.published for task in tasks.registered() if task.published)
    found: dict[str, dict[str, Printed]] = {}
    for upstream, name, *figures, average in cells[2:]:
        if upstream:
            found[upstream] = {}
        accuracy = dict(zip(columns, map(float, figures)))
        found[list(found)[-1]][name] = Printed(accuracy, float(average))
    assert found == table


@pytest.mark.parametrize(("table", "others"), [(TABLE1, []), (TABLE2, [("base", "SP")])])
def test_published_averages_agree_to_rounding(table: Figures, others: list[tuple[str, str]]) -> None:
    """The cells are rounded to 0.01, and so is the average: it may be off by 0.01."""
    found = []
    for upstream, rows in table.items():
        for name, row in rows.items():
            if abs(sum(row.accuracy.values()) / 4 - row.average) >= 0.01:
                found.append((upstream, name))
    assert found == others


def test_repeated_is_mean_and_sample_deviation_by_hand() -> None:
    runs = {"KS": [10.0, 20.0], "SID": [30.0, 30.0], "IC": [0.0, 2.0], "ER": [50.0, 30.0]}
    row = repeated("mfcc_vq", "AP", runs, "learned")
    assert row.accuracy == {"KS": 15, "SID": 30, "IC": 1, "ER": 40}
    assert row.average == 21.5
    assert row.deviation == pytest.approx(
        {"KS": 50**0.5, "SID": 0, "IC": 2**0.5, "ER": 200**0.5, "AVG": 2**0.5}
    )
    assert repeated("mfcc_vq", "AP", {"KS": [10.0, 20.0]}).deviation.keys() == {"KS"}
    assert repeated("mfcc_vq", "AP", {"KS": [10.0]}).deviation == {}


def test_deviations_are_beside_the_means() -> None:
    rows = [repeated("mfcc_vq", "AP", {"KS": [10.0, 20.0]}), *published(TABLE2, ["AP"], ["KS"])]
    spread = Table("a title", ("KS",), rows, [], {}, NONE)
    assert "| mfcc_vq | AP | 15.00 ±7.07 |\n| paper: base | AP | 94.89 |" in spread.markdown()
    lines = spread.csv().splitlines()
    assert lines[:3] == [
        "source,pooling,layer,KS,KS sd",
        "mfcc_vq,AP,mean,15.00,7.07",
        "paper: base,AP,mean,94.89,",
    ]


def test_average_is_of_all_four_tasks_or_none() -> None:
    assert measured("s", "AP", FULL).average == pytest.approx((50 + 25 + 12.5 + 100 / 3) / 4)
    assert measured("s", "AP", {"KS": 50.0}).average is None
    assert {row.average for row in published(TABLE1, ["AP"], ("KS", "ER"))} == {None}
    assert published(TABLE1, ["AP"], ("KS", "ER"))[0] == Row(
        "paper: base", "AP", {"KS": 58.44, "ER": 53.44}, None
    )


@pytest.fixture
def fifth(monkeypatch: pytest.MonkeyPatch) -> str:
    """The column of a task that the paper does not have."""
    monkeypatch.setattr(tasks, "_tasks", dict(tasks._tasks))
    return tasks.register(
        replace(tasks.by_name("er"), name="fifth", downstream="vqpool_fifth", published=None)
    ).column


def test_a_further_task_changes_nothing_for_the_papers_four(fifth: str) -> None:
    assert table().csv().splitlines()[0] == "source,pooling,layer,KS,SID,IC,ER,AVG"
    assert published(TABLE1, ["AP"], TASKS)[0].average == 38.11


def test_a_task_that_the_paper_lacks_has_empty_cells_and_a_note(fifth: str) -> None:
    """The paper's average once stood below it, and below no other columns than the paper's."""
    assert about_published(1, TASKS) == about_published(1, [*TASKS, fifth])[:1]
    assert about_published(1, [*TASKS, fifth])[1:] == ["paper: has no figures of FIFTH."]
    columns = (*TASKS, fifth)
    rows = [measured("mfcc_vq", "AP", {**FULL, fifth: 1.0}), *published(TABLE1, ["AP"], columns)]
    lines = Table("a title", columns, rows, [], {}, NONE).csv().splitlines()
    assert lines[:3] == [
        "source,pooling,layer,KS,SID,IC,ER,FIFTH",
        "mfcc_vq,AP,mean,50.00,25.00,12.50,33.33,1.00",
        "paper: base,AP,mean,58.44,13.85,26.71,53.44,",
    ]
    assert published(TABLE1, ["AP"], ("KS", "SID", "IC", fifth))[0] == Row(
        "paper: base", "AP", {"KS": 58.44, "SID": 13.85, "IC": 26.71}, None
    )


def test_csv_has_every_row() -> None:
    rows = list(csv.DictReader(io.StringIO(table().csv())))
    assert len(rows) == 2 + 6 + 2
    assert rows[0] == {
        **{"source": "mfcc_vq", "pooling": "AP", "layer": "mean"},
        **{"KS": "50.00", "SID": "25.00", "IC": "12.50", "ER": "33.33", "AVG": "30.21"},
    }
    assert [row["layer"] for row in rows[-2:]] == ["0", "1"]
    assert table(("KS", "ER")).csv().splitlines()[0] == "source,pooling,layer,KS,ER"


def test_markdown_names_a_source_once() -> None:
    text = table().markdown()
    assert "| mfcc_vq | AP | 50.00 | 25.00 | 12.50 | 33.33 | 30.21 |\n|  | VQ-LP | 50.00" in text
    assert "| paper: large | AP | 71.87 |" in text
    assert "## By layer\n\n| pooling | layer | KS |" in text
    assert "| AP | 0 | 50.00 |" in text
    assert text.endswith("- a note\n")
    assert "layer" not in table(layers=0).markdown()


def test_json_keeps_full_precision_and_configuration() -> None:
    content = json.loads(table().json())
    assert content["rows"][0]["accuracy"]["ER"] == 100 / 3
    assert content["stores"]["KS"]["upstream"] == "mfcc_vq"
    assert content["notes"] == ["a note"]


def test_write_leaves_whole_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "new" / "results"
    assert [path.name for path in table().write(folder, "nearest")] == [
        "nearest.csv",
        "nearest.md",
        "nearest.json",
        "nearest.tex",
        "nearest.predictions.csv",
        "nearest.classes.csv",
        "nearest.provenance.json",
    ]
    assert sorted(folder.iterdir()) == sorted(files(folder, "nearest"))
    before = {path: path.read_text() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        table(("KS",)).write(folder, "nearest")
    assert {path: path.read_text() for path in folder.iterdir()} == before


def test_show_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    table().show()
    printed = capsys.readouterr().out
    assert "paper: large" in printed
    assert "53.69" in printed
    assert "By layer" in printed
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_show_wraps_deviations_on_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "80")
    runs = {task: [figure, figure + 10] for task, figure in FULL.items()}
    limits = dict.fromkeys([*TASKS, "AVG"], (99.44, 100.0))
    rows = [replace(repeated("wav2vec2_large_ll60k_vq", "VQ-Squash-OR@code", runs), interval=limits)]
    Table("a title", TASKS, rows, [], {}, NONE).show()
    printed = capsys.readouterr().out
    assert "VQ-Squash-OR@code" in printed
    assert printed.count("±7.07") == 5
    assert printed.count("99.4-") == printed.count("100 ") == 5
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
