"""Clustering of utterance vectors by scikit-learn's methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import InputError

#: From so many vectors on, k-means takes mini-batches.
MANY = 50_000
#: Vectors that the principal components are found from, at most: drawn with the seed.
_FITTED = 100_000
_BLOCK = 65_536
#: A component with less than this share of the largest variance is rounding.
_RANK = 1e-10
#: Least vectors of a cluster of HDBSCAN.
LEAST = 5
NOISE = -1


@dataclass(frozen=True)
class Settings:
    """How vectors are clustered.

    Attributes:
        method: one of `METHODS`.
        clusters: their number K; None for a method that finds it.
        least: fewest vectors of a cluster of HDBSCAN.
        whiten: whether the principal components are divided by their standard deviation.
        components: number of principal components that are kept; None for all.
        seed: of k-means, and of the vectors that the components are found from.
    """

    method: str
    clusters: int | None = None
    least: int | None = None
    whiten: bool = False
    components: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Method:
    """A way to cluster.

    Attributes:
        finds: whether it finds the number of clusters.
        run: vectors [N, D] and settings -> cluster of each, int64 [N]; `NOISE` for none.
        most: most vectors that it takes; None where there is no limit.
    """

    finds: bool
    run: Callable[[np.ndarray, Settings], np.ndarray]
    most: int | None = None


def check(settings: Settings) -> None:
    """InputError unless the options fit the method."""
    method, name = METHODS[settings.method], settings.method
    if method.finds and settings.clusters is not None:
        raise InputError(f"--clusters {settings.clusters}: {name} finds the number itself: leave it out.")
    if not method.finds and settings.clusters is None:
        raise InputError(f"--method {name}: give the number of clusters: --clusters K.")
    if not method.finds and settings.least is not None:
        raise InputError(f"--min-cluster-size {settings.least}: is of hdbscan alone: leave it out.")


def check_fit(settings: Settings, count: int, width: int) -> None:
    """InputError unless the options fit ``count`` vectors of ``width`` numbers."""
    for option, value, least, most in (
        ("--clusters", settings.clusters, 1, count),
        ("--min-cluster-size", settings.least, 2, count),
        ("--pca", settings.components, 1, min(count, width)),
    ):
        if value is not None and not least <= value <= most:
            raise InputError(
                f"{option} {value}: expected {least} to {most}, as there are {count} vectors of {width} numbers."
            )
    limit = METHODS[settings.method].most
    if limit is not None and count > limit:
        raise InputError(
            f"--method {settings.method}: takes up to {limit:,} vectors, as the distances between {count:,} would "
            f"take {4e-9 * count * count:,.0f} GB: give --method kmeans."
        )


def cluster(vectors: np.ndarray, settings: Settings) -> np.ndarray:
    """Cluster of each of N vectors, int64 [N], the largest first; `NOISE` for those that HDBSCAN gives none.

    Of clusters of one size the first is the one with the earlier first vector. The same vectors and settings give the
    same clusters on one machine.

    Args:
        vectors: floating [N, D], finite.

    Raises:
        InputError: as `check` and `check_fit`.
    """
    check(settings)
    check_fit(settings, *vectors.shape)
    return _largest_first(METHODS[settings.method].run(prepare(vectors, settings), settings))


def prepare(vectors: np.ndarray, settings: Settings) -> np.ndarray:
    """Vectors [N, D] that are turned to principal components, whitened where asked, then of length 1 (or 0).

    Without ``whiten`` and ``components`` only the length changes. The components are found in float64, from all
    vectors, or from 100,000 drawn ones where there are more.

    Raises:
        InputError: components of vectors that are all equal.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    if not settings.whiten and settings.components is None:
        return normalize(vectors)
    if not np.ptp(vectors, axis=0).any():
        raise InputError("--pca and --whiten: all vectors are equal: leave both out.")
    sample = vectors
    if len(vectors) > _FITTED:
        rows = np.random.default_rng(settings.seed).choice(len(vectors), _FITTED, replace=False)
        sample = vectors[np.sort(rows)]
    found = PCA(settings.components, svd_solver="covariance_eigh").fit(sample.astype(np.float64))
    variances = found.explained_variance_
    kept = variances > _RANK * variances[0]
    axes = found.components_[kept].T  # [D, components]
    if settings.whiten:
        axes = axes / np.sqrt(variances[kept])
    turned = np.empty((len(vectors), axes.shape[1]), vectors.dtype)
    for start in range(0, len(vectors), _BLOCK):
        part = slice(start, start + _BLOCK)
        turned[part] = (vectors[part] - found.mean_) @ axes
    return normalize(turned, copy=False)


def _hdbscan(vectors: np.ndarray, settings: Settings) -> np.ndarray:
    from sklearn.cluster import HDBSCAN

    least = LEAST if settings.least is None else settings.least
    if len(vectors) < least:
        return np.full(len(vectors), NOISE)
    return HDBSCAN(min_cluster_size=least, copy=True).fit_predict(vectors)


def _kmeans(vectors: np.ndarray, settings: Settings) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(vectors) < MANY:
        return KMeans(settings.clusters, n_init=10, random_state=settings.seed).fit_predict(vectors)
    batches = MiniBatchKMeans(settings.clusters, batch_size=8192, n_init=1, random_state=settings.seed)
    return batches.fit_predict(vectors)


def _agglomerative(vectors: np.ndarray, settings: Settings) -> np.ndarray:
    from sklearn.cluster import AgglomerativeClustering

    if len(vectors) == 1:
        return np.zeros(1, dtype=np.int64)
    return AgglomerativeClustering(settings.clusters, linkage="average").fit_predict(vectors)


def _largest_first(found: np.ndarray) -> np.ndarray:
    """``found`` with its clusters numbered from 0 by size."""
    names, first, numbers, sizes = np.unique(
        found, return_index=True, return_inverse=True, return_counts=True
    )
    order = [k for k in np.lexsort((first, -sizes)) if names[k] != NOISE]
    ranks = np.full(len(names), NOISE)
    ranks[order] = np.arange(len(order))
    return ranks[numbers]


#: By name.
METHODS = {
    "hdbscan": Method(finds=True, run=_hdbscan),
    "kmeans": Method(finds=False, run=_kmeans),
    "agglomerative": Method(finds=False, run=_agglomerative, most=30_000),
}


def seconds(settings: Settings, count: int, width: int) -> float:
    """About how long a method takes that compares all ``count`` vectors of ``width`` numbers; 0 for others."""
    kept = width if settings.components is None else settings.components
    return SECONDS_OF_100_000 * (count / 100_000) ** 2 * kept / 64 if METHODS[settings.method].finds else 0.0


#: HDBSCAN of 100,000 vectors of 64 numbers on one core, by the square from 20,000 (docs/measurements/clustering.md).
SECONDS_OF_100_000 = 600.0
