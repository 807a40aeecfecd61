"""Which split each utterance of a table is in: by a column, or drawn by speaker or at random."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from ...errors import InputError, unknown_name
from .records import Columns, Record
from .sources import SPLIT_NAMES

BY = ("split", "fold", "speaker", "random")
_KEY = "datarc.split"
_DEFAULTS = {"seed": 0, "dev": 0.1, "test": 0.2}
_FEWEST = 3

Division = dict[str, list[str | None]]
"""For each fold ("" where there is one division) the split of each utterance; None where it is in none."""


@dataclass(frozen=True)
class Plan:
    """How a table is divided.

    Attributes:
        by: one of `BY`.
        seed: of what is drawn.
        dev, test: shares that are drawn.
        folds: number of folds that are drawn, or None.
    """

    by: str
    seed: int = 0
    dev: float = 0.1
    test: float = 0.2
    folds: int | None = None

    @property
    def drawn(self) -> bool:
        """Whether the table itself does not say the splits."""
        return self.by in ("speaker", "random")


def plan(given: Any, used: Columns, table: object) -> Plan:
    """The plan that `datarc.split` tells; where it is empty, by the table's column split or fold.

    Raises:
        InputError: an unknown key, a value out of range, or a column that the table does not have.
    """
    if not isinstance(given, Mapping):
        raise InputError(
            f"{_KEY}: expected such as {{by: speaker, seed: 0, dev: 0.1, test: 0.2}}, but got {given!r}."
        )
    for key in given:
        if key not in ("by", "folds", *_DEFAULTS):
            raise unknown_name(f"key in {_KEY}:", str(key), ("by", "folds", *_DEFAULTS))
    by = given.get("by") or _by(used, table)
    if by not in BY:
        raise unknown_name(f"{_KEY}.by", str(by), BY)
    if by != "random" and by not in used:
        raise InputError(
            f"{table}: no column {by!r}, but {_KEY}.by names it. Add it, or name it: datarc.columns.{by}."
        )
    made = Plan(by, **{key: value for key, value in given.items() if key != "by"})
    _check(made, set(given) - {"by"})
    return made


def _by(used: Columns, table: object) -> str:
    there = [name for name in ("split", "fold") if name in used]
    if len(there) == 1:
        return there[0]
    problem = "has columns split and fold" if there else "has no column split or fold"
    raise InputError(
        f"{table}: {problem}. Say how to divide it: {_KEY}={{'by': 'random'}}, or one of {', '.join(BY)}."
    )


def _check(made: Plan, given: set[str]) -> None:
    if not made.drawn and given:
        raise InputError(f"{_KEY}.{min(given)}: nothing is drawn by {made.by}. Leave it out.")
    if made.folds is not None and given & {"dev", "test"}:
        raise InputError(f"{_KEY}: folds say how large dev and test are. Leave dev and test out.")
    if type(made.seed) is not int:
        raise InputError(f"{_KEY}.seed: expected a whole number, but got {made.seed!r}.")
    if made.folds is not None and (type(made.folds) is not int or made.folds < _FEWEST):
        raise InputError(f"{_KEY}.folds: expected a whole number from {_FEWEST} up, but got {made.folds!r}.")
    for key in ("dev", "test"):
        share = getattr(made, key)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise InputError(f"{_KEY}.{key}: expected a share between 0 and 1, but got {share!r}.")
    if made.dev + made.test >= 1:
        raise InputError(f"{_KEY}: dev {made.dev} and test {made.test} leave nothing for train. Lower them.")


def divide(records: Sequence[Record], made: Plan, used: Columns, table: object) -> Division:
    """The division of a table.

    By several columns split: each is a fold of its name; a cell may be empty there. By a column fold: each fold is
    test once, the one after it is dev, the rest train. Drawn: all utterances of a speaker (``by: random``: of a file)
    are in one split. What is drawn depends on the names, the labels and the seed alone, not on the order of the rows.

    Raises:
        InputError: an unknown name of a split, or too few folds, speakers or files.
    """
    if made.by == "split":
        columns = used["split"]
        several = len(columns) > 1
        return {
            column if several else "": [_split(record, column, several) for record in records]
            for column in columns
        }
    if made.by == "fold":
        (column,) = used["fold"]
        return _rotated([_fold_name(record, column) for record in records], table)
    groups = _groups(records, made, used)
    strata = _strata(groups, [record.labels for record in records], made)
    if not made.folds:
        shares = _drawn(strata, made)
        return {"": [shares[group] for group in groups]}
    numbered = {
        name: place % made.folds for place, name in enumerate(name for names in strata for name in names)
    }
    return _rotated([f"fold{numbered[group] + 1}" for group in groups], table)


def _split(record: Record, column: str, may_be_empty: bool) -> str | None:
    value = record.cells.get(column, "")
    if not value and may_be_empty:
        return None
    if value.lower() not in SPLIT_NAMES:
        raise InputError(
            f"{record.where}: {column} {value!r} is not one of {', '.join(SPLIT_NAMES)}. Correct the cell."
        )
    return SPLIT_NAMES[value.lower()]


def _filled(record: Record, column: str) -> str:
    value = record.cells.get(column, "")
    if not value:
        raise InputError(f"{record.where}: no {column}. Fill the cell, or take the row out.")
    return value


def _fold_name(record: Record, column: str) -> str:
    value = _filled(record, column)
    if not re.fullmatch(r"\w[\w.+-]*", value):
        raise InputError(
            f"{record.where}: {column} {value!r} becomes part of a file's name. Write letters, digits, '-' and '.'."
        )
    return value


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of folds, each once: numbers by their value, then the others by the alphabet."""
    return tuple(sorted(set(names), key=lambda name: (int(name) if name.isdecimal() else inf, name)))


def _rotated(fold_of: Sequence[str], table: object) -> Division:
    names = in_order(fold_of)
    if len(names) < _FEWEST:
        raise InputError(
            f"{table}: has the folds {', '.join(names)}. Expected at least {_FEWEST}: test, dev and train."
        )
    after = dict(zip(names, [*names[1:], names[0]]))
    return {
        name: [{name: "test", after[name]: "dev"}.get(each, "train") for each in fold_of] for name in names
    }


# ------------------------------------------------------------------------------------------------------------- drawing
def _groups(records: Sequence[Record], made: Plan, used: Columns) -> list[str]:
    """What must not be divided: of each utterance the speaker, or the file as the table names it."""
    (column,) = used["speaker" if made.by == "speaker" else "path"]
    names = [_filled(record, column) for record in records]
    return names if made.by == "speaker" else list(map(os.path.normpath, names))


def _strata(groups: Sequence[str], labels: Sequence[tuple[str, ...]], made: Plan) -> list[list[str]]:
    """All speakers, or the files of each label, in the order that the seed draws."""
    label_of: dict[str, tuple[str, ...]] = {}
    for group, label in zip(groups, labels):
        label_of[group] = () if made.by == "speaker" else min(label, label_of.get(group, label))
    least = made.folds or _FEWEST
    if len(label_of) < least:
        what = "speakers" if made.by == "speaker" else "files"
        raise InputError(
            f"{_KEY}: {len(label_of)} {what} are too few for {least} parts. Divide them by hand."
        )
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in sorted(label_of, key=lambda name: hashlib.sha256(f"{made.seed} {name}".encode()).digest()):
        strata[label_of[group]].append(group)
    return [strata[label] for label in sorted(strata)]


def _drawn(strata: Sequence[Sequence[str]], made: Plan) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for names in strata:
        test = min(max(1, round(made.test * len(names))), max(len(names) - 2, 0))
        dev = min(max(1, round(made.dev * len(names))), max(len(names) - test - 1, 0))
        for place, name in enumerate(names):
            split_of[name] = "test" if place < test else "dev" if place < test + dev else "train"
    return split_of
