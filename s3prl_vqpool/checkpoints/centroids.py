"""Centroids of a k-means model that others published: one float matrix in a file of any of five formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, shortened
from ..files import disguised, read_tensors
from . import joblib_files, torch_files
from .joblib_files import Array
from .unpickler import Malformed, Record, plain
from .weights import require_finite

#: scikit-learn's name of the centroids, which others that save them in a dict have kept.
_SKLEARNS = "cluster_centers_"


def read(path: str | Path) -> Tensor:
    """Centroids [V, D], float32 or, where the file has it, float64. Nothing in the file is imported or run.

    Args:
        path: scikit-learn's KMeans or MiniBatchKMeans from `joblib.dump` (also compressed) or `pickle.dump`; a float
            matrix of `np.save`, `torch.save` or safetensors, alone or as the only one in the file, or named
            ``cluster_centers_``.

    Raises:
        InputError: no such file, damaged, or no centroids in it.
    """
    path = Path(path)
    problem = disguised(path)
    if problem:
        raise InputError(f"{path}: {problem}.")
    try:
        centroids = _matrix(_content(path))
    except (Malformed, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: no centroids of k-means in it ({error}).") from error
    require_finite({_SKLEARNS: centroids}, str(path))
    return centroids


def _content(path: Path) -> Any:
    """The content of the file, whose format is told by its first bytes, as they are named in any way."""
    if path.suffix == ".safetensors":
        return read_tensors(path, "centroids")[0]
    start = path.read_bytes()[:6] if path.is_file() else b""
    if start == b"\x93NUMPY":
        return _npy(path)
    found = None if start[:4] == b"PK\3\4" else joblib_files.read(path)
    # torch's old format is a pickled number in front of others
    return torch_files.read(path) if found is None or isinstance(found, int) else found


def _npy(path: Path) -> np.ndarray:
    try:
        # mapped: a size is believed if the bytes are there
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # numpy raises all kinds for damaged headers, tokenize's among them
        raise Malformed(shortened(error)) from error


def _matrix(content: Any) -> Tensor:
    """The centroids among what a file holds."""
    if isinstance(content, Record) and not isinstance(content, Array):
        content = content.state
    found = _tensor(content)
    if found is None:
        content = plain(content)
        if not isinstance(content, Mapping):
            raise Malformed("neither a matrix nor a model of scikit-learn")
        found = _tensor(content.get(_SKLEARNS)) if _SKLEARNS in content else _only(content)
    if found is None or found.ndim != 2 or not found.numel():
        shape = "no array of floats" if found is None else f"shape {list(found.shape)}"
        raise Malformed(f"expected a matrix of floats, but got {shape}")
    return found.contiguous() if found.dtype == torch.float64 else found.float().contiguous()


def _only(content: Mapping[str, Any]) -> Tensor:
    matrices = {key: value for key, value in content.items() if getattr(_tensor(value), "ndim", None) == 2}
    if len(matrices) != 1:
        names = shortened(", ".join(sorted(map(str, content)))) or "nothing"
        raise Malformed(
            f"expected {_SKLEARNS} or one matrix, but it holds {names}: save the right one with numpy.save"
        )
    return _tensor(next(iter(matrices.values())))  # type: ignore[return-value]


def _tensor(value: Any) -> Tensor | None:
    """``value`` as a tensor where it is an array or tensor of floats."""
    array = value.numpy() if isinstance(value, Array) else value
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        array = torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    return array if isinstance(array, Tensor) and array.is_floating_point() else None
