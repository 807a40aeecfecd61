"""k-means models that others published, in every format that they use; damaged and hostile ones."""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import safetensors.numpy
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from s3prl_vqpool.checkpoints import centroids, joblib_files
from s3prl_vqpool.checkpoints.unpickler import Malformed
from s3prl_vqpool.errors import InputError

DATA = np.random.default_rng(0).normal(size=(400, 13)).astype(np.float32)


def model(kind: Any = MiniBatchKMeans, data: np.ndarray = DATA) -> Any:
    return kind(17, n_init=1, random_state=0).fit(data)


#: What writes a fitted model into a file.
WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "joblib": joblib.dump,
    **{
        f"joblib, {how}": lambda fitted, path, how=how: joblib.dump(fitted, path, compress=(how, 3))
        for how in ("zlib", "gzip", "bz2", "lzma", "xz")
    },
    **{
        f"joblib, protocol {version}": lambda fitted, path, version=version: joblib.dump(
            fitted, path, protocol=version
        )
        for version in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    **{
        f"pickle, protocol {version}": lambda fitted, path, version=version: path.write_bytes(
            pickle.dumps(fitted, version)
        )
        for version in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "joblib, its centroids alone": lambda fitted, path: joblib.dump(fitted.cluster_centers_, path),
    "joblib, a dict": lambda fitted, path: joblib.dump({"n": 17, "km": fitted.cluster_centers_}, path),
    "numpy": lambda fitted, path: path.write_bytes(npy(fitted.cluster_centers_)),
    "torch": lambda fitted, path: torch.save(torch.from_numpy(fitted.cluster_centers_), path),
    "torch, old format": lambda fitted, path: torch.save(
        torch.from_numpy(fitted.cluster_centers_), path, _use_new_zipfile_serialization=False
    ),
    "torch, a dict as bshall's": lambda fitted, path: torch.save(
        {
            "n_features_in_": 13,
            "_n_threads": 4,
            "cluster_centers_": torch.from_numpy(fitted.cluster_centers_),
            "other": torch.zeros(3, 3),
        },
        path,
    ),
}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_are_those_of_the_model_to_the_bit(how: str, dtype: Any, tmp_path: Path) -> None:
    fitted, path = model(data=DATA.astype(dtype)), tmp_path / "km500.bin"
    assert fitted.cluster_centers_.dtype == dtype
    WRITERS[how](fitted, path)
    np.testing.assert_array_equal(centroids.read(path).numpy(), fitted.cluster_centers_, strict=True)


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans])
def test_what_stands_beside_the_centroids_is_passed_over(kind: Any, tmp_path: Path) -> None:
    fitted = model(kind)
    fitted.labels_ = np.arange(100_000, dtype=np.int32)
    fitted.random_state = np.random.RandomState(3)
    joblib.dump(fitted, tmp_path / "km.bin")
    np.testing.assert_array_equal(centroids.read(tmp_path / "km.bin").numpy(), fitted.cluster_centers_)


def test_orders_of_bytes_and_of_columns_are_obeyed(tmp_path: Path) -> None:
    expected = np.arange(15, dtype=np.float32).reshape(3, 5)
    for array in (np.asfortranarray(expected), expected.astype(">f4"), expected.astype(np.float16)):
        for write in (
            lambda array, path: joblib.dump(array, path),
            lambda array, path: path.write_bytes(pickle.dumps(array, 5)),
            lambda array, path: path.write_bytes(pickle.dumps(array, 2)),
            lambda array, path: path.write_bytes(npy(array)),
        ):
            write(array, tmp_path / "km")
            found = centroids.read(tmp_path / "km")
            assert found.dtype == torch.float32
            assert found.is_contiguous()
            np.testing.assert_array_equal(found.numpy(), expected)


def test_arrays_of_others_than_floats_are_passed_over(tmp_path: Path) -> None:
    joblib.dump({"n": np.arange(3), "km": DATA}, tmp_path / "km.bin")
    found = joblib_files.read(tmp_path / "km.bin")
    assert isinstance(found["n"], joblib_files.Array)
    assert found["n"].numpy() is None
    np.testing.assert_array_equal(found["km"].numpy(), DATA)


def test_safetensors(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"km": DATA, "mean": DATA[0], "n": np.arange(3)}, tmp_path / "km.safetensors")
    np.testing.assert_array_equal(centroids.read(tmp_path / "km.safetensors").numpy(), DATA)


def test_joblib_of_old_scikit_learns_is_read(tmp_path: Path) -> None:
    """scikit-learn carried joblib within it until 0.23, and joblib aligned nothing until 1.2."""
    fitted = model()
    joblib.dump(fitted, tmp_path / "km.bin", protocol=3)
    content = (tmp_path / "km.bin").read_bytes()
    old = content.replace(b"cjoblib.numpy_pickle\n", b"csklearn.externals.joblib.numpy_pickle\n")
    assert old != content
    # the padding is told by its first byte, so a moved array is read as well
    (tmp_path / "old.bin").write_bytes(old)
    np.testing.assert_array_equal(centroids.read(tmp_path / "old.bin").numpy(), fitted.cluster_centers_)


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = model()
    joblib.dump(fitted, tmp_path / "km.bin")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sklearn", "joblib")]:
        monkeypatch.setitem(sys.modules, name, None)
    np.testing.assert_array_equal(centroids.read(tmp_path / "km.bin").numpy(), fitted.cluster_centers_)


# ------------------------------------------------------------------------------------------------- refused
class Call:
    """Pickled as a call of a function."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("write", [joblib.dump, lambda model, path: path.write_bytes(pickle.dumps(model))])
def test_a_file_that_would_call_is_read_without_it(tmp_path: Path, write: Any) -> None:
    fitted, mark = model(), tmp_path / "called"
    fitted.init = Call(mark)
    write(fitted, tmp_path / "km.bin")
    np.testing.assert_array_equal(centroids.read(tmp_path / "km.bin").numpy(), fitted.cluster_centers_)
    write({"cluster_centers_": Call(mark)}, tmp_path / "km.bin")
    refused(tmp_path / "km.bin", "no centroids")
    assert not mark.exists()


def refused(path: Path, *said: str) -> str:
    with pytest.raises(InputError) as refusal:
        centroids.read(path)
    line = str(refusal.value)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1
    assert len(line) < 600
    for words in said:
        assert words in line
    return line


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": DATA, "b": DATA}, "it holds a, b"),
        ({"cluster_centers_": DATA[0]}, "shape [13]"),
        ({"cluster_centers_": DATA[:0]}, "shape [0, 13]"),
        ({"cluster_centers_": np.arange(6).reshape(2, 3)}, "no array of floats"),
        ({"cluster_centers_": np.array([["a", None]], dtype=object)}, "whose elements are no numbers"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (["nothing"], "neither a matrix nor"),
        (7.5, "neither a matrix nor"),
        (KMeans(3), "expected cluster_centers_"),
    ],
)
def test_what_holds_no_centroids_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    joblib.dump(content, tmp_path / "km.bin")
    refused(tmp_path / "km.bin", said)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "absent.bin", "no such file")
    refused(tmp_path, "is a folder")
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(tmp_path / "pointer", "Git LFS pointer")
    (tmp_path / "objects.npy").write_bytes(npy(np.array([None])))
    refused(tmp_path / "objects.npy", "no centroids", "Python objects in dtype")
    (tmp_path / "cut.npy").write_bytes(npy(DATA)[:-1])
    refused(tmp_path / "cut.npy", "no centroids", "mmap length is greater")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    import zlib

    (tmp_path / "km.bin").write_bytes(zlib.compress(bytes(2**28)))
    refused(tmp_path / "km.bin", "times its size")


@pytest.mark.parametrize(
    ("size", "most"), [(0, 2**26), (2**22, 2**26), (2**22 + 1, 2**26 + 16), (10**7, 16 * 10**7)]
)
def test_unpacked_is_at_most_64_mib_or_sixteen_times_the_file(size: int, most: int) -> None:
    class Unpacks:
        eof = True

        def decompress(self, content: bytes, limit: int) -> bytes:
            assert len(content) == size
            return b"x" * (limit == most)

    assert joblib_files._unpacked(bytes(size), Unpacks()) == b"x"
    Unpacks.eof = False
    with pytest.raises(Malformed):
        joblib_files._unpacked(bytes(size), Unpacks())


@pytest.mark.parametrize(
    "how", ["joblib", "joblib, zlib", "joblib, xz", "pickle, protocol 4", "numpy", "torch"]
)
def test_damaged_files_are_read_or_refused_in_one_line(how: str, tmp_path: Path) -> None:
    path, generator = tmp_path / "km.bin", random.Random(how)
    WRITERS[how](model(), path)
    content, refusals = path.read_bytes(), 0
    for step in range(300):
        damaged = bytearray(content)
        if step % 3 == 0:
            damaged = damaged[: generator.randrange(len(content))]
        else:
            for _ in range(generator.choice((1, 1, 4, 16, 64))):
                place = generator.randrange(len(content) if step % 3 == 1 else min(len(content), 700))
                damaged[place] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            found = centroids.read(path)
            assert found.ndim == 2
            assert found.isfinite().all()
        except InputError as error:
            refusals += 1
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert len(str(error).splitlines()) == 1  # noqa: PT017
    assert refusals >= 100
