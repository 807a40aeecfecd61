"""Intervals and p-values, against hand-computed cases, scipy, and drawing one by one."""

from __future__ import annotations

import numpy as np
import pytest

from s3prl_vqpool.tables.intervals import by_speaker, holm, interval, limits, mcnemar, resampled


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


def test_interval_by_speaker_is_that_of_drawing_speakers() -> None:
    random = np.random.default_rng(3)
    speakers = [f"s{k % 12}" for k in range(300)] + [""] * 20
    skill = dict(zip(sorted({*speakers}), random.uniform(0.1, 0.9, size=13)))
    values = np.array([float(random.random() < skill[each]) for each in speakers])
    weights = np.where(np.arange(320) < 100, 0.01, 0.005)
    names = [speaker or f"alone {k}" for k, speaker in enumerate(speakers)]
    rows = {name: [k for k, each in enumerate(names) if each == name] for name in names}
    means = []
    for _ in range(4000):
        drawn = [k for name in random.choice(list(rows), size=len(rows)) for k in rows[name]]
        means.append(100 * np.average(values[drawn], weights=weights[drawn]))
    assert interval(values, weights, speakers) == pytest.approx(limits(np.array(means)), abs=1.2)
    low, high = interval(values, weights)
    assert limits(np.array(means))[1] - limits(np.array(means))[0] > 1.3 * (high - low)


def test_one_speaker_is_no_sample_of_speakers() -> None:
    values = np.array([0.0, 1.0] * 20)
    assert by_speaker([""] * 40) is None
    assert by_speaker(["unknown"] * 39 + [""]) is None
    assert interval(values, speakers=["unknown"] * 40) == interval(values)
    assert by_speaker(["a", "", "b", "a", ""]).tolist() == [0, 1, 2, 0, 3]


def test_resampled_means_lie_around_the_weighted_mean() -> None:
    values, weights = np.array([1.0] * 30 + [0.0] * 70), np.array([2.0] * 30 + [1.0] * 70)
    assert resampled(values, weights).mean() == pytest.approx(100 * 60 / 130, abs=0.3)
    assert (resampled(values, seed=1) != resampled(values, seed=2)).any()
