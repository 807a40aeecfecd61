"""Utterances of a store for the page: which are shown, what is known of each, and t-SNE of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import pooling
from ...corpora import audio
from ...store import Row, Store
from ...store.encode import weights_of
from ...tables.neighbours import nearest
from ...tables.stores import StoredTask, divisions
from ..embedding import tsne
from . import media

POINTS = 300
"""Most utterances of a store in its t-SNE."""
CLASSES = 12
"""Most classes among them: more cannot be told apart by colour and shape."""
SECONDS = 20
"""Most of an utterance that is shown."""
_BLOCK = 2048


@dataclass(frozen=True)
class Sampled:
    """Test utterances of a store.

    Attributes:
        rows: of the store, in the order in which they were drawn.
        labels, predicted: class names of each; predicted by the nearest training utterance with ``pooling``.
        shown: places in ``rows`` of those that are shown in full.
        vectors: by pooling, float32 [len(rows), E].
    """

    task: StoredTask
    pooling: str
    rows: list[int]
    labels: list[str]
    predicted: list[str]
    shown: list[int]
    vectors: dict[str, Tensor]


def sample(task: StoredTask, shown: int, seed: int) -> Sampled:
    """Up to `POINTS` test utterances of up to `CLASSES` classes, the most frequent; of a task with folds, of the first.

    Of them ``shown`` are shown, half of them wrong ones, or as many as there are.
    """
    store, fold = task.store, task.folds[0]
    names = _class_names(store)
    labels = [_name(store.utterances[row], names) for row in fold.test.tolist()]
    counted = Counter(labels)
    frequent = sorted(counted, key=lambda label: (-counted[label], label))[:CLASSES]
    drawn = np.random.default_rng(seed).permutation(len(labels)).tolist()
    places = [place for place in drawn if labels[place] in frequent][:POINTS]
    rows = fold.test[places].tolist()
    compared = _compared(store)
    training = fold.train.tolist()
    found = nearest(_vectors(store, compared[-1], training), _vectors(store, compared[-1], rows))
    predicted = [_name(store.utterances[training[place]], names) for place in found.tolist()]
    kept = [labels[place] for place in places]
    vectors = {name: _vectors(store, name, rows) for name in compared}
    return Sampled(task, compared[-1], rows, kept, predicted, _half_wrong(kept, predicted, shown), vectors)


def _class_names(store: Store) -> tuple[tuple[str, ...], ...]:
    return next(divisions(store.manifest))[1].classes


def _name(row: Row, names: Sequence[Sequence[str]]) -> str:
    return " ".join(each[k] for each, k in zip(names, row.label))


def _compared(store: Store) -> list[str]:
    """A stored pooling without codes and one with them, or what there is of the two."""
    known = [name for name in store.poolings if pooling.method(name).weights_alone]
    plain = [name for name in ("AP", "mean") if name in known][:1]
    with_codes = [name for name in known if pooling.method(name).needs_codes]
    with_codes.sort(key=lambda name: name != "VQ-LP")
    return [*plain, *with_codes[:1]] or known[:1] or store.poolings[:1]


def _vectors(store: Store, name: str, rows: Sequence[int]) -> Tensor:
    """Mean over layers, float32 [n, E]; `_BLOCK` rows of all layers are in memory at once."""
    blocks = [store.vectors(name, rows[k : k + _BLOCK]) for k in range(0, len(rows), _BLOCK)]
    return torch.cat([block.float().mean(dim=1) for block in blocks])


def _half_wrong(labels: Sequence[str], predicted: Sequence[str], count: int) -> list[int]:
    """Places of ``count`` utterances, wrong ones first, each kind in the order drawn."""
    wrong = [k for k in range(len(labels)) if labels[k] != predicted[k]]
    right = [k for k in range(len(labels)) if labels[k] == predicted[k]]
    many = max(count // 2, count - len(right))
    return [*wrong[:many], *right[: count - min(many, len(wrong))]]


def plane(vectors: Tensor, seed: int) -> list[list[float]]:
    """Points [n, 2] in the unit square, by t-SNE."""
    found = tsne(vectors, seed=seed)
    found = (found - found.min(axis=0)) / (np.ptp(found, axis=0).max() or 1)
    return found.astype(float).round(4).tolist()


def read(store: Store, row: Row) -> np.ndarray:
    """The first `SECONDS` of an utterance, as the store heard it: float32 [samples]."""
    samples = audio.read(row.path, store.manifest["gain_db"], row.start or 0, row.frames)
    return samples[: SECONDS * audio.SAMPLE_RATE]


def details(store: Store, number: int, samples: np.ndarray) -> dict[str, Any]:
    """What the page draws of a row: spectrogram, codes [T][G] and weights {pooling: [T]} of the part that is shown."""
    row, codes = store.utterances[number], store.codes(number)
    rate = store.manifest["downsample_rate"]
    shown = max(1, min(len(codes), round(len(samples) / rate)))
    weights = {}
    for name in _weighing(store):
        lengths = torch.tensor([len(codes)])
        each = weights_of(name, {}, codes[None], lengths, [row.samples], rate)[0]
        weights[name] = [round(w * len(codes), 3) for w in each[:shown].tolist()]
    return {
        "spectrogram": media.spectrogram(samples),
        "seconds": round(len(samples) / audio.SAMPLE_RATE, 3),
        "whole": round(row.samples / audio.SAMPLE_RATE, 3),
        "codes": codes[:shown].tolist(),
        "weights": weights,
    }


def _weighing(store: Store) -> list[str]:
    """AP, VQ-LP, and the other stored poolings whose weights need no statistics and have their default options."""
    others = [
        name for name in store.manifest["poolings"] if name != "mean" and pooling.method(name).weights_alone
    ]
    return list(dict.fromkeys(["AP", "VQ-LP", *others]))[:6]
