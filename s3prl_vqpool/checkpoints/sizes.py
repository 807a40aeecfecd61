"""A model is built only if it is not far larger than the file of its weights: a file's config is not trusted."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

#: A float32 model has twice the bytes of a float16 checkpoint. A model of more than this many times has a wrong config.
_TIMES = 4
_FREE_BYTES = 2**26
#: Tensors of a file that does not say their number before it is unpickled.
_UNKNOWN = 10_000


@contextmanager
def not_larger(stored: int, tensors: int, steps: int = 100) -> Iterator[None]:
    """While entered, a model is built of a file with ``stored`` bytes in ``tensors`` tensors.

    Args:
        steps: that torch may take for each of the tensors.

    Raises:
        ValueError: from torch's function that would take the model far beyond the file.
    """
    with _Allocations(_TIMES * stored + _FREE_BYTES, steps * (tensors + 10)):
        yield


def of_file(path: str | Path) -> tuple[int, int]:
    """Bytes and number of tensors of a file of safetensors or of `torch.save`, without reading the tensors."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(str(path), framework="pt") as file:
            return path.stat().st_size, len(file.keys())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return path.stat().st_size, len(archive.namelist())
    return path.stat().st_size, _UNKNOWN


def of_hugging_face(ckpt: str) -> tuple[int, int]:
    """Bytes and number of tensors of the weights that transformers takes of a folder or a name on the hub.

    Raises:
        FileNotFoundError: it has no weights.
    """
    from transformers.utils import (
        SAFE_WEIGHTS_INDEX_NAME,
        SAFE_WEIGHTS_NAME,
        WEIGHTS_INDEX_NAME,
        WEIGHTS_NAME,
        cached_file,
    )
    from transformers.utils.hub import get_checkpoint_shard_files

    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        found = cached_file(ckpt, name, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            shards = get_checkpoint_shard_files(ckpt, found)[0] if name.endswith(".json") else [found]
            each = [of_file(shard) for shard in shards]
            return sum(size for size, _ in each), sum(count for _, count in each)
    raise FileNotFoundError(f"it has no {SAFE_WEIGHTS_NAME} and no {WEIGHTS_NAME}")


class _Allocations(TorchDispatchMode):
    """Refuses to allocate more than a limit of bytes, or to take more steps."""

    def __init__(self, most_bytes: int, most_steps: int) -> None:
        super().__init__()
        self.bytes, self.steps = most_bytes, most_steps

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.steps -= 1
        if args and isinstance(args[0], (list, tuple)) and all(isinstance(length, int) for length in args[0]):
            self.bytes -= 4 * math.prod(args[0])  # torch.empty and similar functions
        if self.bytes < 0 or self.steps < 0:
            raise ValueError("the config describes a far larger model than the weights")
        return func(*args, **(kwargs or {}))
