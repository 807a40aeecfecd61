"""Which point of the product clusters a task's classes best: chosen on dev by ARI, reported on test.

For each method of `vqpool cluster` with its default options and the number of classes as K. Intervals: 1,000 halves of
the test utterances are drawn without replacement while the clusters stay; the spread of a half's ARI is that of the
whole's (a delete-d jackknife with d = N / 2, whose factor (N - d) / d is 1). Drawing with replacement, as a bootstrap
does, would pair utterances with themselves, which raises ARI.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_rand_score
from tqdm import tqdm

from s3prl_vqpool import pooling
from s3prl_vqpool.store import Store
from s3prl_vqpool.tables import nearest, stores, table1
from s3prl_vqpool.tables.clustering import methods
from s3prl_vqpool.tables.clustering.methods import Settings
from s3prl_vqpool.tables.clustering.scores import partition, scores
from s3prl_vqpool.tables.stores import StoredTask

HALVES = 1_000
#: Standard normal's 97.5th percentile.
_WIDE = 1.96

#: For each point and method: clusters on dev and on test, without noise.
Found = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def evaluate(task: StoredTask, names: Sequence[str]) -> Found:
    """Clusters of dev and test, by every method, of the vectors of every point."""
    fold, found = task.folds[0], {}
    for name in tqdm(names, disable=None):
        vectors = nearest.fixed(name, task.features, fold, {}).numpy()
        for method, known in methods.METHODS.items():
            parts = []
            for rows in (fold.dev, fold.test):
                count = None if known.finds else len(set(classes(task, rows.tolist())))
                parts.append(partition(methods.cluster(vectors[rows], Settings(method, count))))
            found[name, method] = (parts[0], parts[1])
    return found


def classes(task: StoredTask, rows: Sequence[int]) -> list[str]:
    """The class of each row, by the numbers of its slots."""
    return [str(label) for label in task.labels[rows].tolist()]


def halves(reference: np.ndarray, *clusters: np.ndarray) -> np.ndarray:
    """ARI of several clusterings on the same random halves of the utterances, [HALVES, clusterings]."""
    generator, count = np.random.default_rng(0), len(reference)
    drawn = [generator.choice(count, count // 2, replace=False) for _ in range(HALVES)]
    return np.array([[adjusted_rand_score(reference[r], each[r]) for each in clusters] for r in drawn])


def interval(value: float, deviation: float) -> str:
    low, high = value - _WIDE * deviation, value + _WIDE * deviation
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="a store with frames")
    path = parser.parse_args().store
    task = stores.task(path, Store.open(path))
    dev, test = (np.array(classes(task, rows.tolist())) for rows in (task.folds[0].dev, task.folds[0].test))
    every = table1.choose([*table1.unsupervised(), *pooling.points()], [task])
    named = table1.unsupervised()
    found = evaluate(task, every)
    on_dev = {key: scores(each[0], dev)["ari"] for key, each in found.items()}
    print("| method | among | chosen on dev | dev ARI | test ARI | gain over AP | NMI | purity | coverage |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for method in methods.METHODS:
        base = found["AP", method][1]
        for among, names in (("AP", ["AP"]), ("the paper's points", named), ("the product", every)):
            best = max(names, key={name: on_dev[name, method] for name in names}.__getitem__)
            clusters = found[best, method][1]
            told = scores(clusters, test)
            drawn = halves(test, clusters, base)
            gain = told["ari"] - scores(base, test)["ari"]
            cells = [
                method,
                among,
                f"`{best}`".replace("|", "\\|"),
                f"{on_dev[best, method]:.3f}",
                interval(told["ari"], drawn[:, 0].std()),
                "" if among == "AP" else interval(gain, (drawn[:, 0] - drawn[:, 1]).std()),
                *(f"{told[key]:.3f}" for key in ("nmi", "purity", "coverage")),
            ]
            print(f"| {' | '.join(cells)} |")
    print("\n| point | " + " | ".join(f"{m} dev | {m} test" for m in methods.METHODS) + " |")
    print("| --- |" + " --- |" * 2 * len(methods.METHODS))
    for name in every:
        numbers = [(on_dev[name, m], scores(found[name, m][1], test)["ari"]) for m in methods.METHODS]
        label = name.replace("|", "\\|")
        print(f"| `{label}` | " + " | ".join(f"{d:.3f} | {t:.3f}" for d, t in numbers) + " |")


if __name__ == "__main__":
    main()
