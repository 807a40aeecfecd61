"""Utterance vectors with their ids, from a store or from a file; and the reference of each utterance."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...corpora.folders import read_list
from ...corpora.table import kaldi
from ...errors import InputError
from ...files import disguised
from ...pooling.registry import given_options
from ...store import Store, ark
from .. import nearest, stores, table1
from ..predictions import SEPARATOR

SPLITS = ("train", "dev", "test", "all")
REFERENCES = ("labels", "speakers")
_FORMATS = (
    ".npz (arrays ids and vectors), .npy (ids in NAME.ids.txt), .parquet (columns id and vector), or Kaldi's .ark or "
    ".scp (vectors of floats)"
)
#: Deflate makes nothing larger than this many times its bytes.
_MOST_DEFLATED = 1032


@dataclass(frozen=True)
class Vectors:
    """Utterance vectors.

    Attributes:
        ids: of N utterances.
        vectors: floating [N, E].
        references: by name of `REFERENCES`, the class of each utterance; only of a store.
    """

    ids: list[str]
    vectors: np.ndarray
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)


def of_store(path: Path, name: str, split: str, given: Mapping[str, Any]) -> Vectors:
    """Vectors of the mean over layers of a store's utterances.

    Statistics are those of the training split; of a task with folds, of the first one. An option with a grid that is
    not ``given`` has its default.

    Args:
        name: of a pooling that is not learned.
        split: one of `SPLITS`.

    Raises:
        InputError: no store, a pooling that is unknown, learned or not given by the store, or a changed corpus.
    """
    task = stores.task(path, Store.open(path))
    fold = task.folds[0]
    names = table1.choose([name], [task])
    if len(names) > 1:
        raise InputError(f"--pooling {name}: means {len(names)} poolings, expected one: {', '.join(names)}.")
    pooled = nearest.fixed(names[0], task.features, fold, given_options(names, given)[names[0]])
    parts = {"train": fold.train, "dev": fold.dev, "test": fold.test}
    rows = torch.arange(len(pooled)) if split == "all" else parts[split]
    labels = task.labels[rows].tolist()
    return Vectors(
        [task.store.utterances[row].id for row in rows.tolist()],
        pooled[rows].numpy(),
        {
            "labels": [SEPARATOR.join(names[k] for names, k in zip(task.names, each)) for each in labels],
            "speakers": [task.speakers[row] for row in rows.tolist()],
        },
    )


def of_file(path: Path) -> Vectors:
    """Vectors float [N, E] of a file, and their ids.

    Args:
        path: .npz with arrays ``ids`` and ``vectors``; .npy with one id a line in NAME.ids.txt; .parquet with columns
            ``id`` and ``vector`` (lists of numbers); Kaldi's .ark or .scp (`store.ark.read`). Nothing is unpickled,
            and no pipe is run.

    Raises:
        InputError: no such file, damaged, another format, or ids and vectors that do not fit.
    """
    readers = {".npz": _npz, ".npy": _npy, ".parquet": _parquet, ".ark": ark.read, ".scp": ark.read}
    if path.suffix not in readers or not path.is_file():
        problem = "not a file of vectors" if path.exists() else "no such file"
        raise InputError(f"{path}: {problem}. Expected {_FORMATS}.")
    other = disguised(path)
    if other:
        raise InputError(f"{path}: {other}.")
    try:
        ids, vectors = readers[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # numpy raises all kinds for damaged headers, tokenize's among them
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: damaged, or no vectors in it ({reason}). Expected {_FORMATS}.") from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.size:
        raise InputError(
            f"{path}: expected vectors of floats [N, D], but got {vectors.dtype} {list(vectors.shape)}."
        )
    if len(ids) != len(vectors):
        raise InputError(f"{path}: has {len(vectors)} vectors, but {len(ids)} ids: write both again.")
    return Vectors(ids, vectors)


def of_utt2spk(path: Path, ids: Sequence[str]) -> list[str]:
    """The speaker of each of ``ids`` by an utt2spk, which may have more.

    Raises:
        InputError: a line without a speaker, an id twice, or one that is not there; names the first.
    """
    lines = kaldi.entries(path)
    for number, speaker in lines.values():
        if not speaker:
            raise InputError(f"{path}, line {number}: Expected 'UTTERANCE SPEAKER'. Complete the line.")
    missing = [name for name in ids if name not in lines]
    if missing:
        raise InputError(
            f"{path}: has no line for {missing[0]!r}, and for {len(missing)} of {len(ids)} utterances in all: add them."
        )
    return [lines[name][1] for name in ids]


def reference(found: Vectors, name: str, origin: Path) -> list[str]:
    """The class of each utterance by a store's ``labels`` or ``speakers``.

    Raises:
        InputError: the corpus does not say who speaks, of some utterance or of all.
    """
    classes = list(found.references[name])
    if "" in classes:
        unknown = found.ids[classes.index("")]
        raise InputError(
            f"{origin}: the corpus does not say who speaks in {unknown}: give --reference labels (as of SID, where "
            "the labels are the speakers), or --utt2spk FILE."
        )
    return classes


def require_finite(found: Vectors, origin: Path) -> None:
    """InputError, which names the first, for a vector with NaN or infinity."""
    bad = ~np.isfinite(found.vectors).all(axis=1)
    if bad.any():
        raise InputError(
            f"{origin}: the vector of {found.ids[int(bad.argmax())]} is not finite, and {int(bad.sum())} of "
            f"{len(bad)} in all: leave such utterances out."
        )


def _npz(path: Path) -> tuple[list[str], np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _require_bytes(archive, info)
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("ids", "vectors"):
            if name not in arrays:
                raise InputError(f"{path}: has no array {name!r}, only {', '.join(arrays) or 'none'}.")
        return _texts(path, arrays["ids"]), arrays["vectors"]


def _require_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """ValueError where an array claims more bytes than its file can hold; numpy would make room for them first."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        claimed = file.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if claimed != info.file_size or claimed > _MOST_DEFLATED * info.compress_size:
        raise ValueError(f"{info.filename} claims {claimed:,} bytes, but has {info.file_size:,}")


def _npy(path: Path) -> tuple[list[str], np.ndarray]:
    listed = path.with_suffix(".ids.txt")
    ids = read_list(listed, "an id of an utterance a line, in the order of the vectors").splitlines()
    # mapped: a size is believed if the bytes are there
    return ids, np.load(path, mmap_mode="r", allow_pickle=False)


def _parquet(path: Path) -> tuple[list[str], np.ndarray]:
    try:
        from pyarrow import compute, parquet
    except ImportError as error:
        raise InputError(
            f"{path}: reading Parquet needs pyarrow: pip install s3prl-vqpool[table], or give .npz or .npy."
        ) from error
    table = parquet.read_table(path, columns=["id", "vector"])
    vectors = table["vector"].combine_chunks()
    lengths = np.unique(compute.list_value_length(vectors).to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise InputError(f"{path}: expected vectors of one length, but got several: {lengths[:5].tolist()}.")
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    return _texts(path, np.array(table["id"].to_pylist())), flat.reshape(len(vectors), -1)


def _texts(path: Path, ids: np.ndarray) -> list[str]:
    if ids.ndim != 1 or ids.dtype.kind != "U":
        raise InputError(f"{path}: expected ids as text [N], but got {ids.dtype} {list(ids.shape)}.")
    return ids.tolist()
