"""What a corpus must be before anything is computed on it: complete, and with names that a prediction file can hold."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError, unknown_name
from .base import SPLITS, Corpus

ALLOW = "datarc.allow_missing_classes"
"""The option by which people train on parts of a corpus."""


def require_classes(corpus: Corpus, allow_missing_classes: bool | Sequence[str] = False) -> None:
    """Raise InputError unless every class has an utterance in every split.

    Args:
        allow_missing_classes: True where classes may lack utterances, or the names of those that may.

    Raises:
        InputError: a class that has none; names the first, counts all. Or a name that is no class.
    """
    known = {name for names in corpus.classes for name in names}
    may_lack = allowed(allow_missing_classes, known)
    for split in SPLITS:
        for slot, names in enumerate(corpus.classes):
            found = {utterance.label[slot] for utterance in corpus.splits[split]}
            missing = [
                name for index, name in enumerate(names) if index not in found and name not in may_lack
            ]
            if missing:
                raise InputError(
                    f"{corpus.name}: {split} has no utterance of {_shown(missing)} ({len(missing)} of {len(names)}"
                    f" classes). Fetch the corpus again, or allow it: {ALLOW}: true, or a list of such classes."
                )


def allowed(given: bool | Sequence[str], known: set[str]) -> set[str]:
    """The names of ``known`` classes that `ALLOW` lets lack utterances; InputError for a name that is no class."""
    given = {"true": True, "false": False}.get(str(given).lower(), given)  # `-o` knows True only
    if isinstance(given, bool):
        return known if given else set()
    if not isinstance(given, (list, tuple)) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{ALLOW}: expected true, false or a list of classes, but got {given!r}.")
    for name in given:
        if name not in known:
            raise unknown_name(f"class in {ALLOW}:", name, sorted(known))
    return set(given)


def _shown(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def require_names(corpus: Corpus, separator: str, slots: int) -> None:
    """Raises InputError for a name that would make a line of the prediction file ambiguous, or that is not UTF-8.

    Args:
        separator: what stands between the fields of a line.
        slots: labels in a line; where there is one, it may hold the separator.
    """
    for split in SPLITS:
        for utterance in corpus.splits[split]:
            problem = _unwritable(utterance.id, separator)
            if problem:
                raise InputError(f"{utterance.path}: its name {problem}. Rename the file.")
    for name in (name for names in corpus.classes for name in names):
        problem = _unwritable(name, separator if slots > 1 else "")
        if problem:
            raise InputError(f"{corpus.name}: the class {name!r} {problem}. Rename the class.")


def _unwritable(name: str, separator: str) -> str | None:
    if len(name.splitlines()) != 1:
        return "is empty or has a line break in it, but a line of the prediction file is one utterance"
    if (separator == " " and name.split() != [name]) or (separator and separator in name):
        return f"holds {separator!r}, which separates the fields of the prediction file"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8, as the prediction file is"
    return None


def unofficial(corpus: Corpus, official: int | None) -> str:
    """A note where the test set has not the ``official`` number of utterances; else nothing."""
    count = len(corpus.splits["test"])
    return (
        "" if official in (None, count) else f" (not the official test set, which has {official} utterances)"
    )
