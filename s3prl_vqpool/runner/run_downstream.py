"""S3PRL's runner with this project's upstreams and downstreams: checks the command line, then calls S3PRL's main().

Every option is S3PRL's own and has the same meaning. Four things are added: default configs are found from any
directory; the device is the CPU if there is no CUDA; torchrun's LOCAL_RANK becomes --local_rank (s3prl#479); and a
mistake gives one line and exit code 2 instead of a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from .. import files
from ..errors import InputError, run_command
from . import own, plugin


def main(argv: list[str] | None = None) -> int:
    """Run S3PRL's runner; exit code 0, 2 for a mistake in the input, 130 when interrupted, 1 without S3PRL."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return run_command(lambda: _run(argv), lambda: _where(argv), reader_left=1)


def _run(argv: list[str]) -> int:
    plugin.register()
    argv, _ = own.use(argv)
    from s3prl import run_downstream

    from . import command_line
    from .runner import Runner

    argv, folder = command_line.prepare(argv)
    with (
        patch.object(sys, "argv", [sys.argv[0], *argv]),
        patch.object(run_downstream, "Runner", Runner),
        _no_leftovers(command_line.expdir(argv)),
        _alone(folder),
    ):
        run_downstream.main()
    return 0


def _where(argv: list[str]) -> str:
    """How to continue after a signal. It does not use S3PRL's parser, which may not be loaded yet."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for short, long in (("-m", "--mode"), ("-n", "--expname"), ("-p", "--expdir"), ("-e", "--past_exp")):
        parser.add_argument(short, long)
    given, _ = parser.parse_known_args(argv)
    if given.mode != "train":
        return "run_downstream.py: run it again"
    folder = Path(
        given.expdir or (given.expname and f"result/downstream/{given.expname}") or given.past_exp or "."
    )
    states = sorted(folder.glob("states-*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not states:
        return "run_downstream.py: no checkpoint has been saved yet; run it again"
    return f"run_downstream.py: the same command with -a continues from {states[-1]}"


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """`files.alone` of the first process, where it writes results; the other processes of torchrun write nothing."""
    if folder is None or int(os.environ.get("RANK", 0)):
        yield
        return
    with files.alone(folder):
        files.remove_parts(folder)
        yield


@contextmanager
def _no_leftovers(expdir: Path | None) -> Iterator[None]:
    """After a refusal, or too little memory, before the first checkpoint or log line, remove what the start wrote."""
    if expdir is None:
        yield
        return
    before = set(expdir.glob("*"))
    created = next((path for path in [*reversed(expdir.parents), expdir] if not path.exists()), None)
    try:
        yield
    except files.Busy:
        raise
    except (InputError, MemoryError, RuntimeError):
        new = set(expdir.glob("*")) - before
        if all(path.name.startswith(("args_", "config_", "events.")) for path in new):
            for path in new:
                path.unlink()
            folder = expdir
            while created and folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
                if folder == created:
                    break
                folder = folder.parent
        raise


if __name__ == "__main__":
    sys.exit(main())
