"""One table over several upstreams, as the paper prints it, and what differs from the published figures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..corpora.tasks import registered
from ..errors import InputError
from ..files import parse_json, write_text
from . import latex
from .escape import markdown
from .published import TABLE1, TABLE2, UPSTREAMS, Figures
from .table import Row, Table, about_published, published


@dataclass(frozen=True)
class Beside:
    """One accuracy in % beside the published one; ``interval``: 95 %, None where the table has none."""

    upstream: str
    pooling: str
    task: str
    ours: float
    interval: tuple[float, float] | None
    paper: float

    @property
    def differs(self) -> bool:
        """Whether the published figure lies outside the interval."""
        return self.interval is not None and not self.interval[0] <= self.paper <= self.interval[1]


@dataclass(frozen=True)
class Joined:
    """Tables of one kind: their stem (`nearest`, `supervised_paper`, ...), the table over all, and the comparison."""

    stem: str
    table: Table
    beside: Sequence[Beside]

    def write(self, folder: Path) -> list[Path]:
        """STEM.csv, .md, .json and .tex in ``folder``; the comparison stands in .md and .json."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = files(folder, self.stem)
        content = {
            **json.loads(self.table.json()),
            "beside the paper": [_cells(each) for each in self.beside],
        }
        texts = (
            self.table.csv(),
            self.table.markdown() + self._markdown(),
            json.dumps(content, indent=1) + "\n",
            latex.document(self.table),
        )
        for path, text in zip(paths, texts):
            write_text(path, text)
        return paths

    def _markdown(self) -> str:
        if not self.beside:
            return ""
        lines = ["", "## Beside the published figures", ""]
        lines += ["`*`: the published figure lies outside the 95 % interval of ours.", ""]
        lines += ["| upstream | pooling | task | ours | interval | paper | difference | |", f"|{'---|' * 8}"]
        lines += [f"| {' | '.join(map(markdown, _cells(each).values()))} |" for each in self.beside]
        return "\n".join([*lines, ""])


def files(folder: Path, stem: str) -> list[Path]:
    """What `Joined.write` writes."""
    return [folder / f"{stem}.{suffix}" for suffix in ("csv", "md", "json", "tex")]


def join(paths: Sequence[Path]) -> Joined:
    """The tables of several upstreams as one: the rows over the mean of the layers, in the order given.

    Args:
        paths: JSON files of one kind of table that `vqpool benchmark` wrote.

    Raises:
        InputError: another file, two kinds of tables, or two of one upstream.
    """
    tables = {path: _read(path) for path in paths}
    first = next(iter(tables.values()))
    rows: list[Row] = []
    for path, content in tables.items():
        if content["title"] != first["title"]:
            raise InputError(
                f"{path}: {content['title']!r}, but {paths[0]} is {first['title']!r}: give one kind."
            )
        own = [row for row in map(_row, content["rows"]) if not row.source.startswith("paper: ")]
        if {row.source for row in own} & {row.source for row in rows}:
            raise InputError(f"{path}: {own[0].source} has a table already: give one for each upstream.")
        rows += [row for row in own if row.layer is None]
    found = {task for row in rows for task in row.accuracy}
    tasks = tuple(task.column for task in registered() if task.column in found)
    protocol = first.get("protocol")
    figures = TABLE1 if protocol is None else TABLE2
    theirs = published(figures, dict.fromkeys(row.pooling for row in rows), tasks)
    notes = [*_notes(list(tables.values())), *about_published(1 if protocol is None else 2, tasks)]
    table = Table(first["title"], tasks, [*rows, *theirs], notes, {"joined": list(map(str, paths))}, None)
    beside = [] if protocol == "superb" else list(_beside(rows, figures))
    return Joined("nearest" if protocol is None else f"supervised_{protocol}", table, beside)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(
            path.read_text("utf-8"), str(path), "Expected a table that vqpool benchmark wrote."
        )
        rows = [_row(row) for row in content["rows"]]
        if not rows or not isinstance(content["title"], str) or not isinstance(content["notes"], list):
            raise TypeError("rows")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: not a table that vqpool benchmark wrote.") from error
    return content


def _row(row: Mapping[str, Any]) -> Row:
    numbers = {key: {str(k): float(v) for k, v in row[key].items()} for key in ("accuracy", "deviation", "p")}
    interval = {str(name): (float(low), float(high)) for name, (low, high) in row["interval"].items()}
    average = None if row["average"] is None else float(row["average"])
    names = str(row["source"]), str(row["pooling"])
    deviation, p = numbers["deviation"], numbers["p"]
    return Row(*names, numbers["accuracy"], average, row["layer"], deviation, interval, p, row["slots"])


def _notes(tables: Sequence[dict[str, Any]]) -> list[str]:
    """Each note once; those that not all tables have begin with the upstream. Published figures have their own."""
    found: list[str] = []
    for content in tables:
        for note in content["notes"]:
            if not note.startswith("paper: "):
                shared = all(note in each["notes"] for each in tables)
                found.append(note if shared else f"{content['rows'][0]['source']}: {note}")
    return list(dict.fromkeys(found))


def _beside(rows: Sequence[Row], figures: Figures) -> Iterator[Beside]:
    for row in rows:
        printed = figures.get(UPSTREAMS.get(row.source, ""), {}).get(row.pooling)
        for task, paper in (printed.of(row.accuracy) if printed else {}).items():
            interval = row.interval.get(task)
            yield Beside(row.source, row.pooling, task, row.accuracy[task], interval, paper)


def _cells(each: Beside) -> dict[str, str]:
    interval = f"{each.interval[0]:.2f} to {each.interval[1]:.2f}" if each.interval else ""
    return {
        "upstream": each.upstream,
        "pooling": each.pooling,
        "task": each.task,
        "ours": f"{each.ours:.2f}",
        "interval": interval,
        "paper": f"{each.paper:.2f}",
        "difference": f"{each.ours - each.paper:+.2f}",
        "differs": "*" if each.differs else "",
    }
