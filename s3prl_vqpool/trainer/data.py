"""A store's vectors in memory, and the order in which training uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import count
from typing import cast

import torch
from torch import Tensor

from ..corpora import Corpus, Utterance
from ..corpora.table import export
from ..errors import InputError
from ..runner.expert import UtteranceExpert
from ..store import Store, layout


class Data:
    """The vectors of some splits in memory, and the order in which training uses them.

    Raises:
        InputError: a corpus that is not the store's, fewer utterances than a batch, or too little memory.
    """

    def __init__(
        self,
        store: Store,
        expert: UtteranceExpert,
        poolings: Sequence[str],
        splits: Sequence[str],
        seed: int,
    ) -> None:
        self.order = deepcopy(expert, {id(expert.corpus): expert.corpus})
        self.order.datarc.update(num_workers=0, pre_load=False)  # no audio is read
        self.batches_per_epoch = len(self.order.get_dataloader("train"))
        self.seed = seed
        corpus = cast(Corpus, expert.corpus)
        export.require_kept(store.folder, {expert.fold: corpus})
        self.splits: dict[str, list[Utterance]] = {split: list(corpus.splits[split]) for split in splits}
        self.rows = {split: store.rows(utterances) for split, utterances in self.splits.items()}
        self.windows = _windows(store, self.splits["train"])
        needed = {row for rows in (*self.rows.values(), *self.windows.values()) for row in rows}
        size = len(needed) * layout.vector_bytes(store.manifest, poolings)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > memory:
            raise InputError(
                f"{store.folder}: the vectors of {len(poolings)} pooling(s) take {layout.in_words(size)}, but this "
                f"machine has {layout.in_words(memory)} of memory: give fewer --poolings, "
                "or extract with --dtype float16."
            )
        self.place = {row: place for place, row in enumerate(sorted(needed))}
        self.vectors = {name: store.vectors(name, sorted(needed)) for name in poolings}

    def batches(self, first: int) -> Iterator[tuple[int, list[int], list[int]]]:
        """Epoch, indices into the training split, and rows, of each batch from number ``first`` on, without end."""
        start, skip = divmod(first, self.batches_per_epoch)
        for epoch in count(start):
            loader = self.order.get_dataloader("train", epoch=epoch)
            generator = torch.Generator().manual_seed(2**40 + self.seed * 1_000_003 + epoch)
            for number, batch in enumerate(loader.batch_sampler):  # type: ignore[arg-type]
                rows = [self._row(index, generator) for index in batch]
                if epoch > start or number >= skip:
                    yield epoch, batch, rows

    def _row(self, index: int, generator: torch.Generator) -> int:
        windows = self.windows.get(index)
        if windows is None:
            return self.rows["train"][index]
        return windows[int(torch.randint(len(windows), (), generator=generator))]

    def batch(self, pooling: str, rows: Sequence[int]) -> Tensor:
        """Vectors float32 [B, layers, D] of a pooling."""
        places = torch.tensor([self.place[row] for row in rows])
        return self.vectors[pooling].index_select(0, places).float()


def _windows(store: Store, utterances: Sequence[Utterance]) -> dict[int, list[int]]:
    """For each random excerpt among the utterances, by its index: the rows of its file's windows, in order."""
    random = {k: u for k, u in enumerate(utterances) if u.start is None and u.frames is not None}
    found: dict[tuple[str, int | None], list[int]] = {}
    for row, stored in enumerate(store.utterances) if random else ():
        found.setdefault((str(stored.path), stored.frames), []).append(row)
    return {k: found[os.path.abspath(u.path), u.frames] for k, u in random.items()}
