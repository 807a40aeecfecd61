"""A store's vectors with ids, for `vectors.write`."""

from __future__ import annotations

from torch import Tensor

from ..corpora.tasks import by_downstream
from ..errors import InputError, unknown_name
from ..runner.config import datarc_of
from .reader import Store


def export(
    store: Store, pooling: str, layer: int | None = None, split: str | None = None, fold: str | None = None
) -> tuple[list[str], Tensor]:
    """Ids and vectors float32 [N, E] of a store's utterances, in the order of its list, or of a split in its order.

    Args:
        pooling: one of ``store.poolings``.
        layer: of the hidden states, from 0; None for the mean over all of them.
        split: train, dev or test of the corpus; None for all utterances.
        fold: which division the split is of, where the task has folds; by default that of the store's corpus.

    Raises:
        InputError: a pooling or layer that is not stored, an unknown split or fold, a fold without a split, an id
            that comes twice, or, for a split, a corpus that is not as it was.
    """
    layers = store.manifest["layers"]
    if layer is not None and not 0 <= layer < layers:
        raise InputError(f"layer {layer}: this store's hidden states are 0 to {layers - 1}.")
    if fold is not None and split is None:
        raise InputError(f"--fold {fold}: says which division a split is of: give --split too.")
    rows = None if split is None else _rows(store, split, fold)
    utterances = store.utterances if rows is None else [store.utterances[row] for row in rows]
    seen: dict[str, str] = {}
    for utterance in utterances:
        before = seen.setdefault(utterance.id, str(utterance.path))
        if before != str(utterance.path):
            raise InputError(
                f"{store.folder}: {before} and {utterance.path} have the same id {utterance.id!r}: give --split."
            )
    vectors = store.vectors(pooling, rows).float()
    return [each.id for each in utterances], vectors.mean(dim=1) if layer is None else vectors[:, layer]


def _rows(store: Store, split: str, fold: str | None) -> list[int]:
    """The rows of a split, each once."""
    task = by_downstream(store.manifest["downstream"])
    datarc = datarc_of(task.downstream, store.manifest["datarc"])
    splits = task.load(datarc, task.fold(datarc, fold)).splits
    if split not in splits:
        raise unknown_name("split", split, splits)
    return list(dict.fromkeys(store.rows(splits[split])))
