"""`manifest.json`: everything that determines the numbers in a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import __version__, pooling
from ..errors import InputError
from ..heads import MEAN, method_of
from ..upstream import WithCodes
from . import layout
from .files import MANIFEST, Writer, read_json
from .rows import Listing

FORMAT = 1
#: Kept for the record: where things were, and what changes no number beyond rounding.
_RECORDED = ("ckpt", "datarc", "threads", "torch")
#: How the keys of `datarc` that name folders and files end.
_PLACES = ("root", "path", "meta_data")


def describe(
    options: Mapping[str, Any],
    upstream: WithCodes,
    hidden_states: Sequence[torch.Tensor],
    listing: Listing,
    device: torch.device,
) -> dict[str, Any]:
    """The manifest of an extraction.

    Args:
        options: upstream (its name), ckpt, downstream, datarc, poolings (as `checked` gives them), frames, dtype.
        hidden_states: those of any utterance, for their number and size.
    """
    return {
        "format": FORMAT,
        **options,
        "datarc": {
            key: os.path.abspath(value) if key.endswith(_PLACES) and isinstance(value, str) else value
            for key, value in options["datarc"].items()
        },
        "fingerprint": upstream.fingerprint(),
        "layers": len(hidden_states),
        "dim": hidden_states[0].size(-1),
        "codebook_sizes": list(upstream.codebook_sizes),
        "downsample_rate": upstream.get_downsample_rates("hidden_states"),  # type: ignore[attr-defined]
        "root": listing.root,
        "gain_db": listing.gain_db,
        "list_sha256": listing.sha256,
        "utterances": len(listing.utterances),
        "samples": sum(listing.samples),
        "shards": len(layout.shards(listing.samples)),
        "batch_seconds": layout.BATCH_SECONDS[device.type],
        "device": device.type,
        "threads": torch.get_num_threads(),
        "version": __version__,
        "torch": torch.__version__,
    }


def agree(folder: Path, wanted: Mapping[str, Any], writer: Writer) -> Mapping[str, Any]:
    """Write the manifest, or check that the one that is there says the same; the one that is there now.

    Raises:
        InputError: it was made otherwise; names the first key that differs, and both values.
    """
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    if MANIFEST not in names:
        if names:
            raise InputError(f"{folder}: holds other files, and no store: name a new folder.")
        writer.write_json(MANIFEST, wanted)
        return wanted
    there = read_json(folder / MANIFEST)
    for key, value in wanted.items():
        if key not in _RECORDED and there.get(key) != value:
            raise InputError(
                f"{folder}: was begun with {key} {there.get(key)!r}, but now it is {value!r}: "
                "give the same options to continue, or name another --store."
            )
    return there


def checked(names: Sequence[str]) -> list[str]:
    """Names of poolings that a store can hold, each once; InputError for any other."""
    possible = [MEAN, *(name for name in pooling.methods() if _storable(pooling.method(name)))]
    chosen = []
    for name in names:
        method, over_all_frames = method_of(name)
        if not _storable(method):
            raise InputError(
                f"--poolings {name}: has to be fitted or trained, so it cannot be stored; --frames and the codes "
                f"are what it needs. Can be stored: {', '.join(possible)}."
            )
        chosen.append(MEAN if over_all_frames else method.name)
    return list(dict.fromkeys(chosen))


def _storable(method: pooling.Method) -> bool:
    return method.kind == "weights" and not method.needs_statistics
