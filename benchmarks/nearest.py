#!/usr/bin/env python3
"""Nearest neighbours by angle: `vqpool`'s two stages beside float64 alone, faiss's flat index and scikit-learn.

By turns, from float32 vectors to the rows: each scales vectors to length 1, builds its index and asks it for the one
nearest row of each query. Vectors are random, in 1,000 clusters around a common part; or, with --store, those of AP of
a store's training and test utterances. Memory is the highest of the process while one runs, less that before (Linux
with glibc). A library that is not installed is left out, and a line says so. Use one thread for figures to compare:
OMP_NUM_THREADS=1 before the command, as faiss and numpy have threads of their own.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from turns import Figure, Figures, by_turns, machine, ratio  # noqa: E402

from s3prl_vqpool.store import Store  # noqa: E402
from s3prl_vqpool.tables import nearest, neighbours, stores  # noqa: E402

#: Training and test utterances of Speech Commands and VoxCeleb1; numbers of a base model's vectors, and twice as many.
SIZES = ("85000x11000x768", "138000x8000x768", "85000x11000x1536", "138000x8000x1536")
CLUSTERS = 1000

Search = Callable[[Tensor, Tensor], Tensor]


def in_float64(index: Tensor, queries: Tensor) -> Tensor:
    """The usual way: all cosines, in float64."""
    index = F.normalize(index.double()).T.contiguous()
    parts = F.normalize(queries.double()).split(max(1, 2**24 // index.size(1)))
    return torch.cat([(part @ index).argmax(dim=1) for part in parts])


def by_faiss(index: Tensor, queries: Tensor) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    flat = faiss.IndexFlatIP(index.size(1))
    flat.add(F.normalize(index).numpy())
    return torch.from_numpy(flat.search(F.normalize(queries).numpy(), 1)[1][:, 0])


def by_sklearn(index: Tensor, queries: Tensor) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    known = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(F.normalize(index).numpy())
    found = known.kneighbors(F.normalize(queries).numpy(), return_distance=False)
    return torch.from_numpy(found[:, 0].astype(np.int64))


def clustered(rows: int, queries: int, size: int) -> tuple[Tensor, Tensor]:
    """Random vectors."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(size, generator=generator) + torch.randn(CLUSTERS, size, generator=generator)
    chosen = torch.randint(CLUSTERS, (rows + queries,), generator=generator)
    vectors = centres[chosen].add_(torch.randn(rows + queries, size, generator=generator))
    return vectors[:rows], vectors[rows:]


def stored(path: Path) -> tuple[Tensor, Tensor]:
    """Vectors of AP of a store's training and test utterances."""
    task = stores.task(path, Store.open(path))
    fold = task.folds[0]
    vectors = nearest.fixed("AP", task.features, fold, {}).float()
    return vectors[fold.train], vectors[fold.test]


def peak(call: Callable[[], Tensor]) -> tuple[Tensor, int | None]:
    """What a call gives, and the bytes that the process has at most meanwhile, beyond those before.

    None where the system does not say.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
    except (OSError, AttributeError):
        return call(), None
    return call(), resident("VmHWM") - before


def resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def measure(
    title: str, index: Tensor, queries: Tensor, searches: dict[str, Search], rounds: int, out: Figures
) -> None:
    """Print a table. The call that tells the memory is the burn-in."""
    calls = {name: lambda search=search: search(index, queries) for name, search in searches.items()}
    first = {name: peak(call) for name, call in calls.items()}
    times = by_turns(calls, rounds, burn_in=0, title=title)
    print(f"\n### {title}: index {index.numel() * 4 / 2**20:.0f} MiB\n")
    print("| search | seconds | times as long as vqpool | memory / index | other rows |")
    print("|---|---|---|---|---|")
    for name, (found, most) in first.items():
        spent = out.add(f"{title} {name}", Figure.of(times[name], "s"))
        against = out.add(f"{title} {name} / vqpool", ratio(times, name, "vqpool"))
        memory = "" if most is None else f"{most / (4 * index.numel()):.2f}"
        other = int((found != first["vqpool"][0]).sum())
        print(f"| {name} | {spent} | {against} | {memory} | {other} of {len(queries)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size",
        nargs="*",
        default=["85000x1100x768"],
        help=f"ROWSxQUERIESxNUMBERS, or `full` for {' '.join(SIZES)} (default: %(default)s)",
    )
    parser.add_argument(
        "--store", type=Path, nargs="*", default=[], help="stores with frames or vectors of AP"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], help="searches to leave out")
    Figures.option(parser)
    args = parser.parse_args()
    searches: dict[str, Search] = {"vqpool": neighbours.nearest, "float64": in_float64}
    for module, search in (("faiss", by_faiss), ("sklearn", by_sklearn)):
        if importlib.util.find_spec(module):
            searches[module] = search
        else:
            print(f"{module}: is not installed, and left out.")
    searches = {name: search for name, search in searches.items() if name not in args.without}
    out = Figures(args.json)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    for path in args.store:
        index, queries = stored(path)
        measure(
            f"{path.name}, {len(index)} x {len(queries)} x {index.size(1)}",
            index,
            queries,
            searches,
            args.rounds,
            out,
        )
    for size in SIZES if args.size == ["full"] else args.size:
        measure(size, *clustered(*map(int, size.split("x"))), searches, args.rounds, out)


if __name__ == "__main__":
    main()
