"""`manifest.json`: everything that determines the numbers in a store."""

from __future__ import annotations

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
#: Kept for the record: where things were, and what does not change a number beyond rounding.
_RECORDED = ("ckpt", "datarc", "torch")


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
        "version": __version__,
        "torch": torch.__version__,
    }


def agree(folder: Path, wanted: Mapping[str, Any], writer: Writer) -> None:
    """Write the manifest, or check that the one that is there says the same.

    Raises:
        InputError: it was made otherwise; names the first key that differs, and both values.
    """
    path = folder / MANIFEST
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()) and not path.exists():
            raise InputError(f"{folder}: holds other files, and no store: name a new folder.")
        writer.write_json(MANIFEST, wanted)
        return
    there = read_json(path)
    for key, value in wanted.items():
        if key not in _RECORDED and there.get(key) != value:
            raise InputError(
                f"{folder}: was begun with {key} {there.get(key)!r}, but now it is {value!r}: "
                "give the same options to continue, or name another --store."
            )


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
