"""Results of each class, and confusion matrices, from predictions as `predictions.read` gives them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .escape import inert
from .predictions import SEPARATOR

if TYPE_CHECKING:
    import pandas as pd

#: What a row of `classes` is of, with the slot ("" for the whole label) and the class.
GROUP = ["source", "task", "pooling", "layer"]
MEASURES = ["precision", "recall", "f1", "support"]


def classes(predictions: pd.DataFrame) -> pd.DataFrame:
    """Precision, recall and F1 in % and support (utterances) of each class, of whole labels and of single slots.

    Folds are put together; of several seeds it is the mean. A class that is never predicted has the precision 0.

    Source: scikit-learn's `precision_recall_fscore_support`.
    """
    import pandas as pd

    found = []
    for names, group in predictions.groupby(GROUP, sort=False):
        for slot, labels, predicted in _by_slot(group):
            found += [
                {**dict(zip(GROUP, names)), "slot": slot, **row}
                for row in _measured(labels, predicted, group["seed"])
            ]
    return pd.DataFrame(found, columns=[*GROUP, "slot", "class", *MEASURES])


def _measured(labels: pd.Series, predicted: pd.Series, seeds: pd.Series) -> Iterator[dict[str, Any]]:
    import numpy as np
    from sklearn.metrics import precision_recall_fscore_support

    known = sorted({*labels, *predicted})
    runs = []
    for seed in seeds.unique():
        one = seeds == seed
        runs.append(
            precision_recall_fscore_support(labels[one], predicted[one], labels=known, zero_division=0)
        )
    precision, recall, f1, support = np.mean(np.array(runs), axis=0)
    for k, name in enumerate(known):
        shares = (100 * precision[k], 100 * recall[k], 100 * f1[k])
        yield {"class": name, **dict(zip(MEASURES, (*shares, int(support[k]))))}


def confusion(predictions: pd.DataFrame, slot: str = "") -> pd.DataFrame:
    """How often each class (rows) was taken for each class (columns): counts of utterances.

    Args:
        predictions: of one pooling and task; of several seeds and folds the counts are added.
        slot: one of the label's slots; "" for whole labels.

    Raises:
        ValueError: predictions of several poolings, tasks, sources or layers, or a slot that the label does not have.
    """
    import pandas as pd
    from sklearn.metrics import confusion_matrix

    if len(predictions[GROUP].drop_duplicates()) != 1:
        raise ValueError("Expected predictions of one pooling and task; choose the rows of one.")
    found = {name: columns for name, *columns in _by_slot(predictions)}
    if slot not in found:
        raise ValueError(f"Expected one of the slots {sorted(found)}, but got {slot!r}.")
    labels, predicted = found[slot]
    known = sorted({*labels, *predicted})
    return pd.DataFrame(confusion_matrix(labels, predicted, labels=known), index=known, columns=known)


def _by_slot(group: pd.DataFrame) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """(slot, labels, predicted) of the whole labels, then of each slot."""
    yield "", group["label"], group["predicted"]
    slots = group["slots"].iloc[0]
    for k, name in enumerate(slots.split(SEPARATOR) if slots else ()):
        one = (group[column].str.split(SEPARATOR, regex=False).str[k] for column in ("label", "predicted"))
        yield (name, *one)


def csv(predictions: pd.DataFrame) -> str:
    """`classes` as CSV."""
    found = classes(predictions)
    text = [*GROUP, "slot", "class"]
    safe = found.assign(**{name: found[name].map(inert) for name in text})
    out = io.StringIO()
    safe.to_csv(out, index=False, float_format="%.2f", lineterminator="\n")
    return out.getvalue()
