#!/usr/bin/env python3
"""Compare every point of the product weights x moments x map by nearest neighbour, on stores of one upstream.

The point with the highest dev accuracy is reported on test; each fold of ER chooses its own. Beside it stand AP and the
paper's points, of which dev chooses one in the same way. Intervals are 95 % of bootstrap samples (10,000, seeded) of
the test set's speakers or, where the corpus names none or they are the label, of its utterances. P-values are those of
McNemar's exact test on the same utterances, corrected by Holm's method over all comparisons of the table. The additive
model is a least-squares fit of dev accuracies. "whitening*" is whitening with Ledoit-Wolf shrinkage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from s3prl_vqpool import pooling  # noqa: E402
from s3prl_vqpool.store import Store  # noqa: E402
from s3prl_vqpool.tables import nearest, stores  # noqa: E402
from s3prl_vqpool.tables.intervals import holm, interval, mcnemar  # noqa: E402
from s3prl_vqpool.tables.stores import StoredTask  # noqa: E402

BASE = ("AP", "mean", "none")
"""Weights, moments and map of AP."""


@dataclass(frozen=True)
class Point:
    """A point of the product: its pooling, fixed options, and its weights, moments and map."""

    label: str
    pooling: str
    levels: tuple[str, str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """Of each fold: accuracy on dev in %, and for each test utterance 1 if it is right, else 0.

    ``speakers``: of all test utterances, fold after fold.
    """

    dev: list[float]
    right: list[np.ndarray]
    speakers: tuple[str, ...]


Outcomes = Mapping[str, Outcome]


def product() -> list[Point]:
    """Every point but those of S3PRL's `mean`, which is AP on one more frame."""
    found = []
    for name in pooling.points():
        known = pooling.method(name)
        if known.weights_name == "mean":
            continue
        of_map = known.map.name if known.map else "none"
        levels = (known.weights_name, "mean+std" if known.moments else "mean", of_map)
        found.append(Point(name, name, levels))
        if of_map == "whitening":
            found.append(Point(f"{name}*", name, (*levels[:2], "whitening*"), {"shrinkage": "ledoit-wolf"}))
    return found


def papers_points() -> list[Point]:
    """The poolings that the paper names and does not learn."""
    known = [pooling.method(name) for name in pooling.methods() if name != "mean"]
    return [Point(each.name, each.name, BASE) for each in known if each.learned is None]


def levels_of(points: Sequence[Point]) -> list[list[str]]:
    """All weights, all moments, all maps, in the order of ``points``."""
    return [list(dict.fromkeys(levels)) for levels in zip(*(point.levels for point in points))]


def evaluate(points: Sequence[Point], task: StoredTask) -> dict[str, Outcome]:
    """By label. Options with a grid are chosen on dev of each fold, of equals the first."""
    rows = torch.cat([fold.test for fold in task.folds]).tolist()
    speakers = tuple(task.speakers[row] for row in rows)
    found = {point.label: Outcome([], [], speakers) for point in points}
    for unmapped in dict.fromkeys(pooling.method(point.pooling).unmapped.name for point in points):
        group = [point for point in points if pooling.method(point.pooling).unmapped.name == unmapped]
        for fold, tried in zip(task.folds, nearest.candidates(unmapped, task.features, task.folds)):
            best: dict[str, tuple[float, Tensor]] = {}
            for _, vectors in tried:
                for point in group:
                    each = mapped(point, vectors, fold.train)
                    dev = nearest.accuracy(each, task.labels, fold.train, fold.dev, fold.dev_weights)
                    best[point.label] = max(
                        best.get(point.label, (dev, each)), (dev, each), key=itemgetter(0)
                    )
            for label, (dev, each) in best.items():
                found[label].dev.append(dev)
                predicted = nearest.predicted(each, task.labels, fold.train, fold.test)
                right = (predicted == task.labels[fold.test]).all(dim=1)
                found[label].right.append(right.long().numpy())
    return found


def mapped(point: Point, vectors: Tensor, train: Tensor) -> Tensor:
    """Vectors of a point, from those without its map; the map is fitted on the rows ``train``."""
    if pooling.method(point.pooling).map is None:
        return vectors
    return pooling.fit(point.pooling, vectors[train], **point.options)(vectors.double())


def chosen(outcomes: Outcomes) -> tuple[list[str], np.ndarray]:
    """The label that dev of each fold chooses, of equals the first, and all test utterances under it."""
    folds = range(len(next(iter(outcomes.values())).dev))
    labels = [max(outcomes, key=lambda label: outcomes[label].dev[fold]) for fold in folds]
    return labels, np.concatenate([outcomes[label].right[fold] for fold, label in zip(folds, labels)])


def everything(each: Outcome) -> np.ndarray:
    """All test utterances, fold after fold."""
    return np.concatenate(each.right)


def additive(points: Sequence[Point], accuracies: np.ndarray) -> tuple[float, dict[str, float], float]:
    """Accuracy of AP, points that each level adds to it, and share of variance that the three factors explain."""
    levels = [level for factor in levels_of(points) for level in factor if level not in BASE]
    design = np.array([[1.0, *(level in point.levels for level in levels)] for point in points])
    fitted, *_ = np.linalg.lstsq(design, accuracies, rcond=None)
    explained = 1 - np.var(accuracies - design @ fitted) / np.var(accuracies)
    return float(fitted[0]), dict(zip(levels, fitted[1:].tolist())), float(explained)


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def heading(title: str, *columns: str) -> None:
    print(f"\n### {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


def between(values: np.ndarray, speakers: Sequence[str]) -> str:
    """The mean in % with its interval."""
    low, high = interval(values, speakers=speakers)
    return f"{100 * values.mean():.2f} [{low:.1f}, {high:.1f}]"


def report_choices(results: Mapping[str, Outcomes], paper: Mapping[str, Outcomes]) -> None:
    heading("Chosen on dev, reported on test", "task", "among", "chosen", "test", "gain", "p")
    rows: list[tuple[str, str, str, np.ndarray, np.ndarray | None]] = []
    for task, outcomes in results.items():
        labels, best = chosen(outcomes)
        named, papers = chosen(paper[task])
        base = everything(outcomes["AP"])
        rows += [
            (task, "AP", "`AP`", base, None),
            (task, "the paper's points", in_words(*named), papers, base),
            (task, "the product", in_words(*labels), best, base),
            (task, "the product over the paper's", "", best, papers),
        ]
    compared = holm([mcnemar(right, base) for *_, right, base in rows if base is not None])
    for task, among, names, right, beside in rows:
        speakers = results[task]["AP"].speakers
        gain = ["", ""] if beside is None else [between(right - beside, speakers), f"{compared.pop(0):.2g}"]
        row(task, among, names, between(right, speakers) if names else "", *gain)


def in_words(*labels: str) -> str:
    return ", ".join(f"`{label}`" for label in dict.fromkeys(labels)).replace("|", "\\|")


def report_transfer(results: Mapping[str, Outcomes]) -> None:
    if len(results) == 1:
        return
    heading("Chosen on dev of the other tasks, reported on test", "task", "chosen", "test", "gain over AP")
    for task, outcomes in results.items():
        others = [each for name, each in results.items() if name != task]
        best = max(outcomes, key=lambda label: sum(np.mean(each[label].dev) for each in others))
        right = everything(outcomes[best])
        gain, speakers = right - everything(outcomes["AP"]), outcomes[best].speakers
        row(task, in_words(best), between(right, speakers), between(gain, speakers))


def report_additive(points: Sequence[Point], results: Mapping[str, Outcomes]) -> None:
    dev = {task: [np.mean(outcomes[p.label].dev) for p in points] for task, outcomes in results.items()}
    models = {task: additive(points, np.array(accuracies)) for task, accuracies in dev.items()}
    heading("What each factor adds on dev (additive model)", "level", *models)
    row("AP", *(f"{base:.1f}" for base, _, _ in models.values()))
    for level in next(iter(models.values()))[1]:
        row(level, *(f"{effects[level]:+.1f}" for _, effects, _ in models.values()))
    row("variance explained, %", *(f"{100 * share:.0f}" for *_, share in models.values()))


def report_points(points: Sequence[Point], results: Mapping[str, Outcomes]) -> None:
    heading("Every point: dev / test [interval]", "point", *results)
    for point in points:
        cells = [outcomes[point.label] for outcomes in results.values()]
        row(
            in_words(point.label),
            *(f"{np.mean(c.dev):.1f} / {between(everything(c), c.speakers)}" for c in cells),
        )


def draw(points: Sequence[Point], results: Mapping[str, Outcomes], path: Path) -> None:
    """Dots with intervals: weights from top to bottom, colours for maps, filled where +std."""
    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "0", "font.size": 9})
    weights, moments, maps = levels_of(points)
    figure, panels = pyplot.subplots(1, len(results), figsize=(11, 10), sharey=True, squeeze=False)
    for panel, (task, outcomes) in zip(panels[0], results.items()):
        for point in points:
            of_weights, of_moments, of_map = point.levels
            place = (maps.index(of_map) * 2 + moments.index(of_moments) + 0.5) / (2 * len(maps)) - 0.5
            right, colour = everything(outcomes[point.label]), f"C{maps.index(of_map)}"
            y, filled = weights.index(of_weights) + 0.85 * place, of_moments != "mean"
            panel.plot(
                interval(right, speakers=outcomes[point.label].speakers), (y, y), color=colour, linewidth=0.8
            )
            panel.plot(100 * right.mean(), y, "o", ms=4, mec=colour, mfc=colour if filled else "white")
        panel.set_yticks([n + 0.5 for n in range(len(weights))], minor=True)
        panel.grid(axis="y", which="minor", color="0.85", linewidth=0.6)
        panel.set(title=task, xlabel="test accuracy, %", ylim=(len(weights) - 0.5, -0.5))
        panel.set_yticks(range(len(weights)), weights)
    keys = [pyplot.Line2D([], [], color=f"C{n}", marker="o", ms=4, label=name) for n, name in enumerate(maps)]
    style: dict[str, Any] = {"color": "0.3", "linestyle": "", "marker": "o", "ms": 4}
    keys += [pyplot.Line2D([], [], mfc=c, label=m, **style) for m, c in zip(moments, ("white", "0.3"))]
    figure.legend(handles=keys, loc="upper center", ncols=len(keys), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.965))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", type=Path, nargs="+", required=True, help="one for each task, with frames")
    parser.add_argument("--figure", type=Path, help="SVG file to draw into")
    arguments = parser.parse_args()
    tasks = stores.tasks({path: Store.open(path) for path in arguments.store})
    points, named = product(), papers_points()
    print(f"{tasks[0].store.manifest['upstream']}; torch {torch.__version__}")
    found = {task.name: evaluate([*points, *named], task) for task in tasks}
    results, paper = (
        {task: {each.label: outcomes[each.label] for each in some} for task, outcomes in found.items()}
        for some in (points, named)
    )
    report_choices(results, paper)
    report_transfer(results)
    report_additive(points, results)
    if arguments.figure:
        draw(points, results, arguments.figure)
    report_points(points, results)


if __name__ == "__main__":
    main()
