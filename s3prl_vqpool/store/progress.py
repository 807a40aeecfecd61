"""How far long work is: a bar on a terminal, and in words for whoever asks."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

_open: list[Progress] = []
#: Units that are counted one by one.
_COUNTED = ("score", "step")


class Progress:
    """Counts what is done of ``total`` units; the bar vanishes where stderr is not a terminal.

    Args:
        show: whether there may be a bar.
        bar: further arguments of tqdm.
    """

    def __init__(self, name: str, total: float, unit: str, show: bool = True, **bar: Any) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, 0.0
        self.begun = time.monotonic()
        self._bar = tqdm(
            total=total,
            desc=name,
            unit=unit,
            leave=False,
            disable=None if show else True,
            file=sys.stderr,
            **bar,
        )

    def __enter__(self) -> Progress:
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open.remove(self)
        self._bar.close()

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count ``amount`` more; ``note`` stands behind the bar."""
        self.done += amount
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(amount)

    @property
    def rate(self) -> float:
        """Units per hour so far."""
        return self.done / max(time.monotonic() - self.begun, 1e-3) * 3600

    def in_words(self) -> str:
        """Done, left, rate and the time that is left.

        Examples:
            >>> with Progress("extracting", 8, "h of speech") as progress:
            ...     progress.begun -= 60
            ...     progress.advance(2)
            ...     progress.in_words()
            'extracting: 2.00 of 8.00 h of speech done, 6.00 left, 120.0 h of speech per hour, 3 min to go'
        """
        left = self.total - self.done
        to_go = f"{duration(left / self.rate * 3600)} to go" if self.done else "time to go not known yet"
        counts = (
            f"{number:,.0f}" if float(self.total).is_integer() and self.unit in _COUNTED else f"{number:,.2f}"
            for number in (self.done, self.total, left)
        )
        done, total, left_in_words = counts
        return (
            f"{self.name}: {done} of {total} {self.unit} done, {left_in_words} left, "
            f"{self.rate:,.1f} {self.unit} per hour, {to_go}"
        )


def innermost() -> Progress | None:
    """What is counted just now."""
    return _open[-1] if _open else None


def duration(seconds: float) -> str:
    """In words.

    Examples:
        >>> duration(42), duration(190), duration(7300)
        ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"
