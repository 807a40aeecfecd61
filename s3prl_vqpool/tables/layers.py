"""Single layers, and learned weights over them: a linear layer on stored vectors, by the paper's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from . import linear
from .linear import Settings
from .stores import StoredTask
from .supervised import Score, chosen, problem, settings

NOTE = "by layer: one linear layer on the layer's vectors, or, learned, on their sum weighted by a softmax"
#: Stands for a layer's number: all layers, with softmax weights that are learned with the linear layer.
LEARNED = "learned"

#: pooling -> task -> layer -> the score of each fold
LayerScores = dict[str, dict[str, dict[int | str, list[Score]]]]


def measure(
    tasks: Sequence[StoredTask],
    names: Sequence[str],
    rates: Sequence[float] | None,
    seeds: Sequence[int],
    tick: Callable[[str], None],
) -> LayerScores:
    """Scores of every layer, 0 first, and of learned weights; ``tick`` is called for each pooling of a task."""
    scores: LayerScores = {name: {} for name in names}
    for task in tasks:
        for name in names:
            scores[name][task.name] = _evaluate(name, task, settings(task, rates, seeds))
            tick(f"{task.name} layers of {name}")
    return scores


def _evaluate(name: str, task: StoredTask, settings: Settings) -> dict[int | str, list[Score]]:
    vectors = task.features.stored(name)  # [N, layers, D]
    parts: dict[int | str, Tensor] = dict(enumerate(vectors.unbind(1)))
    if len(parts) > 1:
        parts[LEARNED] = vectors
    return {
        layer: [
            chosen(fold.name, linear.fit(part[None], problem(task, fold), settings), settings.rates)
            for fold in task.folds
        ]
        for layer, part in parts.items()
    }
