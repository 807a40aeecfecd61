"""The programs of benchmarks/: their figures, and that each can say what it is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path[:0] = [str(FOLDER)]

import bench  # noqa: E402
import turns  # noqa: E402

PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text())
MACHINE = {"date": "2026-01-01", "processor": "P", "threads": 1, "torch": "2", "python": "3"}


def figure(value: float, low: float, high: float, count: int = 5) -> dict[str, float | str]:
    return {"value": value, "low": low, "high": high, "turns": count, "unit": "x"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_what_it_is_for(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, str(FOLDER / program), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f"usage: {program}")
    assert program.removesuffix(".py") not in bench.RUNS or "--json FILE" in said.stdout


def test_each_is_first_in_turn_and_burn_in_does_not_count() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    times = turns.by_turns(calls, rounds=2, burn_in=1)
    assert "".join(called) == "cab" + "abc" + "bca"
    assert {name: len(each) for name, each in times.items()} == {"a": 2, "b": 2, "c": 2}


def test_a_ratio_is_the_median_of_the_ratios_within_rounds() -> None:
    times = {"a": [1.0, 8.0, 3.0], "b": [1.0, 2.0, 1.0]}
    assert turns.ratio(times, "a", "b") == turns.Figure(3.0, 1.0, 4.0, 3, "x")  # of 1, 4 and 3
    assert turns.Figure.of([7.0], "s") == turns.Figure(7.0, 7.0, 7.0, 1, "s")


def test_figures_are_written_as_they_come(tmp_path: Path) -> None:
    figures = turns.Figures(tmp_path / "f.json")
    for name in ("one", "two"):
        figures.add(name, turns.Figure.of([2.0], "x"))
        assert name in json.loads((tmp_path / "f.json").read_text())["figures"]


def test_the_last_run_on_the_same_machine_is_compared(tmp_path: Path) -> None:
    for day, changed in (("1", {}), ("2", {}), ("3", {"processor": "Q"})):
        content = {"machine": {**MACHINE, **changed, "date": day}, "figures": {"f": figure(float(day), 0, 9)}}
        (tmp_path / f"{day}.json").write_text(json.dumps(content))
    when, figures = bench.last(tmp_path, MACHINE)
    assert when == "2"
    assert figures["f"]["value"] == 2
    assert bench.last(tmp_path, {**MACHINE, "torch": "3"}) == ("", {})


@pytest.mark.parametrize(
    ("now", "before", "marked"),
    [
        (figure(2, 1.9, 2.1), figure(1, 0.9, 1.1), True),
        (figure(1, 0.9, 1.1), figure(2, 1.9, 2.1), True),
        (figure(2, 1.0, 2.1), figure(1, 0.9, 1.1), False),
        (figure(2, 2, 2, 1), figure(1, 1, 1, 1), False),  # one turn has no spread
    ],
)
def test_what_lies_outside_the_last_spread_is_marked(now: dict, before: dict, marked: bool) -> None:
    assert bench.row("f", now, before).endswith("<") is marked
    assert not bench.row("f", now, None).endswith("<")
