"""Vectors of many pieces of audio: batched by length, in parts that survive a kill."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import files
from ..corpora import audio
from ..corpora.table.clips import Clip, lengths
from ..errors import InputError
from . import fresh, layout
from .embedder import Embedder
from .progress import Progress

MANIFEST = "manifest.json"


def embed(embedder: Embedder, clips: Sequence[Clip], work: Path, options: Mapping[str, Any]) -> Tensor:
    """Vectors float32 [N, E] of N clips, in their order.

    Each part of up to `layout.SHARD_SECONDS` of speech is kept in ``work`` until `remove_parts` removes it, so that
    the same call continues after a kill, to the same numbers.

    Args:
        work: folder of the parts; made if it is not there. Call it under `files.alone` of this folder.
        options: what determines the numbers, beside upstream and audio, such as the pooling.

    Raises:
        InputError: audio that cannot be read or is too short; parts of other options or other audio.
    """
    samples = lengths(clips)
    embedder.require_frames([str(clip.path) for clip in clips], samples)
    shards = layout.shards(samples)
    wanted = _described(embedder, clips, samples, options)
    _require_same(work, wanted)
    found: dict[int, Tensor] = {}
    with Progress("embedding", sum(samples) / audio.SAMPLE_RATE / 3600, "h of speech") as progress:
        for number, rows in enumerate(shards):
            path = work / f"part-{number:05}.safetensors"
            if not path.exists():
                vectors = _part(embedder, clips, layout.batches(rows, samples, embedder.batch_seconds))
                files.write_text(work / MANIFEST, f"{json.dumps(wanted, indent=1)}\n")
                files.write_tensors(path, {"vectors": vectors})
            found.update(zip(rows, _read(path, len(rows))))
            progress.advance(sum(samples[row] for row in rows) / audio.SAMPLE_RATE / 3600)
    return torch.stack([found[row] for row in range(len(clips))])


def remove_parts(work: Path) -> None:
    """Remove the parts, once what was made of them is written."""
    for path in (*work.glob("part-*.safetensors"), work / MANIFEST):
        path.unlink(missing_ok=True)


def _part(embedder: Embedder, clips: Sequence[Clip], batches: Sequence[Sequence[int]]) -> Tensor:
    """[n, E] of the rows of a part, in its order."""
    vectors: list[Tensor] = []
    for rows in batches:
        wavs = [torch.from_numpy(clips[row].read()).to(embedder.device) for row in rows]
        vectors += embedder.batch([str(clips[row].path) for row in rows], wavs)
    return embedder.mapped(torch.stack(vectors).cpu())


def _read(path: Path, count: int) -> Tensor:
    try:
        vectors = files.read_tensors(path, "vectors")[0].get("vectors")
    except InputError as error:
        raise InputError(f"{error} Remove it, and the same command makes it again.") from error
    if vectors is None or vectors.ndim != 2 or len(vectors) != count:
        raise InputError(f"{path}: damaged. Remove it, and the same command makes it again.")
    return vectors


def _described(
    embedder: Embedder, clips: Sequence[Clip], samples: Sequence[int], options: Mapping[str, Any]
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for clip, count in zip(clips, samples):
        entry = [clip.id, str(clip.path), clip.start, clip.frames, count, fresh.stamp(clip.path)]
        digest.update(f"{json.dumps(entry)}\n".encode())
    return {
        **options,
        "fingerprint": embedder.upstream.fingerprint(),
        "device": embedder.device.type,
        "batch_seconds": embedder.batch_seconds,
        "audio": digest.hexdigest(),
    }


def _require_same(work: Path, wanted: dict[str, Any]) -> None:
    """Raise InputError where the parts in ``work`` are of something else."""
    path = work / MANIFEST
    if not path.exists():
        return
    begun = files.parse_json(path.read_text("utf-8"), str(path), f"Remove {work}.")
    differing = [name for name, value in wanted.items() if begun.get(name) != value]
    if differing:
        raise InputError(
            f"{work}: was begun with another {differing[0]}: give the same options and audio to continue, or remove it."
        )
