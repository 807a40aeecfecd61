"""k-means codebooks: nearest centroids by brute force, and their file."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s3prl_vqpool.codes.kmeans import KMeansCodebooks
from s3prl_vqpool.codes.upstream import hash_of
from s3prl_vqpool.errors import InputError

COLUMNS = ((0, 3), (3, 8))
IDENTITY = {"upstream": "mfcc", "files": "12", "seed": "0"}


def codebooks(seed: int = 0, entries: tuple[int, int] = (7, 5)) -> KMeansCodebooks:
    generator = torch.Generator().manual_seed(seed)
    centroids = tuple(
        torch.randn(count, stop - start, generator=generator)
        for count, (start, stop) in zip(entries, COLUMNS)
    )
    return KMeansCodebooks(centroids, COLUMNS, IDENTITY)


def distances(books: KMeansCodebooks, frames: Tensor) -> list[Tensor]:
    """Per codebook float64 [..., V]: distance of each frame to each centroid, one subtraction at a time."""
    return [
        (frames[..., None, start:stop].double() - centroids.double()).square().sum(dim=-1)
        for centroids, (start, stop) in zip(books.centroids, books.columns)
    ]


def test_quantize_matches_a_hand_computed_case() -> None:
    books = KMeansCodebooks(
        (torch.tensor([[0.0], [10.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0], [-3.0, 4.0]])),
        ((1, 2), (2, 4)),
        {},
    )
    frames = torch.tensor(
        [
            [99.0, 4.9, 0.1, 0.1],
            [-99.0, 5.1, 2.0, 2.5],
            [0.0, -7.0, -2.0, 2.5],
            [0.0, 800.0, 0.0, -50.0],
        ]
    )
    assert books.quantize(frames).tolist() == [[0, 0], [1, 1], [0, 2], [1, 0]]
    assert books.sizes == (2, 3)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shape=st.lists(st.integers(1, 6), min_size=0, max_size=2),
    entries=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_quantize_is_the_nearest_centroid(
    seed: int, shape: list[int], entries: tuple[int, int], scale: float
) -> None:
    books = codebooks(seed, entries)
    frames = torch.randn(*shape, 8, generator=torch.Generator().manual_seed(seed + 1)) * scale
    found = books.quantize(frames)
    assert found.dtype == torch.int64
    assert found.shape == (*shape, 2)
    for g, squares in enumerate(distances(books, frames)):
        chosen = squares.gather(-1, found[..., g : g + 1]).squeeze(-1)
        torch.testing.assert_close(chosen, squares.amin(dim=-1), rtol=1e-5, atol=1e-5 * max(1, scale**2))


def test_quantize_equals_brute_force_and_ignores_other_columns() -> None:
    books, frames = codebooks(), torch.randn(500, 8, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([squares.argmin(dim=-1) for squares in distances(books, frames)], dim=-1)
    assert torch.equal(books.quantize(frames), expected)
    assert torch.equal(books.quantize(frames.view(4, 125, 8)), expected.view(4, 125, 2))
    changed = frames.clone()
    changed[:, 3:] += 5
    assert torch.equal(books.quantize(changed)[:, 0], expected[:, 0])
    assert not torch.equal(books.quantize(changed)[:, 1], expected[:, 1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_quantize_uses_float32_or_better_whatever_the_frames_are(dtype: torch.dtype) -> None:
    books, frames = (
        codebooks(entries=(64, 64)),
        torch.randn(500, 8, generator=torch.Generator().manual_seed(1)).to(dtype),
    )
    expected = torch.stack([squares.argmin(dim=-1) for squares in distances(books, frames)], dim=-1)
    assert torch.equal(books.quantize(frames), expected)


def test_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    books, path = codebooks(), tmp_path / "books.safetensors"
    books.save(path)
    loaded = KMeansCodebooks.load(path)
    assert (loaded.columns, loaded.identity, loaded.sizes) == (COLUMNS, IDENTITY, (7, 5))
    for found, expected in zip(loaded.centroids, books.centroids):
        assert torch.equal(found, expected)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "books.safetensors"
    codebooks(0).save(path)
    before = path.read_bytes()

    def fail(name: Path, content: bytes) -> None:
        with open(name, "wb") as file:
            file.write(content[:50])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        codebooks(1).save(path)
    assert path.read_bytes() == before


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None) -> None:
    safetensors.torch.save_file(tensors, path, metadata)


TWO = {"codebook.0": torch.zeros(4, 3), "codebook.1": torch.zeros(2, 5)}
DAMAGES = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("centroids\n" * 100),
    "no metadata": lambda path: write(path, TWO, None),
    "no columns": lambda path: write(path, TWO, {"upstream": "mfcc"}),
    "columns that are no numbers": lambda path: write(path, TWO, {"columns": "a:b,c:d"}),
    "columns without a stop": lambda path: write(path, TWO, {"columns": "0,3"}),
    "a codebook less than columns": lambda path: write(path, TWO, {"columns": "0:3,3:8,8:9"}),
    "a width that is not the columns'": lambda path: write(path, TWO, {"columns": "0:3,3:9"}),
    "columns of none": lambda path: write(path, {"codebook.0": torch.zeros(2**40, 0)}, {"columns": "3:3"}),
    "a codebook of no entries": lambda path: write(
        path, {"codebook.0": torch.zeros(0, 3)}, {"columns": "0:3"}
    ),
    "a codebook of whole numbers": lambda path: write(
        path, {"codebook.0": torch.zeros(4, 3, dtype=torch.int64)}, {"columns": "0:3"}
    ),
    "a codebook that is no matrix": lambda path: write(
        path, {"codebook.0": torch.zeros(3)}, {"columns": "0:3"}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_is_something_else_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "books.safetensors"
    DAMAGES[damage](path)
    with pytest.raises(InputError) as refusal:
        KMeansCodebooks.load(path)
    message = str(refusal.value)
    expected = "no such" if damage == "missing" else "not a"
    assert message.startswith(f"{path}: {expected} file of k-means codebooks")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("kept", [4, 60, 0.5, 0.99])
def test_file_cut_short_is_one_line(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "books.safetensors"
    codebooks().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(InputError, match="not a file of k-means codebooks"):
        KMeansCodebooks.load(path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_codebook_that_is_not_finite_is_refused_by_its_name(tmp_path: Path, bad: float) -> None:
    path, books = tmp_path / "books.safetensors", codebooks()
    books.centroids[1][2, 1] = bad
    books.save(path)
    with pytest.raises(InputError, match=r"its weights are not finite: codebook\.1 holds NaN or infinity"):
        KMeansCodebooks.load(path)


def test_hash_covers_names_dtypes_shapes_and_numbers() -> None:
    base = torch.arange(6, dtype=torch.float32)
    others = [
        {"a": base, "b": base.view(2, 3)},
        {"a": base, "b": base.view(3, 2)},
        {"a": base, "c": base.view(2, 3)},
        {"a": base, "b": base.view(2, 3).view(torch.int32)},
        {"a": base, "b": base.view(2, 3) + 1},
        {"a": base},
    ]
    assert len({hash_of(weights) for weights in others}) == len(others)
    assert hash_of(others[0]) == hash_of(dict(reversed(others[0].items())))


def test_codebooks_move_with_their_centroids() -> None:
    books = codebooks()
    moved = books.to(torch.device("meta"))
    assert {each.device.type for each in moved.centroids} == {"meta"}
    assert (moved.columns, moved.identity) == (books.columns, books.identity)


@pytest.mark.parametrize("width", [1, 7])
def test_codebooks_need_all_their_columns(width: int) -> None:
    with pytest.raises(InputError, match=r"columns . to . of layer 0, but the upstream gives 1 layers of"):
        codebooks().quantize_states([torch.zeros(1, 2, width)])


@pytest.mark.parametrize("layers", ["0", "0,1,2", "0,-1"])
def test_layers_that_do_not_fit_the_codebooks_are_refused(layers: str, tmp_path: Path) -> None:
    path = tmp_path / "kmeans.safetensors"
    codebooks().save(path)
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file(tensors, path, {"columns": "0:3,3:8", "layers": layers})
    with pytest.raises(InputError, match=r"layers .* for 2 codebooks"):
        KMeansCodebooks.load(path)
