"""How sure a difference in accuracy is, from one number for each utterance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

SAMPLES = 10_000


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the means in % of bootstrap samples of ``values`` [N], which are -1, 0 or 1."""
    shares = [np.mean(values == value) for value in (-1, 0, 1)]
    drawn = np.random.default_rng(0).multinomial(len(values), shares, size=SAMPLES)
    low, high = np.percentile(100 * (drawn[:, 2] - drawn[:, 0]) / len(values), [2.5, 97.5])
    return float(low), float(high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value that both are right equally often, from the utterances where they differ."""
    won, lost = int((first > second).sum()), int((second > first).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's step-down method."""
    corrected, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(np.argsort(values)):
        highest = max(highest, min(1.0, values[place] * (len(values) - rank)))
        corrected[place] = highest
    return corrected
