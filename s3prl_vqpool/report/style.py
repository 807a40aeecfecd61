"""What all figures share: colours for the colour-blind, type, panels, and files whose bytes the input decides."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError
from ..files import whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The colours of Okabe and Ito (2008), told apart with any colour vision; the palest is last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = "osD^vP"
DASHES = ("-", "--", ":", "-.")
#: For quantities. Its lightness rises evenly, so it also prints in grey.
COLOUR_MAP = "cividis"
#: For a few values in an order, such as learning rates.
ORDERED = "viridis"

SUFFIXES = (".svg", ".pdf", ".png")
WIDTH = 7.0
"""Inches: both columns of a page."""

_SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "svg.hashsalt": "s3prl-vqpool",
    "text.parse_math": False,  # names come from users' files
}

_T = TypeVar("_T", bound=Callable[..., Any])


def require() -> None:
    """Raise InputError, with what to install, where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("figures need matplotlib: pip install 's3prl-vqpool[report]'.")


def styled(draw: _T) -> _T:
    """Decorate a function that draws: it needs matplotlib, and has this module's settings."""

    @wraps(draw)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _settings():
            return draw(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


@contextmanager
def _settings() -> Iterator[None]:
    require()
    import matplotlib

    with matplotlib.rc_context(_SETTINGS):
        yield


def single(axes: Axes | None, width: float = WIDTH / 2, height: float = 2.6) -> Axes:
    """``axes``, or those of a new figure of this size in inches."""
    return axes if axes is not None else panels(None, 1, width, height)[0]


def panels(
    axes: Sequence[Axes] | None, count: int, width: float, height: float, columns: int = 1, **more: Any
) -> list[Axes]:
    """``axes``, which must be ``count``, or those of a new figure.

    Args:
        width: of the figure in inches.
        height: as ``width``.
        columns: panels in a row.
        more: for `matplotlib.pyplot.subplots`.

    Raises:
        InputError: another number of axes.
    """
    if axes is None:
        from matplotlib import pyplot

        rows = -(-count // columns)
        figure, grid = pyplot.subplots(
            rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **more
        )
        made = list(grid.flat)
        for unused in made[count:]:
            figure.delaxes(unused)
        return made[:count]
    given = list(axes)
    if len(given) != count:
        raise InputError(f"Expected {count} axes, but got {len(given)}.")
    return given


def legend(
    panels: Sequence[Axes], given: bool, entries: Mapping[str, Any], columns: int, side: str = "lower center"
) -> None:
    """One legend: outside the panels of a new figure, or inside the last of ``given`` axes.

    Args:
        entries: by the label, what was drawn; also labels that begin with "_", which matplotlib would leave out.
        columns: at most so many entries in a row.
    """
    shown: dict[str, Any] = {"handles": list(entries.values()), "labels": list(entries)}
    if given:
        panels[-1].legend(**shown)
    else:
        shown.update(loc=f"outside {side}", ncols=min(columns, len(entries)))
        panels[0].figure.legend(**shown)


def look(number: int) -> dict[str, Any]:
    """Colour and marker of what has this number; both together differ for the first 24."""
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def line(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of a line; of lines on top of each other all are seen."""
    dashes = DASHES[number % len(DASHES)]
    return {**look(number), "linestyle": dashes, "markerfacecolor": "none"}


def in_order(number: int, count: int) -> Any:
    """Colour of value ``number`` among ``count`` ordered ones; the palest end is left out."""
    import matplotlib

    return matplotlib.colormaps[ORDERED](0.9 * number / max(count - 1, 1))


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as SVG, PDF or PNG, by the suffix of ``path``; the same figure gives the same bytes.

    The figure's layout stays as it is written.

    Raises:
        InputError: another suffix.
    """
    path = Path(path)
    check_suffix(path)
    kind = path.suffix[1:]
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with _settings(), whole(path) as temporary:
        _fix_layout(figure)
        figure.savefig(temporary, format=kind, metadata=metadata, dpi=200)


def _fix_layout(figure: Figure) -> None:
    """Round where the panels are: the last bits of that differ from run to run, and ids in SVG depend on them."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = (round(x, 6) for x in axes.get_position(original=True).bounds)
        axes.set_position((left, bottom, width, height))


def check_suffix(path: Path) -> None:
    """Raise InputError unless `save` can write ``path``."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: name a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file.")
