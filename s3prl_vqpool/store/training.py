"""The training split of a store's corpus, and counts of its codes: what VQ-GP, VQ-BP and VQ-SIF need."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from .. import pooling
from ..corpora import Utterance, UtteranceDataset
from ..corpora.table import export
from ..corpora.tasks import by_downstream
from ..pooling import Counts
from ..runner import statistics
from ..runner.plugin import entry_of
from .files import STATISTICS, Writer
from .reader import Store

_UTTERANCES = 1000
"""So many are counted at once."""


def obtain(store: Store, utterances: Sequence[Utterance], writer: Writer) -> Counts:
    """Counts of the stored codes of the training split; those in the store's `STATISTICS`, written if not there.

    Each utterance counts once, by the row that `Store.rows` gives, so a random excerpt (Speech Commands'
    `_silence_`) by the first window of its file. Their identity is that of the runner's statistics.

    Raises:
        InputError: the file there is damaged, or of another training split; an utterance that is not stored.
    """
    identity = _identity(store, utterances)
    if (store.folder / STATISTICS).exists():
        return Counts.load(store.folder / STATISTICS, identity)
    counts = _counts(store, store.rows(utterances))
    with TemporaryDirectory() as folder:
        counts.save(Path(folder) / STATISTICS, identity)
        writer.write(STATISTICS, (Path(folder) / STATISTICS).read_bytes())
    return counts


def split(store: Store) -> tuple[Sequence[Utterance], str | None]:
    """The training split that the manifest's `datarc` names, and its test fold; None where there are no folds."""
    task, datarc = by_downstream(store.manifest["downstream"]), store.manifest["datarc"]
    fold, corpus = task.fold(datarc), task.load(datarc)
    export.require_kept(store.folder, {fold: corpus})
    return corpus.splits["train"], fold or None


def fingerprint(counts: Counts) -> str:
    """SHA-256 of the counts. It is not that of the file, because files of the same content may have different bytes."""
    digest = hashlib.sha256(str(list(counts.sizes)).encode())
    for tensor in (counts.tuples, counts.occurrences):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _identity(store: Store, utterances: Sequence[Utterance]) -> dict[str, object]:
    """As `statistics.obtain` has it, without the upstream: its kind is the folder of its `hubconf.py`."""
    return {
        "upstream": entry_of(store.manifest["upstream"]).__module__.split(".")[-2],
        "weights": store.manifest["fingerprint"],
        "training set": statistics.hash_of(UtteranceDataset(utterances)),
    }


def _counts(store: Store, rows: Sequence[int]) -> Counts:
    sizes, parts = store.manifest["codebook_sizes"], []
    for k in range(0, len(rows), _UTTERANCES):
        codes = torch.cat([store.codes(row) for row in rows[k : k + _UTTERANCES]])
        parts.append(pooling.counts(codes[None], torch.tensor([len(codes)]), sizes))
    return sum(parts)  # type: ignore[return-value]
