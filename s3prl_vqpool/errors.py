"""The one error that a user sees: a single line that names the value and the way out."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A mistake in what the user gave (a path, a name, a file's content).

    The message is one line: the file or value, what is wrong with it, what to do. Commands print it
    without a traceback and exit with code 2.
    """


class DamagedCheckpoint(InputError):
    """A file that is not, or not wholly, what `torch.save` wrote."""


class UnreadableFile(InputError):
    """A file that may well be whole, but that the system does not let us read."""


def unknown_name(kind: str, name: str, choices: Iterable[str], full_list: bool = True) -> InputError:
    """Error for a name that is not among ``choices``: close matches first, then (optionally) all of them."""
    known = list(choices)
    folded = {choice.lower(): choice for choice in known}
    close = [folded[match] for match in get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    listing = f" Known: {', '.join(known)}." if full_list or not close else ""
    return InputError(f"Unknown {kind} {name!r}.{hint}{listing}")


def report(error: InputError) -> int:
    """Print an InputError as one line on stderr; the exit code for it, 2."""
    print(f"error: {one_line(error)}", file=sys.stderr)
    return 2


def one_line(error: Exception) -> str:
    """The message, also of an error that a DataLoader worker raised and torch wrapped into its traceback."""
    return str(error).strip().splitlines()[-1].removeprefix(f"{__name__}.{InputError.__name__}: ")
