"""What a checked batch holds: codes, extents, tables of entries, ids of tuples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pooling_cases import padded, utterances

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import batch as batches
from s3prl_vqpool.pooling.batch import Batch, check_sizes, ranks, tuple_ids


@settings(max_examples=100, deadline=None)
@given(batch=utterances())
def test_fields_are_those_of_the_codes(batch) -> None:
    codes, _ = batch
    padding = 10**6  # ignored, whatever it is
    found = Batch.checked(*padded(codes, padding))
    frames = [frame for q in codes for frame in q]
    assert found.lengths.tolist() == [len(q) for q in codes]
    assert found.mask.sum(dim=1).tolist() == [len(q) for q in codes]
    # 0 in padding is a code too
    assert found.extents == tuple(max(column) + 1 for column in zip(*frames))
    for row, q in enumerate(codes):
        assert [tuple(int(c[row, t]) for c in found.codes) for t in range(len(q))] == q
        assert all(not c[row, len(q) :].any() for c in found.codes)


@pytest.mark.parametrize(
    ("frames", "highest", "width"),
    [(3, 4095, 4097), (3, 4096, 3 + 1), (2000, 7999, 8001), (2000, 8000, 2000 + 1)],
)
def test_large_codes_become_ranks(frames: int, highest: int, width: int) -> None:
    """A table has at most 4096 entries, or 4 for each frame, and one for padding."""
    codes = torch.tensor([5, highest]).repeat(frames)[:frames].view(1, frames, 1)
    batch = Batch.checked(torch.cat([codes, codes]), torch.tensor([frames, 2]))
    index, found = batch.entries[0]
    assert found == width
    direct = width > highest
    assert index[0, :2].tolist() == ([5, highest] if direct else [0, 1])
    # the code of padding, 0, has a rank among the others
    assert index[1].tolist() == ([5, highest] if direct else [1, 2]) + [width - 1] * (frames - 2)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(st.integers(-5, 5), min_size=4, max_size=4), min_size=1, max_size=3))
def test_ranks_are_places_among_the_distinct_values(rows: list[list[int]]) -> None:
    expected = [[sorted(set(row)).index(value) for value in row] for row in rows]
    assert ranks(torch.tensor(rows)).tolist() == expected


@settings(max_examples=100, deadline=None)
@given(batch=utterances(), limit=st.sampled_from([0, 1, 30, 2**62]))
def test_ids_are_equal_where_the_tuples_are(batch, limit: int) -> None:
    """Also where flat ids would not fit, which with 2**62 takes codebooks that no table holds."""
    codes, _ = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "FLAT_LIMIT", limit)
        ids = tuple_ids(Batch.checked(*padded(codes)).entries).tolist()
    for row, q in zip(ids, codes):
        assert len(set(zip(row[: len(q)], q))) == len(set(q)) == len(set(row[: len(q)]))


def test_ids_stay_within_64_bits() -> None:
    """Four codebooks of 2**31 entries, two tuples that differ in the first code only."""
    wide = [(torch.tensor([[0, 2**30, 2**31 - 2]]), 2**31), *[(torch.tensor([[7, 7, 7]]), 2**31)] * 3]
    assert len(set(tuple_ids(wide).flatten().tolist())) == 3
    assert bool((tuple_ids(wide) >= 0).all())


def test_sizes_are_from_1_to_2_to_the_31() -> None:
    assert check_sizes([1, 2**31]) == (1, 2**31)
    for wrong in (0, 2**31 + 1):
        with pytest.raises(InputError, match=rf"but got {wrong} for codebook 1\."):
            check_sizes([1, wrong])
