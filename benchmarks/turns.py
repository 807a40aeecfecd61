"""Time things by turns in one process, and keep the figures: what the programs of this folder share.

By turns, since machines are shared: other work slows all that take turns in the same way, so that a ratio of two of
them holds where seconds do not. On one CPU thread the seconds are those that the thread worked (other processes on its
core do not count), else those that passed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles

import torch
from tqdm import tqdm

#: How often each is called before the first that counts.
BURN_IN = 2


@dataclass(frozen=True)
class Figure:
    """A measured number, and where the middle half of its turns lies (both ends are the number where it was one)."""

    value: float
    low: float
    high: float
    turns: int
    unit: str

    @classmethod
    def of(cls, values: Sequence[float], unit: str) -> Figure:
        """The median and the quartiles of what was measured."""
        low, _, high = quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
        return cls(median(values), low, high, len(values), unit)

    def __str__(self) -> str:
        spread = f" [{self.low:.3g}, {self.high:.3g}]" if self.turns > 1 else ""
        return f"{self.value:.3g}{spread} {self.unit}".strip()


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Of one call: of this thread where torch has no other, else of the clock on the wall."""
    clock = time.thread_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def by_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    burn_in: int = BURN_IN,
    title: str | None = None,
) -> dict[str, list[float]]:
    """Call each in every round, another one first each time. Returns the seconds of each, in the order of rounds.

    ``title`` names a bar of progress; without one there is none.
    """
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    for k in tqdm(range(-burn_in, rounds), desc=title, unit="round", disable=None if title else True):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            spent = seconds(calls[name], device)
            if k >= 0:
                times[name].append(spent)
    return times


def ratio(times: Mapping[str, Sequence[float]], of: str, to: str) -> Figure:
    """How many times as long one takes as the other: the median of the ratios within each round."""
    return Figure.of([a / b for a, b in zip(times[of], times[to])], "x")


class Figures:
    """The figures of one program, by name, which go into a file if ``--json`` names one."""

    def __init__(self, file: Path | None) -> None:
        self.file, self.known = file, dict[str, Figure]()

    @staticmethod
    def option(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures into this file")

    def add(self, name: str, figure: Figure) -> Figure:
        """Take a figure in. What is known so far is written, as a long run may be cut short."""
        self.known[name] = figure
        if self.file:
            figures = {each: asdict(known) for each, known in self.known.items()}
            content = {"machine": machine(), "figures": figures}
            self.file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return figure


def machine() -> dict[str, str | int]:
    """What the figures depend on, and the day."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The name of the GPU where there is one, else that of the CPU as Linux says it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
