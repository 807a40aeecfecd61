"""Learning curves of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from pandas import DataFrame

#: Splits that are drawn, each with its dashes.
SPLITS = {"dev": "-", "train": ":"}


@style.styled
def curves(log: DataFrame, by: str = "rate", axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draws accuracy over steps: dev as a line, train dotted.

    Args:
        log: a row for each evaluation, with the columns ``pooling``, ``rate`` (learning rate), ``split``, ``step``
            and ``accuracy`` in %. Splits other than dev and train are left out.
        by: what the colours tell apart, "rate" or "pooling"; the other one has a panel for each value.
        axes: one for each of those values.
    """
    other = "pooling" if by == "rate" else "rate"
    log, values = log.sort_values("step"), sorted(log["rate"].unique())
    found = {"rate": values, "pooling": sorted(log["pooling"].unique())}
    columns = min(3, len(found[other]))
    rows = -(-len(found[other]) // columns)
    width = max(3.5, style.WIDTH * columns / 3)
    in_row = 2 if columns == 1 else 6
    height = 0.6 + 2.0 * rows + 0.16 * -(-(len(found[by]) + 2) // in_row)
    shape, entries = (width, height, columns), {}
    panels = style.panels(axes, len(found[other]), *shape, sharey=True, sharex=True)
    for value, panel in zip(found[other], panels):
        for number, name in enumerate(found[by]):
            colour = style.look(number)["color"] if by == "pooling" else style.in_order(number, len(values))
            for split, dashes in SPLITS.items():
                chosen = log[(log[other] == value) & (log[by] == name) & (log["split"] == split)]
                (drawn,) = panel.plot(chosen["step"], chosen["accuracy"], color=colour, linestyle=dashes)
                if split == "dev":
                    entries[_name(by, name)] = drawn
        panel.set(title=_name(other, value), xlabel="step")
        panel.grid(axis="y")
        panel.tick_params(labelbottom=True)  # also where the panel below is missing
    for panel in panels[::columns]:
        panel.set_ylabel("accuracy in %")
    entries.update({split: _example(dashes) for split, dashes in SPLITS.items()})
    style.legend(panels, axes is not None, entries, in_row)
    return panels


def _name(what: str, value: object) -> str:
    return f"lr {value:g}" if what == "rate" else str(value)


def _example(dashes: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], color="#555555", linestyle=dashes)
