r"""A table as a paper prints it, in LaTeX with `\usepackage{booktabs}` and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from .escape import latex

if TYPE_CHECKING:
    from .table import Row, Table


def document(table: Table) -> str:
    r"""The rows that are not of single layers, as a `table*`; in each column the best of a source is bold.

    Behind a figure stand $\dagger$ where it differs from AP, the deviation over seeds, and the interval. The notes are
    comments.
    """
    rows = [row for row in table.rows if row.layer is None]
    lines = [
        *(f"% {' '.join(note.split())}" for note in table.notes),
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{latex(table.title)}}}",
        rf"\begin{{tabular}}{{ll{'r' * len(table.columns)}}}",
        r"\toprule",
        _row(["", "", *map(latex, table.columns)]),
    ]
    for source, group in groupby(rows, key=lambda row: row.source):
        lines += [r"\midrule", *_source(source, list(group), table.columns)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _source(source: str, rows: list[Row], columns: list[str]) -> Iterator[str]:
    figures = [[_rounded(row, name) for name in columns] for row in rows]
    best = [max((each for each in column if each is not None), default=None) for column in zip(*figures)]
    for number, (row, own) in enumerate(zip(rows, figures)):
        cells = [_cell(row, *each) for each in zip(columns, own, best)]
        yield _row([latex(source) if number == 0 else "", latex(row.pooling), *cells])


def _rounded(row: Row, name: str) -> float | None:
    figure = row.figures.get(name)
    return None if figure is None else round(figure, 2)


def _cell(row: Row, name: str, figure: float | None, best: float | None) -> str:
    if figure is None:
        return ""
    shown = f"{figure:.2f}"
    parts = [rf"\textbf{{{shown}}}" if figure == best else shown]
    parts += [r"$^\dagger$"] if row.differs(name) else []
    beside = [rf"$\pm${row.deviation[name]:.2f}"] if name in row.deviation else []
    beside += ["[{:.1f}, {:.1f}]".format(*row.interval[name])] if name in row.interval else []
    return "".join(parts) + (rf" {{\scriptsize {' '.join(beside)}}}" if beside else "")


def _row(cells: list[str]) -> str:
    return rf"{' & '.join(cells)} \\"
