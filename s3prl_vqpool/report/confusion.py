"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = "Blues"
"""One hue, from white for 0: it is told apart with any colour vision, and in grey."""
_WITH_NUMBERS = 12
"""Up to so many classes, each field has its percentage."""


@style.styled
def confusion(
    labels: Sequence[Any],
    predictions: Sequence[Any],
    names: Sequence[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draws a confusion matrix: row by row, the share of a class's utterances that got each prediction.

    Args:
        labels: class of each utterance, as a name or as an index.
        predictions: as ``labels``.
        names: of the classes: with indices in their order, otherwise which are shown and in which order. By default
            all that occur, sorted.
    """
    from sklearn.metrics import confusion_matrix

    indices = names is not None and len(labels) > 0 and not isinstance(labels[0], str)
    shown = list(names) if names is not None else sorted({*labels, *predictions})
    order = list(range(len(shown))) if indices else shown
    matrix = confusion_matrix(labels, predictions, labels=order, normalize="true")
    axes = style.single(axes, *_size(len(shown)))
    image = axes.imshow(matrix, cmap=_COLOURS, vmin=0, vmax=1, interpolation="nearest")
    size = 8 if len(shown) <= _WITH_NUMBERS else max(3.5, min(7.0, 250 / len(shown)))
    ticks: dict[str, Any] = {
        "ticks": range(len(shown)),
        "labels": [str(each) for each in shown],
        "fontsize": size,
    }
    axes.set_xticks(**ticks, rotation=90)
    axes.set_yticks(**ticks)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(True)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the true class")
    for row, column in zip(*matrix.nonzero()) if len(shown) <= _WITH_NUMBERS else ():
        share = matrix[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5, color=colour)
    return axes


@style.styled
def side_by_side(answers: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> list[Axes]:
    """Draws a `confusion` for each pooling, with the same classes in each.

    Args:
        answers: by the pooling's name, labels and predictions.
    """
    names = sorted({name for both in answers.values() for each in both for name in each})
    width, height = _size(len(names))
    panels = style.panels(None, len(answers), width * len(answers), height, len(answers))
    for (pooling, (labels, predicted)), panel in zip(answers.items(), panels):
        confusion(labels, predicted, names, panel).set_title(pooling)
    return panels


def _size(classes: int) -> tuple[float, float]:
    """Width and height in inches."""
    side = min(2.2 + 0.14 * classes, style.WIDTH)
    return side + 0.5, side
