"""Counts of the training split's codes, some utterances at a time."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from s3prl_vqpool import pooling
from s3prl_vqpool.store import training


@pytest.mark.parametrize(
    ("rows", "parts"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])]
)
def test_a_thousand_utterances_are_counted_at_once(
    rows: int, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    count = pooling.counts
    monkeypatch.setattr(
        pooling, "counts", lambda codes, *given: held.append(codes.size(1)) or count(codes, *given)
    )
    store = SimpleNamespace(
        manifest={"codebook_sizes": [3, 5]}, codes=lambda row: torch.tensor([[row % 3, row % 5], [0, 1]])
    )
    found = training._counts(store, range(rows))  # type: ignore[arg-type]
    assert held == [2 * part for part in parts]
    expected = Counter([(row % 3, row % 5) for row in range(rows)] + [(0, 1)] * rows)
    assert dict(zip(map(tuple, found.tuples.tolist()), found.occurrences.tolist())) == expected


def test_fingerprint_is_of_tuples_occurrences_and_sizes() -> None:
    def fingerprint(tuples: list, occurrences: list, sizes: tuple[int, ...]) -> str:
        return training.fingerprint(pooling.Counts(torch.tensor(tuples), torch.tensor(occurrences), sizes))

    every = [
        fingerprint([[0, 1]], [2], (3, 5)), fingerprint([[1, 0]], [2], (3, 5)), fingerprint([[0, 1]], [3], (3, 5)),
        fingerprint([[0, 1]], [2], (5, 3)), fingerprint([[0, 1], [0, 2]], [2, 2], (3, 5)),
    ]  # fmt: skip
    assert len(set(every)) == len(every)
    assert every[0] == fingerprint([[0, 1]], [2], (3, 5))
    assert all(len(each) == 64 for each in every)
