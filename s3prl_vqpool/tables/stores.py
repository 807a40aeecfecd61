"""A task's utterances, labels and folds, read from a store of features (`vqpool extract`) for the tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import corpora, pooling
from ..corpora.table import export
from ..corpora.tasks import Task, by_downstream, registered
from ..errors import InputError
from ..runner.config import datarc_of
from .features import Features
from .nearest import Fold

if TYPE_CHECKING:
    from ..store import Store

#: Keys of the manifest that must be equal in all stores of a table.
UPSTREAM = ("upstream", "fingerprint")


@dataclass(frozen=True, eq=False)
class StoredTask:
    """A task on its store.

    Attributes:
        labels: int64 [N, slots].
        names: names of the classes of each slot, in the order of their indices.
        slots: names of the slots; empty where a label has one.
        speakers: of each of the N utterances; "" where the corpus does not say.
    """

    kind: Task
    path: Path
    store: Store
    corpus: str
    features: Features
    labels: Tensor
    names: tuple[tuple[str, ...], ...]
    slots: tuple[str, ...]
    speakers: tuple[str, ...]
    folds: tuple[Fold, ...]

    @property
    def classes(self) -> tuple[int, ...]:
        """Number of classes of each slot."""
        return tuple(map(len, self.names))

    @property
    def name(self) -> str:
        """The task's column."""
        return self.kind.column

    @property
    def stored(self) -> list[str]:
        """Poolings whose vectors of every layer are there, S3PRL's `mean` among them.

        Those with the statistics of one fold are not: the other folds must not see them.
        """
        added = self.store.added.items()
        return [*self.store.manifest["poolings"], *(n for n, made in added if made.get("fold") is None)]

    @property
    def layered(self) -> list[str]:
        """Those of ``stored`` that leave dev nothing to choose: a store has one value of an option such as VQ-SIF's."""
        return [name for name in self.stored if not any(o.grid for o in pooling.method(name).options)]

    def gives(self, name: str) -> bool:
        """Whether vectors of pooling ``name`` are stored or can be computed from frames.

        The standard deviation of the mean over layers does not follow from those of several layers.
        """
        needed = pooling.method(name).unmapped
        one = needed.moments is None or self.store.manifest["layers"] == 1
        return self.features.frames is not None or (one and needed.name in self.layered)


def tasks(stores: Mapping[Path, Store]) -> list[StoredTask]:
    """The tasks of opened stores, in the order of the table.

    Raises:
        InputError: a store of no registered task, two stores of one task, or of different upstreams; a corpus that
            is not as it was.
    """
    found: dict[str, Path] = {}
    for path, store in stores.items():
        name = kind_of(path, store).column
        if name in found:
            raise InputError(f"{path}: is of {name}, as {found[name]} is. Expected one store per task.")
        found[name] = path
        first = next(iter(stores))
        if any(store.manifest[key] != stores[first].manifest[key] for key in UPSTREAM):
            raise InputError(f"{path}: of another upstream than {first}. Expected one upstream in a table.")
    ordered = [found[kind.column] for kind in registered() if kind.column in found]
    return [task(path, stores[path]) for path in ordered]


def kind_of(path: Path, store: Store) -> Task:
    """The task that a store was extracted for; InputError, which names the store, where there is none."""
    try:
        return by_downstream(str(store.manifest["downstream"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def layered(names: Sequence[str], tasks: Sequence[StoredTask]) -> list[str]:
    """Those of ``names`` whose vectors of every layer all stores have."""
    return [name for name in names if all(name in task.layered for task in tasks)]


def available(names: Sequence[str], tasks: Sequence[StoredTask]) -> list[str]:
    """Those of ``names`` that all tasks give."""
    return [name for name in names if all(task.gives(name) for task in tasks)]


def demand(names: Sequence[str], tasks: Sequence[StoredTask]) -> None:
    """InputError unless all tasks give all of ``names``; names the first that does not."""
    for name in names:
        for task in tasks:
            if not task.gives(name):
                raise InputError(
                    f"{task.path}: has no frames for {name}: extract with --frames, or leave {name} out."
                )


def task(path: Path, store: Store) -> StoredTask:
    """The task of a store, divided as the corpus that its manifest names is.

    Raises:
        InputError: a corpus that has changed.
    """
    splits = dict(divisions(store.manifest))
    export.require_kept(path, splits)
    first = next(iter(splits.values()))
    for corpus in splits.values():
        _check_labels(corpus, store, path)
    return StoredTask(
        kind_of(path, store),
        path,
        store,
        corpora.describe(first),
        features(store),
        store.labels,
        first.classes,
        first.slots or tuple(str(k + 1) for k in range(len(first.classes)) if len(first.classes) > 1),
        _speakers(splits.values(), store),
        tuple(fold(name, corpus, store) for name, corpus in splits.items()),
    )


def _speakers(divided: Iterable[corpora.Corpus], store: Store) -> tuple[str, ...]:
    """The speaker of each row of a store."""
    found = [""] * len(store.utterances)
    for utterances in (each for corpus in divided for each in corpus.splits.values()):
        for utterance, row in zip(utterances, store.rows(utterances)):
            found[row] = utterance.speaker
    return tuple(found)


def _check_labels(corpus: corpora.Corpus, store: Store, path: Path) -> None:
    for utterances in corpus.splits.values():
        rows = store.rows(utterances)
        for utterance, before in zip(utterances, map(tuple, store.labels[rows].tolist())):
            if utterance.label != before:
                raise InputError(
                    f"{path}: its corpus has changed: {utterance.path} is now of class {utterance.label} instead "
                    f"of {before}: put that back, or extract the corpus to another --store."
                )


def features(store: Store) -> Features:
    """Frames and codes of a store, or its vectors where it has no frames."""
    return Features(
        lengths=store.lengths,
        sizes=tuple(store.manifest["codebook_sizes"]),
        codes=store.codes,
        frames=store.frames if store.manifest["frames"] else None,
        stored=store.vectors,
        kept=store.kept,
    )


def divisions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, corpora.Corpus]]:
    """(fold, corpus) of every fold; of a task without folds one, named ""."""
    downstream = manifest["downstream"]
    return by_downstream(downstream).divisions(datarc_of(downstream, manifest["datarc"]))


def fold(name: str, corpus: corpora.Corpus, store: Store) -> Fold:
    """The rows of a store that belong to the splits of a corpus.

    A training utterance that S3PRL draws at random from its file (KS's silence) is every window of that file that
    the store has. Dev has the same ones, so those are right there whatever the vectors.
    """
    drawn = {
        os.path.abspath(u.path) for u in corpus.splits["train"] if u.frames is not None and u.start is None
    }
    fixed = [u for u in corpus.splits["train"] if os.path.abspath(u.path) not in drawn]
    windows = [row for row, u in enumerate(store.utterances) if str(u.path) in drawn] if drawn else []
    dev, test = (torch.tensor(store.rows(corpus.splits[split])) for split in ("dev", "test"))
    weights = torch.tensor([utterance.weight for utterance in corpus.splits["dev"]], dtype=torch.float64)
    return Fold(name, torch.tensor([*store.rows(fixed), *windows]), dev, test, weights)
