"""Does the steps of a plan, with a log, and says every minute how far it is."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...errors import InputError, one_line
from ...store.progress import duration, innermost
from .steps import Step

LOG = "reproduce.log"
EVERY = 60.0
"""Seconds between two lines about progress."""


class Log:
    """Lines for `reproduce.log` in ``folder``, with the time before each, and for stderr.

    A line is one write, without a lock: DataLoader forks while another thread may write.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __call__(self, line: str, only_file: bool = False) -> None:
        os.write(self._file, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())
        if not only_file:
            os.write(2, f"{line}\n".encode())


def work(
    steps: Sequence[Step],
    root: Path,
    run: Callable[[list[str]], int],
    log: Log,
    own_code: Sequence[str] = (),
    every: float = EVERY,
) -> None:
    """Do the steps that are not done.

    Args:
        root: the folder of all outputs.
        run: does a command, given the words after `vqpool`.
        own_code: words behind each command that name the user's own upstreams and downstreams.
        every: seconds between lines about progress.
    """
    begun, left_out = time.monotonic(), []
    for number, step in enumerate(steps, start=1):
        why = step.changed(root)
        where = f"[{number}/{len(steps)}] {step.name}"
        if why is None:
            log(f"{where}: there already")
            continue
        words = [*step.argv, *own_code]
        log(f"{where}: {why}")
        log(f"$ vqpool {shlex.join(words)}")
        step.begin()
        started = time.monotonic()
        try:
            with _minutely(where, log, every):
                code = run(words)
        except InputError as error:
            if not step.optional:
                raise
            log(f"{where}: left out: {one_line(error)}")
            left_out.append(step.name)
            continue
        if code:
            raise RuntimeError(f"vqpool {shlex.join(words)} ended with exit code {code}")
        step.end(root)
        log(f"{where}: done in {duration(time.monotonic() - started)}")
    if left_out:
        log(f"left out: {', '.join(left_out)}; the same command tries again")
    done = len(steps) - len(left_out)
    log(f"{done} of {len(steps)} steps are done; this run took {duration(time.monotonic() - begun)}")


@contextmanager
def _minutely(where: str, log: Log, every: float) -> Iterator[None]:
    """A line after every ``every`` seconds; where stderr is a terminal, whose bar says the same, for the file only."""
    stop = threading.Event()

    def tell() -> None:
        while not stop.wait(every):
            counted = innermost()
            log(f"{where}: {counted.in_words() if counted else 'under way'}", only_file=sys.stderr.isatty())

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
