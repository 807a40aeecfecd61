"""Reading a store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..corpora import Utterance
from ..errors import InputError, unknown_name
from ..files import read_tensors
from ..pooling import Counts, method
from . import fresh, index, layout
from .encode import kept_frames
from .files import (
    DONE,
    MANIFEST,
    STATISTICS,
    finished,
    part_name,
    read_json,
    tensors_name,
    unreadable_index,
)
from .rows import Key, Row, key

_MOST_OPEN = 10_000
"""Files that are memory-mapped at once. Linux allows a process 65,530 mappings (`vm.max_map_count`)."""


class Store:
    """Features of every utterance of a corpus that `vqpool extract` wrote. Tensors are memory-mapped.

    Attributes:
        folder: where it is.
        manifest: what determines its numbers: upstream, fingerprint, layers, dim, codebook_sizes, poolings,
            frames (whether they were extracted), dtype, downstream, datarc, root, list_sha256, ...
        added: poolings that `vqpool store add-pooling` added, each with what it was made with: its options, and
            where it needs statistics ``counts`` (their `training.fingerprint`) and ``fold`` (the test fold, or None).
        utterances: one `Row` per utterance, in the order of the list (train, dev, test, each utterance once); a
            row's number is its place in it. They are made when they are asked for.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.added: dict[str, dict[str, Any]] = manifest.get("added", {})
        self._index = index.read(folder, manifest)
        self.utterances: Sequence[Row] = self._index
        self._open: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._audio_is_fresh = False

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """The store in a folder.

        Raises:
            InputError: none there, one that is not complete (the line says how to continue), or a damaged index.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: no store: make one with vqpool extract --store {folder} ...")
        manifest = read_json(folder / MANIFEST)
        there = finished(folder, manifest["shards"])
        if not (folder / DONE).is_file():
            raise InputError(
                f"{folder}: not complete, {sum(there)} of {len(there)} shards are there: the same vqpool extract "
                f"-u {manifest['upstream']} -d {manifest['downstream']} --store {folder} ... again continues it."
            )
        if not all(there):
            raise unreadable_index(folder, there.index(False))
        return cls(folder, manifest)

    @cached_property
    def shards(self) -> Sequence[list[int]]:
        """The rows of each shard, in its order."""
        return layout.Shards(self._index.order, self._index.bounds)

    @cached_property
    def labels(self) -> Tensor:
        """Classes int64 [N, slots] of each utterance."""
        return torch.tensor(self._index.columns["label"])

    @cached_property
    def lengths(self) -> Tensor:
        """Frames int64 [N] of each utterance."""
        return torch.tensor(self._index.columns["length"])

    @property
    def poolings(self) -> list[str]:
        """What `vectors` takes: the poolings that were extracted, then those that were added."""
        return [*self.manifest["poolings"], *self.added]

    @cached_property
    def kept(self) -> Tensor:
        """Frames int64 [N] of each utterance that S3PRL's Featurizer keeps: those that the pooling `mean` counts."""
        return kept_frames(self._index.columns["samples"].tolist(), self.manifest["downsample_rate"])

    def require_audio(self) -> None:
        """Raise InputError if audio was deleted or changed since extraction. It looks only once."""
        if not self._audio_is_fresh:
            fresh.require(self.folder, self.utterances, self.manifest["gain_db"])
            self._audio_is_fresh = True

    @cached_property
    def _by_key(self) -> dict[Key, int]:
        return {key: row for row, key in enumerate(self._index.keys())}

    def rows(self, utterances: Sequence[Utterance]) -> list[int]:
        """Row of each utterance of a corpus, by path, start and frames.

        A random excerpt (`frames` without `start`: Speech Commands' `_silence_` in training) is given the first
        window of its file; the windows after it are the rows of the same path.

        Raises:
            InputError: one that is not stored; names the first. Or audio that was deleted or changed since extraction.
        """
        self.require_audio()
        found = []
        for utterance in utterances:
            row = self._by_key.get(key(utterance))
            if row is None:
                part = (
                    ""
                    if utterance.frames is None
                    else f" ({utterance.frames} samples from {utterance.start})"
                )
                raise InputError(
                    f"{utterance.path}{part}: not in {self.folder}, which was extracted from "
                    f"{self.manifest['root']}: extract this corpus to another --store."
                )
            found.append(row)
        return found

    def codes(self, row: int) -> Tensor:
        """Code indices int64 [T, G] of a row, T = ``utterances[row].length``."""
        shard, _, start = self._index.where(row)
        groups = len(self.manifest["codebook_sizes"])
        codes = self._tensor(tensors_name(shard), "codes", self._index.frames_of(shard), groups)
        return codes[start : start + int(self.lengths[row])].long()

    def frames(self, row: int) -> Tensor:
        """Frames float32 [T, D] of a row: the plain mean over all hidden states, real frames only.

        In a store of dtype float32 they are a part of the memory-mapped file, and keep it mapped.

        Raises:
            InputError: the store was extracted without --frames.
        """
        if not self.manifest["frames"]:
            raise InputError(
                f"{self.folder}: extracted without --frames: extract again with it, to another --store."
            )
        shard, _, start = self._index.where(row)
        count = self._index.frames_of(shard)
        frames = self._tensor(tensors_name(shard), "frames", count, self.manifest["dim"])
        return frames[start : start + int(self.lengths[row])].float()

    def vectors(self, pooling: str, rows: Sequence[int] | None = None) -> Tensor:
        """Pooled vectors of every layer, [N, layers, E], in the dtype of the store; E is D, or 2 D with ``+std``.

        They are gathered from the memory-mapped shards into the order of the list: N * layers * E numbers.

        Args:
            pooling: one of ``poolings``.
            rows: which rows, in which order; all by default. Only theirs are read then.

        Raises:
            InputError: a pooling that is not stored.
        """
        self._require(pooling)
        wanted = range(len(self.utterances)) if rows is None else rows
        shards, places = self._index.places(wanted)
        where: dict[int, list[tuple[int, int]]] = {}
        for position, (shard, place) in enumerate(zip(shards, places)):
            where.setdefault(shard, []).append((position, place))
        size = method(pooling).output_dim(self.manifest["dim"])
        layers = self.manifest["layers"]

        def stored(shard: int) -> Tensor:
            name = part_name(shard, pooling) if pooling in self.added else tensors_name(shard)
            return self._tensor(name, f"vectors.{pooling}", len(self.shards[shard]), layers, size)

        for shard in list(where)[:1]:
            stored(shard)  # a size that is damaged is noticed before memory for it is asked for
        gathered = torch.empty(len(wanted), layers, size, dtype=getattr(torch, self.manifest["dtype"]))
        for shard, pairs in where.items():
            positions, within = map(torch.tensor, zip(*pairs))
            gathered[positions] = stored(shard)[within]
        return gathered

    def statistics(self, pooling: str) -> Counts:
        """Counts of the training split's codes that an added pooling's vectors were made with.

        They are in the store's `pooling_statistics.safetensors`, a file as an experiment has it.

        Raises:
            InputError: a pooling that is not stored, or one without statistics.
        """
        self._require(pooling)
        if "counts" not in self.added.get(pooling, {}):
            raise InputError(f"{pooling}: takes no training statistics.")
        return Counts.load(self.folder / STATISTICS)

    def _require(self, pooling: str) -> None:
        if pooling not in self.poolings:
            raise unknown_name(f"pooling in {self.folder}:", pooling, self.poolings)

    def _tensor(self, name: str, key: str, *shape: int) -> Tensor:
        """A tensor of a file; InputError where it is not there, or of another shape."""
        path = self.folder / name
        damaged = InputError(f"{path}: damaged: vqpool store verify {self.folder} says what to do.")
        if name not in self._open:
            while len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)
            try:
                self._open[name], _ = read_tensors(path, "a store's tensors")
            except InputError as error:
                raise damaged from error
        self._open.move_to_end(name)
        tensor = self._open[name].get(key)
        if tensor is None or tuple(tensor.shape) != shape:
            raise damaged
        return tensor
