"""Puts the page together: one HTML file of at most 15 MB, in which nothing refers to anything outside."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ... import __version__
from ...errors import InputError
from ...files import write_text
from ...store import Store
from ...store.threads import torch_threads
from ...tables import stores
from ..embedding import suitable_perplexity
from . import corpus, found, media

LIMIT = 15_000_000
"""Bytes."""
FIGURES = 4_000_000
"""Bytes of figures, at most."""
SCRIPTS = ("page", "map", "viewer")
_HERE = Path(__file__).parent


def require() -> None:
    """Raise InputError, with what to install, where a package of the extra `report` is missing."""
    for name in ("jinja2", "matplotlib", "PIL", "plotly"):
        if importlib.util.find_spec(name) is None:
            raise InputError(f"the page needs {name}: pip install 's3prl-vqpool[report]'.")


def write(folders: Sequence[Path], output: Path, utterances: int = 60, seed: int = 0) -> list[str]:
    """Write the page of what lies below ``folders``.

    Args:
        utterances: so many are shown in full, over all stores.
        seed: of the choice of utterances and of t-SNE.

    Returns:
        Lines on what was left out.

    Raises:
        InputError: nothing there, a table or store that cannot be read, a corpus that is not as it was, a package
            that is missing.
    """
    require()
    from threadpoolctl import threadpool_limits  # scikit-learn brings it

    there = found.below(folders)
    figures, left = _figures(there.figures)
    grids = [found.table(path) for path in there.tables]
    trained = found.experiments(there.experiments)
    page = _Page([*grids, *([trained] if trained else [])], figures, folders)
    clips: dict[str, str] = {}
    # The work is in small products, and with one thread each machine rounds them alike.
    with torch_threads(1), threadpool_limits(1):
        sampled = _sampled(there.stores, utterances, seed)
        data = _data(sampled, seed)
        room = LIMIT - len(page.html({"sets": data, "audio": {}}).encode())
        left += _fill(sampled, data, clips, room)
    write_text(output, page.html({"sets": data, "audio": clips}))
    return left


def _figures(paths: Sequence[Path]) -> tuple[list[dict[str, str]], list[str]]:
    """Each figure's name and data URI: an image runs no script. And lines on those for which there is no room."""
    shown, left, total = [], [], 0
    for path in paths:
        content = path.read_bytes()
        total += len(content)
        if total > FIGURES:
            left.append(f"{path}: left out, because the figures have more than {FIGURES / 1e6:g} MB together")
            total -= len(content)
            continue
        name = " ".join(path.relative_to(path.parents[1]).with_suffix("").parts)
        shown.append({"name": name, "uri": media.uri("image/svg+xml", content)})
    return shown, left


def _sampled(paths: Sequence[Path], utterances: int, seed: int) -> list[corpus.Sampled]:
    opened = [stores.task(path, Store.open(path)) for path in paths]
    return [corpus.sample(task, max(1, utterances // len(opened)), seed) for task in opened]


def _data(sampled: Sequence[corpus.Sampled], seed: int) -> list[dict[str, Any]]:
    """What the page's script reads of each store, without its utterances' media."""
    data = []
    for each in tqdm(sampled, "t-SNE", unit="store", disable=None, file=sys.stderr, leave=False):
        store = each.task.store
        rows = [store.utterances[row] for row in each.rows]
        planes = (
            {name: corpus.plane(vectors, seed) for name, vectors in each.vectors.items()}
            if len(rows) > 3
            else {}
        )
        data.append(
            {
                "name": f"{each.task.name}, {store.manifest['upstream']}",
                "pooling": each.pooling,
                "hop": store.manifest["downsample_rate"] / 16000,
                "planes": planes,
                "perplexity": round(suitable_perplexity(len(rows)), 1),
                "seed": seed,
                "utterances": [
                    {
                        "id": row.id,
                        "path": str(row.path),
                        "label": label,
                        "predicted": predicted,
                        "clip": None,
                    }
                    for row, label, predicted in zip(rows, each.labels, each.predicted)
                ],
            }
        )
    return data


def _fill(
    sampled: Sequence[corpus.Sampled], data: Sequence[dict[str, Any]], clips: dict[str, str], room: int
) -> list[str]:
    """Add what is shown in full, then the audio of the other points, store by store in turn, while there is room.

    ``clips``: audio by a number, so that an utterance that several stores have is there once.
    """
    left = []
    shown = [(k, place, True) for k, each in enumerate(sampled) for place in each.shown]
    others = [(k, place, False) for k, each in enumerate(sampled) for place in range(len(each.rows))]
    order = sorted(shown, key=lambda each: sampled[each[0]].shown.index(each[1]))
    order += sorted(
        (each for each in others if (*each[:2], True) not in set(shown)), key=lambda each: each[1]
    )
    places: dict[str, str] = {}
    missed = {True: 0, False: 0}
    for k, place, full in tqdm(
        order, "utterances", unit="utterance", disable=None, file=sys.stderr, leave=False
    ):
        store, number = sampled[k].task.store, sampled[k].rows[place]
        row = store.utterances[number]
        if not full and room < 100_000:
            missed[full] += 1
            continue
        samples = corpus.read(store, row)
        extra = corpus.details(store, number, samples) if full else {}
        clip = places.get(row.sha256)
        content = "" if clip is not None else media.audio(samples)
        cost = len(content) + sum(len(str(value)) for value in extra.values()) + 200
        if cost > room:
            missed[full] += 1
            continue
        if clip is None:
            clip = places[row.sha256] = str(len(clips))
            clips[clip] = content
        data[k]["utterances"][place].update(clip=clip, **extra)
        room -= cost
    if missed[True]:
        left.append(
            f"{missed[True]} utterances are not shown in full: the page has at most {LIMIT / 1e6:g} MB"
        )
    if missed[False]:
        left.append(f"{missed[False]} points of t-SNE have no audio: the page has at most {LIMIT / 1e6:g} MB")
    return left


class _Page:
    """The template with all but the data."""

    def __init__(
        self, grids: Sequence[found.Grid], figures: Sequence[dict[str, str]], folders: Sequence[Path]
    ) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from plotly.offline import get_plotlyjs

        environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
        self.template = environment.get_template("page.html")
        self.library = get_plotlyjs().replace("</script", "<\\/script").strip()
        self.script = "\n".join((_HERE / f"{name}.js").read_text("utf-8") for name in SCRIPTS).strip()
        self.style = (_HERE / "page.css").read_text("utf-8").strip()
        self.values = {"grids": grids, "figures": figures, "best": [_best(grid) for grid in grids]}
        self.values["title"] = ", ".join(folder.resolve().name for folder in folders)

    def html(self, data: dict[str, Any]) -> str:
        """The page with the data of its script, in which `<`, `>`, `&` and `'` are escaped."""
        from markupsafe import Markup

        code = {name: Markup(text) for name, text in vars(self).items() if isinstance(text, str)}
        hashes = [_hash(self.library), _hash(self.script)]
        return self.template.render(**self.values, **code, hashes=hashes, data=data, version=__version__)


def _hash(script: str) -> str:
    """As a Content-Security-Policy names a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _best(grid: found.Grid) -> set[tuple[int, int]]:
    """(row, column) of the highest figure of each source and column."""
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for number, row in enumerate(grid.rows):
        for column, cell in enumerate(row):
            if isinstance(cell, tuple) and cell[0] > best.get((str(row[0]), column), (-1.0, 0))[0]:
                best[str(row[0]), column] = cell[0], number
    return {(number, column) for (_, column), (_, number) in best.items()}
