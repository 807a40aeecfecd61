"""A table of accuracies: on the terminal, as CSV, Markdown and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ..files import write_text
from . import predictions
from .published import Figures, are_the_papers, paper_columns

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table as RichTable


def about_published(number: int, columns: Sequence[str]) -> list[str]:
    """The notes below published figures of Table ``number`` of the paper."""
    notes = [
        f"paper: published figures (arXiv 2304.03940, Table {number}), on other corpora than the ones given here "
        "unless those are the full Speech Commands v2 (all words), VoxCeleb1, Fluent Speech Commands and IEMOCAP."
    ]
    without = [column for column in columns if column not in paper_columns()]
    return [*notes, *([f"paper: has no figures of {', '.join(without)}."] if without else [])]


@dataclass(frozen=True)
class Row:
    """Accuracies in % by column, of one pooling; ``layer``: a number, a word, or None, the mean over layers.

    ``average``: over the paper's four tasks; None where the columns are not exactly those.
    ``deviation``: standard deviations over repetitions, by task and, where there is an average, of it as "AVG".
    """

    source: str
    pooling: str
    accuracy: Mapping[str, float]
    average: float | None
    layer: int | str | None = None
    deviation: Mapping[str, float] = field(default_factory=dict)


def measured(source: str, pooling: str, accuracy: Mapping[str, float], layer: int | str | None = None) -> Row:
    """A row whose average is computed here."""
    average = sum(accuracy.values()) / len(accuracy) if are_the_papers(accuracy) else None
    return Row(source, pooling, accuracy, average, layer)


def repeated(
    source: str, pooling: str, runs: Mapping[str, Sequence[float]], layer: int | str | None = None
) -> Row:
    """A row of means over repetitions, as many in each task; with sample standard deviations if more than one."""
    row = measured(source, pooling, {task: mean(figures) for task, figures in runs.items()}, layer)
    averages = {} if row.average is None else {"AVG": [mean(run) for run in zip(*runs.values())]}
    columns = {**runs, **averages}
    return replace(row, deviation={name: stdev(each) for name, each in columns.items() if len(each) > 1})


def published(figures: Figures, poolings: Iterable[str], columns: Sequence[str]) -> list[Row]:
    """The paper's rows of these poolings, upstream after upstream; averages as they were printed.

    A task that the paper does not have gets no figure.
    """
    wanted = list(poolings)
    return [
        Row(f"paper: {upstream}", name, row.of(columns), row.average if are_the_papers(columns) else None)
        for upstream, rows in figures.items()
        for name, row in rows.items()
        if name in wanted
    ]


def told(score: Any) -> dict[str, Any]:
    """The score of a fold as JSON tells it; predictions have a file of their own."""
    return {name: value for name, value in asdict(score).items() if name != "predicted"}


def files(folder: Path, stem: str) -> list[Path]:
    """What `Table.write` writes."""
    return [folder / f"{stem}.{suffix}" for suffix in ("csv", "md", "json", "predictions.csv")]


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        tasks: in the order of their columns.
        notes: lines below the table.
        configuration: what determined the numbers.
        predictions: of every test utterance, as `predictions.rows` gives them.
    """

    title: str
    tasks: tuple[str, ...]
    rows: Sequence[Row]
    notes: Sequence[str]
    configuration: Mapping[str, Any]
    predictions: pd.DataFrame

    def write(self, folder: Path, stem: str) -> list[Path]:
        """The `files` of a table in ``folder``, each there only when it is whole; their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        *paths, found = files(folder, stem)
        for path, text in zip(paths, (self.csv(), self.markdown(), self.json())):
            write_text(path, text)
        predictions.write(found, self.predictions)
        return [*paths, found]

    def csv(self) -> str:
        """One line per row; ``layer`` is "mean" for the mean over layers; deviations, if any, follow the accuracies."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        spread = self._columns if any(row.deviation for row in self.rows) else []
        writer.writerow(["source", "pooling", "layer", *self._columns, *(f"{name} sd" for name in spread)])
        for row in self.rows:
            layer = "mean" if row.layer is None else row.layer
            deviations = [_number(row.deviation.get(name)) for name in spread]
            writer.writerow([row.source, row.pooling, layer, *self._figures(row), *deviations])
        return out.getvalue()

    def markdown(self) -> str:
        """The table of the means over layers, the one of single layers, and the notes."""
        lines = [f"# {self.title}", ""]
        for heading, names, body in self._parts():
            lines += [f"## {heading}", ""] if heading else []
            lines += [_line(names), _line(["---"] * len(names)), *map(_line, body), ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes), ""])

    def json(self) -> str:
        """Rows in full precision, and the configuration."""
        content = {"title": self.title, "notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}
        return json.dumps({**content, **self.configuration}, indent=1, default=str) + "\n"

    def show(self) -> None:
        """Print it on stdout."""
        from rich.console import Console

        console = Console()
        for heading, names, body in self._parts():
            console.print(_rich(heading or self.title, names, body))
        for note in self.notes:
            console.print(note, style="dim", markup=False, highlight=False)

    @property
    def _columns(self) -> list[str]:
        return [*self.tasks, *(["AVG"] if are_the_papers(self.tasks) else [])]

    def _figures(self, row: Row) -> list[str]:
        figures = [row.accuracy.get(task) for task in self.tasks] + [row.average]
        return [_number(figure) for figure in figures[: len(self._columns)]]

    def _cells(self, row: Row) -> list[str]:
        """Figures, each with its deviation, if any."""
        deviations = [_number(row.deviation.get(name)) for name in self._columns]
        return [f"{x} ±{d}" if d else x for x, d in zip(self._figures(row), deviations)]

    def _parts(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """(heading, column names, cells) of the main table and, where there are rows of it, that of single layers."""
        means = [row for row in self.rows if row.layer is None]
        layers = [row for row in self.rows if row.layer is not None]
        cells = [[row.source, row.pooling, *self._cells(row)] for row in means]
        parts = [("", ["source", "pooling", *self._columns], _once(cells))]
        if layers:
            cells = [[row.pooling, str(row.layer), *self._cells(row)] for row in layers]
            parts.append(("By layer", ["pooling", "layer", *self._columns], _once(cells)))
        return parts


def _number(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def _once(cells: list[list[str]]) -> list[list[str]]:
    """The first cell of a row, or an empty one if it equals the cell above."""
    above = ["", *(row[0] for row in cells)]
    return [["" if row[0] == before else row[0], *row[1:]] for before, row in zip(above, cells)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rich(title: str, names: list[str], body: list[list[str]]) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    table = RichTable(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, name in enumerate(names):
        table.add_column(name, justify="left" if position < 2 else "right", no_wrap=position < 2)
    for number, cells in enumerate(body):
        if cells[0] and number:
            table.add_section()
        table.add_row(*cells)
    return table
