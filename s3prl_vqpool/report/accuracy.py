"""Accuracy of each pooling with its interval, as a dot plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame


@style.styled
def accuracy(table: DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draws a panel for each task: a dot for each pooling, the first at the top, and its 95 % interval.

    Args:
        table: a row for each dot, with the columns ``source`` (each has its own marker and colour), ``task``,
            ``pooling``, ``accuracy`` in %, and ``low`` and ``high``, the ends of the interval; NaN for none.
        axes: one for each task.
    """
    tasks, poolings = list(table["task"].unique()), list(table["pooling"].unique())
    sources = list(table["source"].unique())
    height = 1.0 + 0.17 * len(poolings) * (1 + 0.25 * (len(sources) - 1)) + 0.16 * len(sources)
    width = min(1.6 + 1.5 * len(tasks), style.WIDTH)
    panels = style.panels(axes, len(tasks), width, height, len(tasks), sharey=True)
    entries = {}
    place = {name: number for number, name in enumerate(poolings)}
    for task, panel in zip(tasks, panels):
        for number, source in enumerate(sources):
            rows = table[(table["task"] == task) & (table["source"] == source)]
            shift = (number - (len(sources) - 1) / 2) * 0.6 / len(sources)
            look = style.look(number)
            at = rows["pooling"].map(place).to_numpy(float) + shift
            panel.hlines(at, rows["low"], rows["high"], colors=look["color"], linewidth=1)
            (entries[source],) = panel.plot(rows["accuracy"].to_numpy(), at, linestyle="none", **look)
        panel.set(title=task, xlabel="accuracy in %", ylim=(len(poolings) - 0.5, -0.5))
        panel.set_yticks(range(len(poolings)), labels=poolings)
        panel.margins(x=0.12)
        panel.grid()
    if len(sources) > 1:
        style.legend(panels, axes is not None, entries, columns=len(tasks))
    return panels
