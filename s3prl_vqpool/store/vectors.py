"""Files of vectors with ids: .npy, .npz, .parquet and Kaldi's .ark, chosen by the name of the file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import whole

FORMATS = (".npy", ".npz", ".parquet", ".ark")
#: What a format needs beside this package: the module, and the extra that has it.
_NEEDS = {".parquet": ("pyarrow", "table"), ".ark": ("kaldiio", "ark")}


def files(path: Path) -> list[Path]:
    """The files that `write` makes: ``path``, and what stands beside it: ``.ids.txt`` of an npy, ``.scp`` of an ark.

    Raises:
        InputError: another ending, or a package that this format needs is not installed.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: name a {', '.join(FORMATS)} file.")
    require(path)
    beside = {".npy": ".ids.txt", ".ark": ".scp"}.get(path.suffix)
    return [path, *([path.with_suffix(beside)] if beside else [])]


def require(path: Path) -> None:
    """Raise InputError if a package that the file's format needs is not installed."""
    module, extra = _NEEDS.get(path.suffix, ("numpy", ""))
    if importlib.util.find_spec(module) is None:
        raise InputError(
            f"{path}: {path.suffix} files need {module}: pip install s3prl-vqpool[{extra}], or name an .npz."
        )


def check_ids(path: Path, ids: Sequence[str]) -> None:
    """Raise InputError for an id that the format cannot hold."""
    spaced = next((each for each in ids if each.split() != [each]), None)
    if path.suffix == ".ark" and spaced is not None:
        raise InputError(
            f"{spaced!r}: Kaldi's archives cannot hold ids with spaces: rename it, or name an .npz."
        )


def write(path: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Write vectors float32 [N, E] with their N ids, whole or not at all; the same content gives the same bytes.

    npz: arrays ``ids`` and ``vectors``. parquet: columns ``id`` and ``vector``. npy: the matrix; the other
    file has a line with each id. ark: a vector for each id; the scp says where in it.
    """
    with ExitStack() as stack:
        temporary = [stack.enter_context(whole(each)) for each in files(path)]
        if path.suffix == ".ark":
            write_ark(temporary, path, zip(ids, vectors))
        else:
            _WRITERS[path.suffix](temporary, ids, vectors)


def write_ark(temporary: Sequence[Path], path: Path, entries: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write arrays by key to an archive, and the scp that leads to them.

    Args:
        temporary: where the archive and the scp are written.
        path: where the archive will lie, as the scp names it.
    """
    import kaldiio

    archive, script = temporary
    with open(archive, "wb") as file, open(script, "w", encoding="utf-8") as lines:
        for key, values in entries:
            lines.write(f"{key} {path}:{file.tell() + len(key.encode()) + 1}\n")
            kaldiio.save_ark(file, {key: values})


def _write_npy(temporary: Sequence[Path], ids: Sequence[str], vectors: np.ndarray) -> None:
    matrix, lines = temporary
    with open(matrix, "wb") as file:
        np.save(file, vectors, allow_pickle=False)
    lines.write_text("".join(f"{each}\n" for each in ids), encoding="utf-8")


def _write_npz(temporary: Sequence[Path], ids: Sequence[str], vectors: np.ndarray) -> None:
    (arrays,) = temporary
    with open(arrays, "wb") as file:
        np.savez(file, ids=np.array(ids, dtype=str), vectors=vectors)


def _write_parquet(temporary: Sequence[Path], ids: Sequence[str], vectors: np.ndarray) -> None:
    import pyarrow
    from pyarrow import parquet

    flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
    column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    (table,) = temporary
    parquet.write_table(pyarrow.table({"id": list(ids), "vector": column}), table)


_WRITERS: dict[str, Callable[[Sequence[Path], Sequence[str], np.ndarray], None]] = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".parquet": _write_parquet,
}
