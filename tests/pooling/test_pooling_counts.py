"""Training counts: what they count, how they add, what is kept of them on disk."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling_cases import SIZES, padded, random_batch, training_counts, utterances
from safetensors.torch import load_file, save_file

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import Counts, build, counts, weights

IDENTITY = {"upstream": "wav2vec2_vq", "checkpoint": "1f2e", "corpus": "speech_commands_v2", "layers": 13}


def table(c: Counts) -> dict[tuple[int, ...], int]:
    return dict(zip(map(tuple, c.tuples.tolist()), c.occurrences.tolist()))


def assert_same(a: Counts, b: Counts) -> None:
    torch.testing.assert_close(a.tuples, b.tuples)
    torch.testing.assert_close(a.occurrences, b.occurrences)
    assert a.sizes == b.sizes


@settings(max_examples=100, deadline=None)
@given(batch=utterances())
def test_counts_reference(batch):
    codes, sizes = batch
    frames = [frame for q in codes for frame in q]
    c = counts(*padded(codes), sizes)
    assert table(c) == Counter(frames)
    assert c.frames == len(frames)
    assert list(table(c)) == sorted(set(frames))
    for g, found in enumerate(c.of_entries([torch.arange(size) for size in sizes])):
        marginal = Counter(frame[g] for frame in frames)
        assert found.tolist() == [marginal[v] for v in range(sizes[g])]


@settings(max_examples=50, deadline=None)
@given(batch=utterances())
def test_counts_add(batch):
    codes, sizes = batch
    parts = [counts(*padded([q]), sizes) for q in codes]
    whole = counts(*padded(codes), sizes)
    assert_same(sum(parts), whole)
    assert_same(sum(reversed(parts)), whole)
    if len(parts) > 2:
        assert_same((parts[0] + parts[1]) + parts[2], parts[0] + (parts[1] + parts[2]))


@pytest.mark.parametrize("sizes", [(2**31,), (2**31, 2**31), (2**31,) * 4, (1000,) * 9])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_counts_of_huge_codebooks(sizes, data):
    """Joint tables beyond any memory, and flat ids beyond 64 bits."""
    value = st.sampled_from([0, 1, sizes[0] // 2, sizes[0] - 1])
    frame = st.tuples(*(value for _ in sizes))
    training = data.draw(st.lists(frame, min_size=1, max_size=30))
    queries = data.draw(st.lists(frame, min_size=1, max_size=10))
    c = counts(*padded([training]), sizes)
    expected = Counter(training)
    assert table(c) == expected
    assert c.of_tuples(torch.tensor(queries).T).tolist() == [expected[q] for q in queries]
    marginals = [[sum(f[g] == v for f in training) for g, v in enumerate(q)] for q in queries]
    assert torch.stack(c.of_entries(torch.tensor(queries).T), dim=1).tolist() == marginals
    assert_same(sum(counts(*padded([[f]]), sizes) for f in training), c)


def test_counts_of_other_sizes_do_not_add():
    one = torch.zeros(1, 1, 2, dtype=torch.int64)
    with pytest.raises(InputError) as error:
        counts(one, torch.tensor([1]), (3, 4)) + counts(one, torch.tensor([1]), (3, 5))
    assert str(error.value) == "Expected counts of codebooks of the same sizes, but got [3, 4] and [3, 5]."


def test_weights_unseen_entry_counts_as_one():
    seen = counts(torch.tensor([[[0], [0], [0]]]), torch.tensor([3]), (4,))
    w = weights("VQ-GP", torch.tensor([[[0], [2]]]), torch.tensor([2]), counts=seen)
    torch.testing.assert_close(w, torch.tensor([[0.25, 0.75]]))


def test_weights_unseen_tuple_has_probability_zero():
    seen = counts(torch.tensor([[[0, 1], [1, 0]]]), torch.tensor([2]), (2, 2))
    w = weights("VQ-SIF", torch.tensor([[[0, 1], [1, 1]]]), torch.tensor([2]), counts=seen, a=0.5)
    torch.testing.assert_close(w, torch.tensor([[1 / 3, 2 / 3]]))


def test_counts_save_load(tmp_path):
    path = tmp_path / "new" / "counts.safetensors"
    training_counts().save(path, IDENTITY)
    assert_same(Counts.load(path, expect={**IDENTITY, "sizes": SIZES}), training_counts())
    assert [p.name for p in path.parent.iterdir()] == ["counts.safetensors"]


def test_counts_save_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(self: Path, data: bytes) -> None:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        training_counts().save(tmp_path / "counts.safetensors", IDENTITY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"sizes": (5, 8)}, "with sizes [5, 8], but they were made with [5, 7]"),
        ({"checkpoint": "ffff"}, "with checkpoint 'ffff', but they were made with '1f2e'"),
        ({"seed": 3}, "with seed 3, but they were made with None"),
    ],
)
def test_counts_load_refuses_other_identity(tmp_path, expect, message):
    path = tmp_path / "counts.safetensors"
    training_counts().save(path, IDENTITY)
    with pytest.raises(InputError) as error:
        Counts.load(path, expect=expect)
    assert str(error.value) == f"{path}: expected counts {message}; make them again, or point to others."


def truncated(path):
    training_counts().save(path, IDENTITY)
    path.write_bytes(path.read_bytes()[:-20])


def other_kind(path):
    save_file({"mean": torch.zeros(3)}, path, {"kind": "Whitening", "identity": json.dumps(IDENTITY)})


def no_identity(path):
    whole = training_counts()
    sizes = torch.tensor(whole.sizes)
    tensors = {"tuples": whole.tuples, "occurrences": whole.occurrences, "sizes": sizes}
    save_file(tensors, path, {"kind": "counts"})


def deep_identity(path):
    no_identity(path)
    save_file(load_file(path), path, {"kind": "counts", "identity": "[" * 100_000})


def wrong_codes(path):
    Counts(torch.tensor([[9, 9]]), torch.tensor([1]), SIZES).save(path, IDENTITY)


def wrong_shape(path):
    Counts(torch.tensor([[1, 1]]), torch.tensor([1, 2]), SIZES).save(path, IDENTITY)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, ": no such file of statistics."),
        (lambda path: path.write_bytes(b""), ": not a file of statistics ("),
        (lambda path: path.write_bytes(b"\xff" * 100), ": not a file of statistics ("),
        (lambda path: path.mkdir(), ": not a file of statistics ("),
        (truncated, ": not a file of statistics ("),
        (other_kind, ": expected a file of counts, but it is of Whitening."),
        (no_identity, ": does not say what its statistics were made from."),
        (deep_identity, ": does not say what its statistics were made from."),
        (wrong_codes, ": counts of codes that do not fit codebooks of [5, 7]."),
        (wrong_shape, ": counts of codes that do not fit codebooks of [5, 7]."),
    ],
)
def test_counts_load_corrupt_file(tmp_path, write, message):
    path = tmp_path / "counts.safetensors"
    write(path)
    with pytest.raises(InputError) as error:
        Counts.load(path)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def _as_nccl(gathered: list[torch.Tensor], tensor: torch.Tensor) -> None:
    raise RuntimeError(f"No backend type associated with device type {tensor.device}")


def _reduce(rank: int, folder: str) -> None:
    """Counts are on the CPU, also where the processes' backend is for GPUs only: no collective of tensors."""
    dist.all_gather = _as_nccl
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    _, lengths, codes = random_batch([40, 25, 9], seed=5)
    mine = slice(0, 2) if rank == 0 else slice(2, 3)
    counts(codes[mine], lengths[mine], SIZES).all_reduce().save(f"{folder}/{rank}.safetensors", {})
    dist.destroy_process_group()


def test_counts_all_reduce_two_processes(tmp_path):
    torch.multiprocessing.spawn(_reduce, (str(tmp_path),), nprocs=2)
    _, lengths, codes = random_batch([40, 25, 9], seed=5)
    for rank in range(2):
        assert_same(Counts.load(tmp_path / f"{rank}.safetensors"), counts(codes, lengths, SIZES))


def test_counts_all_reduce_alone_is_itself():
    alone = training_counts()
    assert alone.all_reduce() is alone


@pytest.mark.parametrize(
    "sizes",
    [
        torch.tensor([5, 2**31]), torch.tensor([2**24 + 1, 7]), torch.tensor([5.0, float("nan")]),
        torch.tensor([[5], [7]]), torch.tensor([5, 3]), torch.tensor([5, 0]), torch.tensor([5, -7]),
        torch.tensor([], dtype=torch.int64),
    ],
    ids=str,
)  # fmt: skip
def test_counts_of_sizes_that_cannot_be_are_one_line(sizes):
    tuples, occurrences = torch.tensor([[4, 3]]), torch.tensor([2])  # code 3 is beyond a codebook of 3
    with pytest.raises(InputError, match=r"^x: counts of codes that do not fit") as refusal:
        Counts.from_tensors(tuples, occurrences, sizes, "x")
    assert len(str(refusal.value).splitlines()) == 1
    assert Counts.from_tensors(tuples, occurrences, torch.tensor([5, 4]), "x").sizes == (5, 4)


def test_codebooks_of_stored_counts_have_at_most_2_to_the_24_entries():
    tuples, occurrences = torch.tensor([[4, 2**24 - 1]]), torch.tensor([2])
    found = Counts.from_tensors(tuples, occurrences, torch.tensor([5, 2**24]), "x")
    assert found.of_entries([torch.tensor([4]), torch.tensor([2**24 - 1])])[1].tolist() == [2]
    with pytest.raises(InputError):
        Counts.from_tensors(tuples, occurrences, torch.tensor([5, 2**24 + 1]), "x")


@pytest.mark.parametrize(
    ("tuples", "occurrences"),
    [
        ([[0, 1], [2, 3]], [1, 0]), ([[0, 1], [2, 3]], [1, -1]), ([[0, 1], [2, -3]], [1, 1]),
        ([[0, 1], [2, 3]], [[1, 1]]), ([[0, 1]], [1, 1]), ([0, 1], [1, 1]), ([[0.0, 1.0]], [1]), ([[0, 1]], [1.0]),
        ([[0, 1, 2]], [1]), ([[5, 1]], [1]), ([[0, 7]], [1]),
    ],
    ids=str,
)  # fmt: skip
def test_counts_that_cannot_be_are_one_line(tuples, occurrences):
    sizes = torch.tensor([5, 7])
    assert Counts.from_tensors(torch.tensor([[0, 0], [4, 6]]), torch.tensor([1, 9]), sizes, "x").frames == 10
    with pytest.raises(InputError, match=r"^x: counts of codes that do not fit"):
        Counts.from_tensors(torch.tensor(tuples), torch.tensor(occurrences), sizes, "x")


def test_counts_of_one_entry_are_counts():
    """A single tuple of a single codebook: buffers of one number are not empty ones."""
    one = counts(torch.zeros(1, 1, 1, dtype=torch.int64), torch.tensor([1]), (1,))
    pooling = build("VQ-GP", 6, counts=one)
    assert pooling.has_statistics
    assert not build("VQ-GP", 6).has_statistics
    assert pooling.counts.sizes == (1,)
    with pytest.raises(TypeError):
        one + 3
    with pytest.raises(TypeError):
        3 + one
    assert 0 + one is one


def test_counts_move_where_they_are_not_yet():
    here = training_counts()
    assert here.to("cpu") is here
    there = here.to("meta")
    assert there.tuples.device == there.occurrences.device == torch.device("meta")
    assert there.sizes == here.sizes
