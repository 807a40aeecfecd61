"""Which head of a sweep is best on dev: a table of all heads, and a link to the best one."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import write_text
from .batched import Run
from .runs import best, name_of

TABLE = "heads.csv"
LINK = "best"


@dataclass(frozen=True)
class Head:
    """A head at the step of its ``dev-best.ckpt``; ``dev`` and ``test`` in [0, 1].

    Where dev was never evaluated the step is 0 and both are NaN; without test among the splits ``test`` is.
    """

    pooling: str
    rate: str
    step: int
    dev: float
    test: float
    folder: Path

    @property
    def checkpoint(self) -> Path:
        """It is not there where dev was 0 throughout."""
        return self.folder / "dev-best.ckpt"


def heads(runs: Sequence[Run]) -> list[Head]:
    """The head of each run."""
    return [
        Head(
            run.pooling,
            name_of(run.config["optimizer"]["lr"]),
            *(best(run) or (0, math.nan, math.nan)),
            run.folder,
        )
        for run in runs
    ]


def winner(among: Sequence[Head]) -> Head | None:
    """The head that is best on dev, of equals the first; None where dev was never evaluated, or 0 throughout."""
    return max((head for head in among if head.dev > 0), key=lambda head: head.dev, default=None)


def require_place(folder: Path) -> None:
    """Raise InputError where something else has the name of the link."""
    link = folder / LINK
    if link.exists() and not link.is_symlink():
        raise InputError(
            f"{link}: is no link: rename it, or choose another -p; the best head is linked there."
        )


def write(among: Sequence[Head], folder: Path) -> None:
    """Write `TABLE` into ``folder``, and let `LINK` there lead to the winner's folder; without a winner there is none.

    In the column ``chosen`` the winner is ``best``, and the best rate of another pooling ``rate``.
    """
    first = winner(among)
    by_pooling = [
        winner([head for head in among if head.pooling == name]) for name in {h.pooling for h in among}
    ]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["pooling", "lr", "step", "dev", "test", "chosen", "folder"])
    for head in among:
        chosen = "best" if head is first else "rate" if head in by_pooling else ""
        figures = ["" if math.isnan(x) else f"{100 * x:.4f}" for x in (head.dev, head.test)]
        rows.writerow(
            [head.pooling, head.rate, head.step, *figures, chosen, os.path.relpath(head.folder, folder)]
        )
    write_text(folder / TABLE, out.getvalue())
    _link(folder / LINK, None if first is None else Path(os.path.relpath(first.folder, folder)))


def _link(link: Path, target: Path | None) -> None:
    if target is None:
        link.unlink(missing_ok=True)
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target, target_is_directory=True)
    os.replace(temporary, link)
