"""A table of accuracies: on the terminal, as CSV, Markdown, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ..files import write_text
from . import latex, per_class, predictions, provenance
from .escape import inert, markdown
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
    notes = notes if len(without) < len(columns) else []
    return [*notes, *([f"paper: has no figures of {', '.join(without)}."] if without else [])]


@dataclass(frozen=True)
class Row:
    """Accuracies in % by column, of one pooling; ``layer``: a number, a word, or None, the mean over layers.

    ``average``: over the paper's four tasks; None where the columns are not exactly those.
    ``deviation``: standard deviations over repetitions, by task and, where there is an average, of it as "AVG".
    ``interval``: limits of 95 % intervals, likewise. ``p``: p-values against AP, by task. ``slots``: accuracies of the
    slots of a label by task, where it has several.
    """

    source: str
    pooling: str
    accuracy: Mapping[str, float]
    average: float | None
    layer: int | str | None = None
    deviation: Mapping[str, float] = field(default_factory=dict)
    interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    p: Mapping[str, float] = field(default_factory=dict)
    slots: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float | None]:
        """Accuracies by task, and the average as "AVG"."""
        return {**self.accuracy, "AVG": self.average}

    def differs(self, column: str) -> bool:
        """Whether it differs from AP there, p < 0.05."""
        return self.p.get(column, 1.0) < 0.05


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

    A task that the paper does not have gets no figure. If it has none of them, there are no rows.
    """
    wanted = list(poolings)
    return [
        Row(f"paper: {upstream}", name, row.of(columns), row.average if are_the_papers(columns) else None)
        for upstream, rows in figures.items()
        for name, row in rows.items()
        if name in wanted and row.of(columns)
    ]


def told(score: Any) -> dict[str, Any]:
    """The score of a fold as JSON tells it; predictions have a file of their own."""
    return {name: value for name, value in asdict(score).items() if name != "predicted"}


#: What `Table.write` writes: the table four times, and what it was computed from and with.
SUFFIXES = ("csv", "md", "json", "tex", "predictions.csv", "classes.csv", "provenance.json")


def files(folder: Path, stem: str) -> list[Path]:
    """What `Table.write` writes."""
    return [folder / f"{stem}.{suffix}" for suffix in SUFFIXES]


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
        paths = files(folder, stem)
        *tables, found, classes, origin = paths
        for path, text in zip(tables, (self.csv(), self.markdown(), self.json(), latex.document(self))):
            write_text(path, text)
        predictions.write(found, self.predictions)
        write_text(classes, per_class.csv(self.predictions))
        write_text(origin, provenance.describe([*tables, found, classes]))
        return paths

    def csv(self) -> str:
        """One line per row; ``layer`` is "mean" for the mean over layers.

        After the accuracies come, where there are any: deviations (``KS sd``), limits of intervals (``KS low``,
        ``KS high``), p-values against AP (``KS p``) and accuracies of slots (``IC action``).
        """
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        beside = [self._beside(row) for row in self.rows]
        more = [name for name in dict.fromkeys(chain(*beside)) if any(each.get(name) for each in beside)]
        writer.writerow(map(inert, ["source", "pooling", "layer", *self.columns, *more]))
        for row, each in zip(self.rows, beside):
            layer = "mean" if row.layer is None else str(row.layer)
            names = map(inert, (row.source, row.pooling, layer))
            writer.writerow([*names, *self._figures(row), *(each.get(name, "") for name in more)])
        return out.getvalue()

    def _beside(self, row: Row) -> dict[str, str]:
        """Cells by the names of their columns, for all that may stand beside the accuracies."""
        limits = {name: row.interval.get(name, (None, None)) for name in self.columns}
        return {
            **{f"{name} sd": _number(row.deviation.get(name)) for name in self.columns},
            **{
                f"{name} {end}": _number(x)
                for name in limits
                for end, x in zip(("low", "high"), limits[name])
            },
            **{f"{name} p": f"{row.p[name]:.3g}" if name in row.p else "" for name in self.tasks},
            **{f"{name} {slot}": _number(x) for name, each in row.slots.items() for slot, x in each.items()},
        }

    def markdown(self) -> str:
        """The table of the means over layers, those of slots and of single layers, and the notes."""
        lines = [f"# {markdown(self.title)}", ""]
        for heading, names, body in self._parts(" [{}, {}]"):
            lines += [f"## {markdown(heading)}", ""] if heading else []
            lines += [_line(names), _line(["---"] * len(names)), *map(_line, body), ""]
        return "\n".join([*lines, *(f"- {markdown(note)}" for note in self.notes), ""])

    def json(self) -> str:
        """Rows in full precision, and the configuration."""
        content = {"title": self.title, "notes": list(self.notes), "rows": [asdict(row) for row in self.rows]}
        return json.dumps({**content, **self.configuration}, indent=1, default=str) + "\n"

    def show(self) -> None:
        """Print it on stdout."""
        from rich.console import Console

        console = Console()
        for heading, names, body in self._parts("\n{}- {}"):  # which takes no more room than a figure
            console.print(_rich(heading or self.title, names, body))
        for note in self.notes:
            console.print(note, style="dim", markup=False, highlight=False)

    @property
    def columns(self) -> list[str]:
        """The tasks and, where they are the paper's, AVG."""
        return [*self.tasks, *(["AVG"] if are_the_papers(self.tasks) else [])]

    def _figures(self, row: Row) -> list[str]:
        return [_number(row.figures.get(name)) for name in self.columns]

    def _cells(self, row: Row, between: str) -> list[str]:
        """Figures, each with what is beside it: † for a difference from AP, deviation, interval."""
        found = []
        for name, figure in zip(self.columns, self._figures(row)):
            spread = f" ±{row.deviation[name]:.2f}" if name in row.deviation else ""
            limits = between.format(*map(_limit, row.interval[name])) if name in row.interval else ""
            found.append(f"{figure}{'†' * row.differs(name)}{spread}{limits}")
        return found

    def _parts(self, between: str) -> list[tuple[str, list[str], list[list[str]]]]:
        """(heading, column names, cells) of the main table and, where there are rows of them, of slots and layers.

        ``between``: how the limits of an interval are written.
        """
        means = [row for row in self.rows if row.layer is None]
        layers = [row for row in self.rows if row.layer is not None]
        cells = [[row.source, row.pooling, *self._cells(row, between)] for row in means]
        parts = [("", ["source", "pooling", *self.columns], _once(cells))]
        for name in self.tasks:
            split = [row for row in means if name in row.slots]
            if split:
                slots = list(split[0].slots[name])
                cells = [[row.source, row.pooling, *map(_number, row.slots[name].values())] for row in split]
                parts.append((f"{name} by slot", ["source", "pooling", *slots], _once(cells)))
        if layers:
            cells = [[row.pooling, str(row.layer), *self._cells(row, between)] for row in layers]
            parts.append(("By layer", ["pooling", "layer", *self.columns], _once(cells)))
        return parts


def _number(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def _limit(figure: float) -> str:
    return f"{figure:.1f}".replace("100.0", "100")


def _once(cells: list[list[str]]) -> list[list[str]]:
    """The first cell of a row, or an empty one if it equals the cell above."""
    above = ["", *(row[0] for row in cells)]
    return [["" if row[0] == before else row[0], *row[1:]] for before, row in zip(above, cells)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(markdown, cells))} |"


def _rich(title: str, names: list[str], body: list[list[str]]) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=Text(title), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, name in enumerate(names):
        table.add_column(Text(name), justify="left" if position < 2 else "right", no_wrap=position < 2)
    for number, cells in enumerate(body):
        if cells[0] and number:
            table.add_section()
        table.add_row(*map(Text, cells))
    return table
