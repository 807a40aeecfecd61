"""How sure an accuracy, and a difference between two, is: from one number for each utterance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

#: Bootstrap samples.
SAMPLES = 10_000


def interval(
    values: np.ndarray, weights: np.ndarray | None = None, speakers: Sequence[str] | None = None
) -> tuple[float, float]:
    """95 % of the means in % of bootstrap samples, as `resampled` draws them."""
    return limits(resampled(values, weights, speakers))


def limits(means: np.ndarray) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def resampled(
    values: np.ndarray,
    weights: np.ndarray | None = None,
    speakers: Sequence[str] | None = None,
    seed: int | Sequence[int] = 0,
) -> np.ndarray:
    """Means in % of `SAMPLES` bootstrap samples of ``values`` [N], float64 [SAMPLES].

    Utterances are drawn; with two speakers or more, whole speakers are (a cluster bootstrap), and an utterance of
    nobody known is one of its own. What is alike is drawn together, which is the same and faster.

    Args:
        values: of each utterance, such as 1 where it is right, or the difference of two.
        weights: how much each utterance counts in the mean; by default 1.
        speakers: of each utterance; "" where nobody is known.
    """
    weights = np.ones(len(values)) if weights is None else weights
    units = by_speaker(speakers) if speakers else None
    if units is None:
        units = np.arange(len(values))
    sums, masses = (np.bincount(units, each) for each in (values * weights, weights))
    kinds, counts = np.unique(np.stack([sums, masses], axis=1).round(12), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(sums), counts / len(sums), size=SAMPLES)
    return 100 * (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])


def by_speaker(speakers: Sequence[str]) -> np.ndarray | None:
    """Number of the speaker of each utterance, from 0, int64 [N]; None where there are fewer than two names."""
    if len({*speakers} - {""}) < 2:
        return None
    named = [(speaker, -1 if speaker else place) for place, speaker in enumerate(speakers)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
    return np.array([numbers[name] for name in named])


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
