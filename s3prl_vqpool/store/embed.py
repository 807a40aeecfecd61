"""Vectors of many pieces of audio: batched by length, in parts that survive a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import files
from ..corpora import audio
from ..corpora.table.clips import Clip, lengths
from ..errors import InputError, shortened
from . import fresh, layout, prefixes
from .embedder import Embedder
from .group import Group
from .progress import Progress
from .threads import torch_threads

MANIFEST = "manifest.json"
_PARTS = "part-*.safetensors"
_HELPER = ".lock.rank"
"""How the lock of a process that helps begins; its rank follows."""
ALONE = Group()


@dataclass(frozen=True)
class Work:
    """What is to be embedded, and the folder of its parts.

    Each part holds up to `layout.SHARD_SECONDS` of speech, so that the same work continues after a kill, to the same
    numbers.

    Args:
        options: what determines the numbers, beside upstream and audio, such as the pooling.
        folder: of the parts; `remove_parts` empties it.
        every: frames from one vector of an utterance to the next (`prefixes.pooled`); None for one vector of each.

    Raises:
        InputError: audio that cannot be read or is too short.
    """

    embedder: Embedder
    options: Mapping[str, Any]
    clips: Sequence[Clip]
    folder: Path
    every: int | None = None

    def __post_init__(self) -> None:
        self.embedder.require_frames([str(clip.path) for clip in self.clips], self.samples)

    @cached_property
    def samples(self) -> list[int]:
        """Samples at 16 kHz of each clip."""
        return lengths(self.clips)

    @cached_property
    def parts(self) -> list[tuple[Path, list[int]]]:
        """The file of each part, and the numbers of its clips."""
        shards = layout.shards(self.samples)
        return [(self.folder / f"part-{number:05}.safetensors", rows) for number, rows in enumerate(shards)]

    def counts(self, rows: Sequence[int]) -> list[int]:
        """How many vectors each of some clips gets."""
        if self.every is None:
            return [1] * len(rows)
        frames = self.embedder.upstream.code_lengths([self.samples[row] for row in rows])
        return [len(prefixes.ends(count, self.every)) for count in frames]


def embed(work: Work, group: Group = ALONE) -> Tensor:
    """Vectors float32 [N, E] of the clips, in their order. Call it under `files.alone` of the work's folder.

    The processes of ``group`` share the parts: this one calls `embed`, the others call `share`.

    Raises:
        InputError: audio that cannot be read; parts of other options or other audio.
        Busy: a process of an earlier command still writes there.
    """
    compute(work, group)
    found: dict[int, Tensor] = {}
    for path, rows in work.parts:
        with _opened(path, len(rows)) as vectors:
            found.update(zip(rows, vectors[:]))
    return torch.stack([found[row] for row in range(len(work.clips))])


def compute(work: Work, group: Group = ALONE) -> None:
    """Compute the parts, with `share` in the other processes of ``group``. Errors are those of `embed`."""
    threads = _begin(work)
    try:
        group.begin()
        _share(work, group, threads)
        group.wait_for_others()
    except InputError:
        if not any(path.exists() for path, _ in work.parts):
            remove_parts(work.folder)
        raise


def matrices(work: Work) -> Iterator[tuple[str, Tensor]]:
    """Id and vectors float32 [rows, E] of each clip, in their order, once `compute` is done; one is read at a time."""
    places: dict[int, tuple[Path, int, int, int]] = {}
    for path, rows in work.parts:
        counts = work.counts(rows)
        for row, count, end in zip(rows, counts, accumulate(counts)):
            places[row] = path, sum(counts), end - count, end
    for row, clip in enumerate(work.clips):
        path, total, start, end = places[row]
        with _opened(path, total) as vectors:
            yield clip.id, vectors[start:end]


def share(work: Work, group: Group) -> None:
    """Compute parts of what the first process of ``group`` embeds; errors are those of `embed`."""
    group.wait_for_begin()
    try:
        with files.alone(work.folder, f"{_HELPER}{group.rank}"):
            _share(work, group, _manifest(work.folder)["threads"])
    except InputError:
        with suppress(OSError):  # it holds parts, or the lock of a process that still works there
            work.folder.rmdir()
        raise
    group.leave()


def _share(work: Work, group: Group, threads: int) -> None:
    """Compute the parts that this process takes and that are not there."""
    hours = [audio.hours(sum(work.samples[row] for row in rows)) for _, rows in work.parts]
    counted = 0
    with (
        Progress("embedding", sum(hours), "h of speech", group.rank == 0) as progress,
        torch_threads(threads),
    ):
        for number in group.take(len(work.parts)):
            path, rows = work.parts[number]
            if not path.exists():
                files.write_tensors(path, {"vectors": _part(work, rows)})
            progress.advance(sum(hours[counted : number + 1]))  # those between are other processes'
            counted = number + 1


def remove_parts(folder: Path) -> None:
    """Remove the parts, once what was made of them is written."""
    for path in (*folder.glob(_PARTS), folder / MANIFEST):
        path.unlink(missing_ok=True)


def _part(work: Work, rows: Sequence[int]) -> Tensor:
    """[n, E] of the rows of a part, in its order; n is the sum of `Work.counts`."""
    vectors: list[Tensor] = []
    for batch in layout.batches(rows, work.samples, work.embedder.batch_seconds):
        clips = [work.clips[row] for row in batch]
        wavs = [torch.from_numpy(clip.read()).to(work.embedder.device) for clip in clips]
        vectors += work.embedder.batch([str(clip.path) for clip in clips], wavs, work.every)
    joined = torch.stack(vectors) if work.every is None else torch.cat(vectors)
    return work.embedder.mapped(joined.cpu())


@contextmanager
def _opened(path: Path, count: int) -> Iterator[Any]:
    """The vectors [``count``, E] of a part, which are read where they are indexed."""
    from safetensors import SafetensorError, safe_open

    way_out = "Remove it, and the same command makes it again."
    try:
        with safe_open(str(path), framework="pt") as file:
            vectors = file.get_slice("vectors")
            if len(vectors.get_shape()) != 2 or vectors.get_shape()[0] != count:
                raise InputError(f"{path}: damaged. {way_out}")
            yield vectors
    except (SafetensorError, FileNotFoundError) as error:
        raise InputError(f"{path}: damaged ({shortened(error)}). {way_out}") from error


def _begin(work: Work) -> int:
    """Write the manifest, or check that the one there is of the same work; the number of threads to compute with."""
    for lock in sorted(work.folder.glob(f"{_HELPER}*")):
        with files.alone(work.folder, lock.name):  # left by a killed process; Busy where it lives
            pass
    files.remove_parts(work.folder)
    wanted = _described(work)
    if (work.folder / MANIFEST).exists():
        begun = _manifest(work.folder)
        differing = [name for name, value in wanted.items() if begun.get(name) != value]
        if differing:
            raise InputError(
                f"{work.folder}: was begun with another {differing[0]}: give the same options and audio to continue, "
                "or remove it."
            )
        return begun["threads"]
    remove_parts(work.folder)  # without a manifest nothing says what they are
    content = {**wanted, "threads": torch.get_num_threads()}
    files.write_text(work.folder / MANIFEST, f"{json.dumps(content, indent=1)}\n")
    return content["threads"]


def _described(work: Work) -> dict[str, Any]:
    digest = hashlib.sha256()
    for clip, count in zip(work.clips, work.samples):
        entry = [clip.id, str(clip.path), clip.start, clip.frames, count, fresh.stamp(clip.path)]
        digest.update(f"{json.dumps(entry)}\n".encode())
    return {
        **work.options,
        "every": work.every,
        "fingerprint": work.embedder.upstream.fingerprint(),
        "device": work.embedder.device.type,
        "batch_seconds": work.embedder.batch_seconds,
        "audio": digest.hexdigest(),
    }


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    content = files.parse_json(path.read_text("utf-8"), str(path), f"Remove {folder}.")
    if not isinstance(content, dict) or not isinstance(content.get("threads"), int):
        raise InputError(f"{path}: damaged, or of another version: remove {folder}.")
    return content
