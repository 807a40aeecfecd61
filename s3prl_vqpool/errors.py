"""The one error that users see: a single line that names the value and the way out; and the code that prints it.

`run_command` is around both `vqpool` and `run_downstream.py`. It alone handles what the system refuses (a full disk,
missing permissions) and signals.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from types import FrameType


class InputError(ValueError):
    """A mistake in what the user gave (a path, a name, a file's content).

    The message is one line: the file or value, what is wrong with it, what to do. Commands print it
    without a traceback and exit with code 2.
    """


class DamagedCheckpoint(InputError):
    """A file that `torch.save` did not write, or that is damaged."""


class UnreadableFile(InputError):
    """A file that the system does not let us read; it may be undamaged."""


class Stopped(KeyboardInterrupt):
    """SIGINT or SIGTERM has come; ``number`` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def unknown_name(kind: str, name: object, choices: Iterable[str], full_list: bool = True) -> InputError:
    """Error for a name that is not among ``choices``: close matches first, then (optionally) all of them.

    ``name`` is a text, or what else a file holds in its place.

    Examples:
        >>> unknown_name("pooling", "VQ-PL", ["AP", "VQ-LP"])
        InputError("Unknown pooling 'VQ-PL'. Did you mean VQ-LP? Known: AP, VQ-LP.")
    """
    known = list(choices)
    folded = {choice.lower(): choice for choice in known}
    close = [folded[match] for match in get_close_matches(str(name).lower(), folded, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = f" Known: {', '.join(known)}." if full_list or not close else ""
    return InputError(f"Unknown {kind} {name!r}.{hint}{listing}")


def shortened(text: object) -> str:
    """At most 200 characters of a text, without line breaks: for values of files, and errors of libraries."""
    return " ".join(str(text).split())[:200]


def report(error: BaseException) -> int:
    """Print an error as one line on stderr; the exit code for a user's mistake, 2."""
    _say(f"error: {one_line(error)}")
    return 2


def _say(line: str) -> None:
    """Print on stderr, if it takes anything: a command's exit code does not depend on it."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


#: How torch begins the message of an error that it has carried over from a DataLoader's worker, with its traceback.
_WRAPPED = re.compile(r"Caught \w+ in ")
#: What stands before the message of an error that torch has carried over from a DataLoader's worker.
_FROM_WORKER = re.compile(r"^[\w.]*(?:Error|Exception|Checkpoint|File): (?:\[Errno \d+\] )?")


def one_line(error: BaseException) -> str:
    """The message, also of an error that a DataLoader worker raised and torch wrapped into its traceback.

    A newline, as in the name of a file, is written as ``\\n``.
    """
    text = str(error).strip() or type(error).__name__
    if _WRAPPED.match(text):
        return _FROM_WORKER.sub("", text.splitlines()[-1])
    return "\\n".join(text.splitlines()) if isinstance(error, InputError) else " ".join(text.split())


# ------------------------------------------------------------------------------------------ around a command
def run_command(work: Callable[[], int], where: Callable[[], str], reader_left: int = 0) -> int:
    """Run a command; its exit code.

    Args:
        work: the command; its result is the exit code where nothing fails.
        where: what is said after "interrupted in" and "terminated in", and how to go on.
        reader_left: exit code where the reader of standard output has gone (`| head`).

    Returns:
        2 for a mistake of the user and for what the user can mend (a path, permissions, space), 1 for another
        refusal of the system and for what cannot be imported, 130 for SIGINT, 143 for SIGTERM. Other errors are
        raised: they are bugs.
    """
    if sys.stdout is None:
        return report(InputError("standard output is closed: send it to a file, or to /dev/null."))
    try:
        with _others_quiet(), _signals(where):
            code = work()
            _flush()
            return code
    except BrokenPipeError:
        with suppress(OSError):
            _flush()
        return reader_left
    except KeyboardInterrupt as stop:
        line, code = "", 128 + getattr(stop, "number", signal.SIGINT)
    except (InputError, ImportError) as error:
        line, code = one_line(error), 2 if isinstance(error, InputError) else 1
    except Exception as error:
        found = refusal(error)
        if found is None:
            raise
        line, code = one_line(found), 2 if isinstance(found, InputError) else 1
    # here the traceback is gone, so progress bars have printed their last line
    if code > 128:
        return _stopped(code - 128, where)
    _say(f"error: {line}")
    return code


@contextmanager
def _others_quiet() -> Iterator[None]:
    """Inside this context, warnings for the developers of other libraries are hidden, unless -W is given."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
                warnings.simplefilter("ignore", category)
            warnings.filterwarnings("ignore", "This DataLoader will create")  # num_workers is obeyed
        yield


@contextmanager
def _signals(where: Callable[[], str]) -> Iterator[None]:
    """While entered, SIGINT and SIGTERM raise `Stopped`, or, amid an import, end the process at once.

    An import would swallow it: S3PRL has bare excepts there, and other libraries turn it into an ImportError.
    """
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a child that a library has forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif _importing(frame):
            os._exit(_stopped(number, where))
        else:
            raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup, or a job in the background
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _stopped(number: int, where: Callable[[], str]) -> int:
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    _say(f"{word} in {where()}")
    return 128 + number


def _flush() -> None:
    """Write out what standard output holds; where it takes no more, drop the rest, or Python fails on it at exit."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise in_file(error, "standard output") from error


# ------------------------------------------------------------------------------------- what the system refuses
_ADVICE = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EFBIG: "write elsewhere, or raise the limit (ulimit -f)",
    errno.EACCES: "check its permissions, or name another place",
    errno.EPERM: "check its permissions, or name another place",
    errno.EROFS: "name another place",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another place",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "raise the limit (ulimit -n)",
    errno.ENOMEM: "free some memory",
    errno.EBADF: "it is closed",
}
#: The number of a system's error in the message of another: Rust's, Python's in a worker, torch's.
_HIDDEN = re.compile(r"(?:os error |\[Errno |: No space left on device \()(\d+)[)\]]")
_SHORT_WRITE = re.compile(r"PytorchStreamWriter failed|file write failed|unexpected pos \d+ vs")
_MEMORY = re.compile(r"can't allocate memory|out of memory|Unable to allocate ")
_SHARED_MEMORY = re.compile(r"out of shared memory|</?torch_\d+_")


def refusal(error: Exception) -> Exception | None:
    """What the system has refused, as an error of one line: InputError if the user can mend it; None if nothing.

    Libraries hide it: safetensors and torch raise their own errors where a disk is full or /dev/shm too small.
    """
    if isinstance(error, OSError) and error.errno is not None:
        with suppress(OSError):
            _flush()
        return _refused(
            error, os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        )
    if _SHARED_MEMORY.search(str(error)):
        return InputError(
            "/dev/shm: too little shared memory for the DataLoader's workers: enlarge it, or give "
            "-o config.downstream_expert.datarc.num_workers=0."
        )
    if isinstance(error, MemoryError) or _MEMORY.search(str(error)):
        return InputError(
            f"too little memory ({one_line(error)[:150]}): choose smaller sizes or batches, or free some memory."
        )
    hidden = in_file(error, "")
    if isinstance(hidden, OSError) and hidden.errno is not None:
        return _refused(hidden, "")
    return OSError(one_line(error)) if isinstance(error, OSError) else None


def in_file(error: Exception, path: str) -> Exception:
    """``error``, which came while ``path`` was written, as an OSError with that name if the system refused it."""
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, path)
    found = _HIDDEN.search(str(error))
    if found:
        return OSError(int(found[1]), os.strerror(int(found[1])), path)
    if _SHORT_WRITE.search(str(error)):
        return OSError(errno.ENOSPC, "cannot be written whole", path)
    return error


def _refused(error: OSError, place: str) -> Exception:
    text = f"{place}: {error.strerror}" if place else str(error.strerror)
    if error.errno in _ADVICE:
        return InputError(f"{text}: {_ADVICE[error.errno]}.")
    return OSError(f"{text}.")
