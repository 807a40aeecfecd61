"""What of this project's output lies below folders: stores, tables, figures, experiments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files import parse_json, parse_yaml, walk
from ...store.files import DONE, MANIFEST

#: A line of `log.log`; what `-m evaluate` appends is at step 0.
_LINE = re.compile(r"^(dev|test) at step (\d+): (\S+)$", re.MULTILINE)
_CONFIGS = "config_*.yaml"
_ARGUMENTS = "args_*.yaml"


@dataclass(frozen=True)
class Grid:
    """A table of the page: cells are text, or a number with what stands behind it, such as an interval."""

    title: str
    columns: list[str]
    rows: list[list[str | tuple[float, str]]]
    notes: list[str]
    first_figure: int


@dataclass
class Found:
    """Paths of what was found, each kind in the order of the folders and of their names."""

    stores: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    experiments: list[Path] = field(default_factory=list)


def below(folders: Sequence[Path]) -> Found:
    """What lies below ``folders``; InputError where one does not exist, or where nothing is found."""
    found = Found()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder: name what vqpool reproduce, benchmark, extract or demo made."
            )
        for path, inside, names in walk(folder):
            inside.sort()
            _sort(Path(path), sorted(names), found)
            if MANIFEST in names:
                inside.clear()
    if not (found.stores or found.tables or found.experiments):
        raise InputError(
            f"{', '.join(map(str, folders))}: no store, table or experiment below: name what vqpool reproduce, "
            "benchmark, extract or demo made."
        )
    return found


def _sort(folder: Path, names: list[str], found: Found) -> None:
    if MANIFEST in names:
        if DONE in names:
            found.stores.append(folder)
        return
    if "log.log" in names:
        found.experiments.append(folder)
    found.figures += [folder / name for name in names if name.endswith(".svg")]
    # A table has three files of one name; other JSON files stand alone.
    tables = [
        name
        for name in names
        if name.endswith(".json") and {f"{name[:-5]}.csv", f"{name[:-5]}.md"} <= {*names}
    ]
    found.tables += [folder / name for name in tables]


def table(path: Path) -> Grid:
    """A table of `vqpool benchmark` from its JSON; InputError where it is none."""
    content = parse_json(_text(path), str(path), "Make the table again.")
    try:
        rows = content["rows"]
        tasks = list(dict.fromkeys(task for row in rows for task in row["accuracy"]))
        average = any(row.get("average") is not None for row in rows)
        layered = any(row.get("layer") is not None for row in rows)
        columns = [
            "source",
            "pooling",
            *(["layer"] if layered else []),
            *tasks,
            *(["AVG"] if average else []),
        ]
        cells = [list(_cells(row, tasks, layered, average)) for row in rows]
        notes = [str(note) for note in content["notes"]]
        return Grid(str(content["title"]), columns, cells, notes, 3 if layered else 2)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a table of vqpool benchmark: make it again.") from error


def _cells(row: Any, tasks: list[str], layered: bool, average: bool) -> Iterator[str | tuple[float, str]]:
    yield from (str(row["source"]), str(row["pooling"]))
    if layered:
        yield "mean" if row["layer"] is None else str(row["layer"])
    for task in tasks:
        figure = row["accuracy"].get(task)
        yield "" if figure is None else (float(figure), _spread(row, task))
    if average:
        yield "" if row["average"] is None else (float(row["average"]), _spread(row, "AVG"))


def _spread(row: Any, column: str) -> str:
    """A column's interval, with † where a test finds a difference from AP, else its deviation, in words."""
    p = (row.get("p") or {}).get(column)
    sign = "†" if p is not None and float(p) < 0.05 else ""
    interval = (row.get("interval") or {}).get(column)
    if interval:
        low, high = map(float, interval)
        return f"{low:.1f} to {high:.1f}{sign}"
    deviation = (row.get("deviation") or {}).get(column)
    return "" if deviation is None else f"± {float(deviation):.2f}"


def experiments(folders: Sequence[Path]) -> Grid | None:
    """Of each experiment the best accuracy on dev and the one on test; None where there are none."""
    rows = [row for folder in folders if (row := _experiment(folder))]
    if not rows:
        return None
    notes = ["From log.log. test: at the step that is best on dev, else as -m evaluate found it last."]
    return Grid("Experiments", ["experiment", "upstream", "pooling", "dev", "test"], rows, notes, 3)


def _experiment(folder: Path) -> list[str | tuple[float, str]] | None:
    accuracies: dict[str, dict[int, float]] = {"dev": {}, "test": {}}
    for split, step, figure in _LINE.findall(_text(folder / "log.log")):
        try:
            accuracies[split][int(step)] = 100 * float(figure)
        except ValueError as error:
            raise InputError(f"{folder / 'log.log'}: {figure!r} is no accuracy.") from error
    evaluated = accuracies["test"].pop(0, None)
    accuracies["dev"].pop(0, None)
    if not accuracies["dev"]:
        return None
    step, best = max(accuracies["dev"].items(), key=lambda each: (each[1], -each[0]))
    test = accuracies["test"].get(step, evaluated)
    upstream = _setting(folder, _ARGUMENTS, "upstream")
    pooling = _setting(folder, _CONFIGS, "downstream_expert", "modelrc", "pooling")
    return [
        folder.name,
        upstream,
        pooling,
        (best, f"step {step}"),
        "" if test is None else (test, ""),
    ]


def _setting(folder: Path, pattern: str, *keys: str) -> str:
    """A setting of an experiment; empty where its files do not say."""
    paths = sorted(folder.glob(pattern))
    value = parse_yaml(_text(paths[0]), str(paths[0])) if paths else None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8.") from error
