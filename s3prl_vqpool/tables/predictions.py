"""The predictions of every test utterance of a table, as a file: `STEM.predictions.csv`.

One line per test utterance, pooling, fold and seed; those of single layers (`--layers`) are not in it. Every cell but
`right` is text: ``pandas.read_csv(path, dtype=str, keep_default_na=False)`` reads it as it was written, and `read`
also takes back the apostrophe that stands before a cell which a spreadsheet would run as a formula.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..files import whole
from .escape import inert, original
from .nearest import Fold
from .stores import StoredTask

if TYPE_CHECKING:
    import pandas as pd

#: Name of a column -> what it holds.
COLUMNS = {
    "source": "the upstream, as in the table",
    "task": "the table's column: KS, SID, IC, ER, ...",
    "pooling": "name of the pooling",
    "layer": "as in the table's CSV; mean is the row that is not of a single layer",
    "fold": "the fold held out for test; empty where the task has none",
    "seed": "of training; empty where nothing is trained",
    "utterance": "path of the audio file as the store has it, and #START (in samples at 16 kHz) for a part of a file",
    "speaker": "who speaks; empty where the corpus does not say, or where the speaker is the label",
    "slots": "names of the label's slots, joined by ' | '; empty where it has one slot",
    "label": "name of the class; of several slots, the names joined by ' | '",
    "predicted": "as label",
    "right": "1 where predicted is label, in every slot, else 0",
}
#: Between the slots of a label.
SEPARATOR = " | "
#: What one run of predictions is of.
RUN = ["source", "task", "pooling", "layer", "fold", "seed"]


def rows(
    task: StoredTask,
    fold: Fold,
    pooling: str,
    predicted: Tensor,
    seed: int | None = None,
    layer: str = "mean",
) -> pd.DataFrame:
    """`COLUMNS` of one fold and seed, `right` as bool.

    Args:
        predicted: labels int64 [n, slots] of the first n utterances of test.

    Raises:
        InputError: a class of a label with several slots whose name holds `SEPARATOR`.
    """
    import pandas as pd

    if len(task.names) > 1:
        for name in (name for names in task.names for name in names):
            if SEPARATOR in name:
                raise InputError(
                    f"{task.path}: the class {name!r} holds {SEPARATOR!r}, which separates the slots of a label in "
                    "the file of predictions. Rename the class."
                )
    stored = fold.test[: len(predicted)]
    labels, found = _named(task, task.labels[stored]), _named(task, predicted)
    return pd.DataFrame(
        {
            "source": task.store.manifest["upstream"],
            "task": task.name,
            "pooling": pooling,
            "layer": layer,
            "fold": fold.name,
            "seed": "" if seed is None else str(seed),
            "utterance": [_utterance(task, row) for row in stored.tolist()],
            "speaker": [task.speakers[row] for row in stored.tolist()],
            "slots": SEPARATOR.join(task.slots),
            "label": labels,
            "predicted": found,
            "right": [a == b for a, b in zip(labels, found)],
        }
    )


def _named(task: StoredTask, labels: Tensor) -> list[str]:
    slots = [np.array(names, dtype=object)[column] for names, column in zip(task.names, labels.T.numpy())]
    return [SEPARATOR.join(names) for names in zip(*slots)]


def _utterance(task: StoredTask, row: int) -> str:
    stored = task.store.utterances[row]
    path = os.fsencode(stored.path).decode("utf-8", "backslashreplace")
    return path if stored.start is None else f"{path}#{stored.start}"


def write(path: Path, frame: pd.DataFrame) -> None:
    """Write `COLUMNS` of a frame as `rows` gives it; the same frame gives the same bytes."""
    text = [name for name in COLUMNS if name != "right"]
    safe = frame.assign(
        right=frame["right"].astype(int), **{name: _each(frame[name], inert) for name in text}
    )
    with whole(path) as temporary:
        safe.to_csv(
            temporary, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n", encoding="utf-8"
        )


def read(path: str | Path) -> pd.DataFrame:
    """The predictions of a file that `write` wrote: `COLUMNS`, text, and `right` as bool.

    Raises:
        InputError: no such file, or one that is damaged: other columns, a cut line, a run that has not as many
            utterances as others of its task and fold, an utterance that comes twice, or a `right` that is not so.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of predictions: vqpool benchmark writes one.") from None
    except (OSError, ValueError) as error:  # pandas' own errors and those of decoding are ValueErrors
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a file of predictions ({reason}).") from error
    problem = _problem(frame)
    if problem:
        raise InputError(f"{path}: damaged: {problem}. Make it again: vqpool benchmark ... --overwrite.")
    text = [name for name in COLUMNS if name != "right"]
    return frame.assign(**{name: _each(frame[name], original) for name in text}, right=frame["right"] == "1")


def _each(cells: pd.Series, change: Callable[[str], str]) -> pd.Series:
    """``change`` of every cell, called once for each that differs."""
    return cells.map({cell: change(cell) for cell in cells.unique()})


def _problem(frame: pd.DataFrame) -> str | None:
    """What is wrong with a file's content, in words."""
    if list(frame.columns) != list(COLUMNS):
        return f"expected the columns {', '.join(COLUMNS)}"
    if frame.empty:
        return "it has no rows"
    wrong = frame["right"] != (frame["label"] == frame["predicted"]).map({True: "1", False: "0"})
    if wrong.any():
        return f"row {int(wrong.to_numpy().argmax()) + 1}: right is not so"
    if frame.duplicated([*RUN, "utterance"]).any():
        return "an utterance comes twice"
    sizes = frame.groupby(RUN, sort=False).size()
    uneven = sizes.groupby(["task", "fold"]).nunique() > 1
    if uneven.any():
        return f"runs of {' '.join(filter(None, uneven.idxmax()))} have not as many utterances as each other"
    return None


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of several runs below each other."""
    import pandas as pd

    return pd.concat(frames, ignore_index=True)
