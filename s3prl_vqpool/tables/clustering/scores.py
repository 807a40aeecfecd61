"""How well clusters fit a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: The names of what `scores` gives, as they are printed.
SCORES = {"ari": "ARI", "nmi": "NMI", "v_measure": "V-measure", "purity": "purity", "coverage": "coverage"}


def scores(clusters: Sequence[int] | np.ndarray, reference: Sequence[str] | np.ndarray) -> dict[str, float]:
    """Scores of N utterances' clusters; all are 1 where the clusters are the reference's classes.

    With ``n[k, c]`` utterances of cluster k and class c:

    - ``ari``: adjusted Rand index, the share of pairs on which both agree, less what chance gives; about 0 for
      random clusters (Hubert and Arabie, 1985).
    - ``nmi``: mutual information over the arithmetic mean of both entropies.
    - ``v_measure``: harmonic mean of homogeneity and completeness (Rosenberg and Hirschberg, 2007); it equals ``nmi``.
    - ``purity``: ``sum_k max_c n[k, c] / N``, the share of utterances in the majority class of their cluster.
    - ``coverage``: ``sum_c max_k n[k, c] / N``, the share of utterances in the largest cluster of their class.

    The first three are scikit-learn's.

    Args:
        clusters: of each utterance, [N].
        reference: class of each utterance, [N].

    Examples:
        >>> found = scores([0, 0, 0, 1], ["a", "a", "b", "b"])
        >>> found["purity"], found["coverage"], found["ari"]
        (0.75, 0.75, 0.0)
    """
    from sklearn import metrics
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(reference, clusters, sparse=True)  # [classes, clusters]
    return {
        "ari": float(metrics.adjusted_rand_score(reference, clusters)),
        "nmi": float(metrics.normalized_mutual_info_score(reference, clusters)),
        "v_measure": float(metrics.v_measure_score(reference, clusters)),
        "purity": float(table.max(axis=0).sum() / table.sum()),
        "coverage": float(table.max(axis=1).sum() / table.sum()),
    }


def partition(clusters: np.ndarray) -> np.ndarray:
    """``clusters`` int64 [N] with a cluster of its own for every noise point (below 0), as it is scored and named."""
    noise = clusters < 0
    alone = clusters.copy()
    alone[noise] = clusters.max(initial=-1) + 1 + np.arange(noise.sum())
    return alone


def summary(clusters: np.ndarray, reference: Sequence[str] | None) -> dict[str, Any]:
    """Numbers of utterances, clusters and noise points; with a ``reference`` that of its classes, and the scores."""
    return {
        "utterances": len(clusters),
        "clusters": int(clusters.max(initial=-1)) + 1,
        "noise": int((clusters < 0).sum()),
        "classes": None if reference is None else len(set(reference)),
        "scores": None if reference is None else scores(partition(clusters), reference),
    }
