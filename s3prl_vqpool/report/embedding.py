"""Utterance vectors in the plane, by t-SNE: Figure 2 of arXiv 2304.03940."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..errors import InputError
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PERPLEXITY = 30.0
_DOT = 9
"""Area of a dot, in square points."""


def suitable_perplexity(count: int) -> float:
    """30, or a third of the other utterances where those are few: t-SNE's neighbours must be a part of all."""
    return min(_PERPLEXITY, (count - 1) / 3)


def tsne(vectors: Tensor, perplexity: float | None = None, seed: int = 0) -> np.ndarray:
    """Points float32 [N, 2] of vectors [N, D], by scikit-learn's t-SNE, begun from the principal components.

    Args:
        perplexity: by default `suitable_perplexity`.

    Raises:
        InputError: fewer than 4 vectors, or a ``perplexity`` that is not in (0, N).
    """
    from sklearn.manifold import TSNE

    if len(vectors) < 4:
        raise InputError(f"t-SNE of {len(vectors)} utterance(s): expected at least 4.")
    perplexity = suitable_perplexity(len(vectors)) if perplexity is None else perplexity
    if not 0 < perplexity < len(vectors):
        raise InputError(
            f"perplexity {perplexity:g}: expected above 0 and below the number of utterances, {len(vectors)}."
        )
    return TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(vectors.float().numpy())


def most_frequent(labels: Sequence[str], count: int) -> list[str]:
    """The ``count`` most frequent labels, sorted by name; of equally frequent ones the first by name."""
    found = sorted(Counter(labels).items(), key=lambda each: (-each[1], each[0]))
    return sorted(label for label, _ in found[:count])


@style.styled
def embedding(
    vectors: Mapping[str, Tensor],
    labels: Sequence[str],
    perplexity: float | None = None,
    seed: int = 0,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Draws utterances as dots, coloured by class, in a panel for each pooling.

    Args:
        vectors: by the pooling's name, floating [N, D].
        labels: class of each of the N utterances.
        perplexity: as for `tsne`; the figure says it.
        seed: as ``perplexity``.
        axes: one for each pooling.

    Raises:
        InputError: as from `tsne`.
    """
    perplexity = suitable_perplexity(len(labels)) if perplexity is None else perplexity
    points = {name: tsne(each, perplexity, seed) for name, each in vectors.items()}
    count = len(points)
    panels = style.panels(axes, count, style.WIDTH * (count + 0.4) / 2.4, 3.0, count)
    classes, found, entries = sorted(set(labels)), np.array(labels), {}
    for (name, places), panel in zip(points.items(), panels):
        for number, label in enumerate(classes):
            x, y = places[found == label].T
            look = {**style.look(number), "linewidths": 0.2, "edgecolors": "#444444"}
            entries[label] = panel.scatter(x, y, _DOT, **look)
        panel.set(title=name, xticks=[], yticks=[], xlabel=f"t-SNE, perplexity {perplexity:g}, seed {seed}")
        panel.set_aspect("equal", "datalim")
        panel.spines[:].set_visible(False)
    style.legend(panels, axes is not None, entries, 1 if len(classes) <= 18 else 2, "right center")
    return panels
