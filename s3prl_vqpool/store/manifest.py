"""`manifest.json`: everything that determines the numbers in a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .. import __version__, pooling
from ..codes.precision import FLOAT32
from ..codes.upstream import WithCodes
from ..corpora.tasks import by_downstream
from ..errors import InputError
from ..files import sha256
from . import layout
from .files import MANIFEST, Writer, read_json
from .rows import Listing

#: Stores of another format are refused, those of another version of this package are not.
FORMAT = 1
#: Recorded but not compared: paths, and what changes numbers only by rounding.
_RECORDED = ("ckpt", "upstream_model_config", "datarc", "threads", "version", "torch")

#: What stores of earlier versions do not say.
_EARLIER = {"precision": FLOAT32}


def describe(
    options: Mapping[str, Any],
    upstream: WithCodes,
    hidden_states: Sequence[torch.Tensor],
    listing: Listing,
    device: torch.device,
) -> dict[str, Any]:
    """The manifest of an extraction.

    Args:
        options: upstream (its name), ckpt, upstream_model_config, downstream, datarc, poolings (as `checked` gives
            them), frames, dtype; precision, where it is not float32.
        hidden_states: those of any utterance, for their number and size.

    Raises:
        InputError: ``upstream_model_config`` cannot be read.
    """
    ckpt, given = options["ckpt"], options["upstream_model_config"]
    return {
        "format": FORMAT,
        "precision": FLOAT32,
        **options,
        "ckpt": os.path.abspath(ckpt) if ckpt and os.path.exists(ckpt) else ckpt,
        "upstream_model_config": os.path.abspath(given) if given else None,
        "upstream_model_config_sha256": _hash(given) if given else None,
        "datarc": by_downstream(options["downstream"]).absolute(options["datarc"]),
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
    """Write the manifest, or check that the existing one is the same. Returns the manifest in the folder.

    Raises:
        InputError: it was made otherwise; names the first key that differs, and both values.
    """
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    if MANIFEST not in names:
        if names:
            raise InputError(f"{folder}: holds other files, but no store: name a new folder.")
        writer.write_json(MANIFEST, wanted)
        return wanted
    there = read_json(folder / MANIFEST)
    for key, value in wanted.items():
        begun = there.get(key, _EARLIER.get(key))
        if key not in _RECORDED and begun != value:
            raise InputError(
                f"{folder}: was begun with {key} {begun!r}, but now it is {value!r}: "
                "give the same options to continue, or name another --store."
            )
    return there


def _hash(given: str) -> str:
    try:
        return sha256(Path(given))
    except OSError as error:
        raise InputError(
            f"-g {given}: cannot be read ({error.strerror}): name a file, or leave it out."
        ) from error


def checked(
    names: Sequence[str], statistics: bool = False, offered: Sequence[str] | None = None
) -> list[str]:
    """Names of poolings that a store can hold, without repetition; InputError for any other name.

    Args:
        names: a name may be a pattern, such as ``'VQ-*+std'``.
        statistics: whether poolings that need counts of the training split's codes are allowed.
        offered: what a pattern may stand for; by default all that a store can hold.
    """
    every = dict.fromkeys((*pooling.methods(), *pooling.points()))
    possible = [name for name in every if _storable(pooling.method(name), statistics)]
    chosen = pooling.select(names, possible if offered is None else offered)
    for method in map(pooling.method, chosen):
        if method.learned is not None:
            raise InputError(
                f"{method.name}: is learned with a head, so it cannot be stored; store --frames instead."
            )
        if method.map is not None:
            raise InputError(
                f"{method.name}: a map is fitted where the vectors are used (vqpool benchmark, run_downstream.py), so "
                f"a store holds {method.unmapped.name}."
            )
        if method.needs_counts and not statistics:
            raise InputError(
                f"{method.name}: needs counts of the training split's codes, so it comes after extraction: vqpool "
                f"store add-pooling FOLDER {method.name}."
            )
    return chosen


def _storable(method: pooling.Method, statistics: bool) -> bool:
    return method.learned is None and method.map is None and (statistics or not method.needs_counts)
