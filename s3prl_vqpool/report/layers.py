"""Accuracy of every layer of the upstream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

#: What stands in ``layer`` for all layers at once.
TOGETHER = ("mean", "learned")


@style.styled
def layers(table: DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draws a panel for each task: accuracy over layers, a line for each pooling.

    To the right stand, as dots, the mean over layers and learned weights over layers, where the table has them. Bars
    are the ``deviation`` over seeds.

    Args:
        table: of one upstream, with the columns ``source``, ``task``, ``pooling``, ``layer`` (a number, "mean" or
            "learned"), ``accuracy`` in %, and ``deviation``; NaN for none.
        axes: one for each task.

    Raises:
        InputError: no single layer is in the table.
    """
    numbered = table[~table["layer"].isin(TOGETHER)]
    if numbered.empty:
        raise InputError("no accuracy of single layers: vqpool benchmark ... --layers adds them.")
    tasks, poolings = list(numbered["task"].unique()), list(numbered["pooling"].unique())
    columns = min(2, len(tasks))
    height = 0.5 + 2.0 * -(-len(tasks) // columns) + 0.16 * -(-len(poolings) // 4)
    panels = style.panels(axes, len(tasks), style.WIDTH * (columns + 1) / 3, height, columns)
    table, entries = table[table["source"].isin(numbered["source"])], {}  # the paper has no single layers
    last = int(numbered["layer"].max())
    together = [name for name in TOGETHER if name in set(table["layer"])]
    places = {name: last + 1.5 + number for number, name in enumerate(together)}
    for task, panel in zip(tasks, panels):
        for number, name in enumerate(poolings):
            rows = table[(table["task"] == task) & (table["pooling"] == name)]
            look, single = style.line(number), ~rows["layer"].isin(TOGETHER)
            line, dots = rows[single], rows[~single]
            entries[name] = panel.errorbar(
                line["layer"].astype(int), line["accuracy"], line["deviation"], **look
            )
            look["linestyle"] = "none"
            panel.errorbar(dots["layer"].map(places), dots["accuracy"], dots["deviation"], **look)
        step = -(-(last + 1) // 9)
        numbers = list(range(0, last + 1, step))
        panel.set_xticks([*numbers, *places.values()], labels=[*map(str, numbers), *places])
        panel.set(title=task, xlabel="layer", ylabel="accuracy in %")
        panel.grid(axis="y")
    style.legend(panels, axes is not None, entries, columns=4)
    return panels
