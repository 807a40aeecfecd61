"""Intervals and p-values of the studies, against hand-computed cases and scipy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from intervals import holm, interval, mcnemar


def test_mcnemar_counts_only_utterances_that_differ() -> None:
    first = np.array([1] * 50 + [1] * 5 + [0] * 1 + [0] * 20)
    second = np.array([1] * 50 + [0] * 5 + [1] * 1 + [0] * 20)
    expected = 2 * (1 + 6) / 2**6  # of 6 coins at most one, or at least five, show heads
    assert mcnemar(first, second) == mcnemar(second, first) == pytest.approx(expected)
    assert mcnemar(first, first) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.6]) == pytest.approx([0.04, 0.09, 0.09, 0.6])
    assert holm([0.7, 0.8]) == [1.0, 1.0]


def test_interval_is_the_bootstraps() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).choice([-1, 0, 1], size=500, p=[0.1, 0.6, 0.3])
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(2))
    assert interval(values) == pytest.approx(tuple(100 * np.array(expected.confidence_interval)), abs=0.5)
    assert interval(np.ones(7)) == (100, 100)
