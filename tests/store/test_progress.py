"""What long work says of itself: the bar, and the words for a log."""

from __future__ import annotations

import io
import sys

import pytest

from s3prl_vqpool.store import progress
from s3prl_vqpool.store.progress import Progress, duration, innermost


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (99.4, "99 s"), (99.5, "2 min"), (150.1, "3 min"), (5969, "99 min"), (5970, "1 h 40 min"),
        (3600 * 1234 + 125, "1,234 h 2 min"),
    ],
)  # fmt: skip
def test_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_bar_shows_what_is_done_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(
        "embedding", 8, "h", bar_format="{desc} {n:.1f}/{total:.1f} {unit} {postfix}", mininterval=0
    ) as work:
        work.advance(2.5, "a note")
        work.advance(4)
        assert work.done == 6.5
        assert "embedding 6.5/8.0 h , a note" in sys.stderr.getvalue()  # type: ignore[attr-defined]
        work.advance()
        assert work.done == 7.5
    assert sys.stderr.getvalue().endswith("\r")  # type: ignore[attr-defined]


@pytest.mark.parametrize("stderr", [Terminal, io.StringIO])
def test_no_bar_where_none_is_wanted_or_no_terminal(stderr: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr())
    with Progress("embedding", 8, "h", show=stderr is io.StringIO) as work:
        work.advance(2)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    assert work.done == 2


def test_words_tell_done_left_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("extracting", 10, "h of speech") as work:
        assert work.in_words() == (
            "extracting: 0.00 of 10.00 h of speech done, 10.00 left, 0.0 h of speech per hour, time to go not known yet"
        )
        now[0] += 1800
        work.advance(4)
        assert work.rate == 8
        assert work.in_words() == (
            "extracting: 4.00 of 10.00 h of speech done, 6.00 left, 8.0 h of speech per hour, 45 min to go"
        )
    for unit in ("score", "step"):
        with Progress("training", 6, unit) as work:
            now[0] += 3600
            work.advance(2)
            assert (
                work.in_words()
                == f"training: 2 of 6 {unit} done, 4 left, 2.0 {unit} per hour, 2 h 0 min to go"
            )


def test_the_innermost_is_told() -> None:
    assert innermost() is None
    with Progress("a", 1, "x") as outer:
        assert innermost() is outer
        with Progress("b", 1, "x") as inner:
            assert innermost() is inner
        assert innermost() is outer
    assert innermost() is None
