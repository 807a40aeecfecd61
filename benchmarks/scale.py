#!/usr/bin/env python3
"""What grows with the size of a corpus: opening a store, the memory of extraction, and the idle time of its ranks.

Each part makes what it measures in a temporary folder, and measures in a process of its own. Memory is what the process
has at its peak, or how much that is above what it had before.

- store: a store of many rows without tensors is opened and its labels are read, with `rows.safetensors`, and without,
  as earlier versions wrote it.
- memory: `vqpool extract -u mfcc_vq` of 1,000, 4,000 and 60,000 files of 0.1 to 0.4 s, hard links to 50 of noise.
- ranks: 10, 100 and 1,000 ranks take shards as `vqpool extract` does, on a clock that is computed. A second of speech
  costs 0.6 % more for each second of its utterance (attention). Idle time is the share of all ranks' time, until the
  last one ends, in which they have nothing to do. "alone": no rank takes others' shards. "slow": one rank needs twice
  the time.
- rate: hours of speech that one thread extracts in an hour of CPU time, with a base-size wav2vec 2.0 of random weights
  on 10 files of noise with Libri-Light's lengths; starting and building the model are not counted.
"""

from __future__ import annotations

import argparse
import heapq
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from turns import Figure, Figures  # noqa: E402

RATE = 16000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rows", type=int, default=150_000, help="of the store (default: %(default)s)")
    parser.add_argument(
        "--files", type=int, nargs="+", default=[1000, 4000, 60_000], help="(default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of store and rate (default: %(default)s)")
    parser.add_argument(
        "--corpora", nargs="+", choices=CORPORA, default=list(CORPORA), help="of ranks (default: all)"
    )
    Figures.option(parser)
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]}: expected one of {', '.join(PARTS)}.")
    figures = Figures(args.json)
    for part in args.parts or PARTS:
        PARTS[part](args, figures)


def alone(work: Callable[..., dict[str, float]], *given: Any) -> dict[str, float]:
    """What ``work`` measures in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *given).result()


def peak() -> float:
    """The most memory in MB that this process has had, since `forget` or since its start."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def forget() -> None:
    """Let `peak` count from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def segments(kind: str, count: int, seed: int = 0) -> list[int]:
    """Samples of ``count`` utterances: log-normal around a corpus's mean, between its shortest and its longest.

    voxceleb: 4 to 145 s, mean 8.2 s, as the corpus's page says. librilight: 1 to 60 s, mean 15 s.
    """
    mean, spread, least, most = {"voxceleb": (8.2, 0.55, 4, 145), "librilight": (15, 0.6, 1, 60)}[kind]
    drawn = np.random.default_rng(seed).lognormal(np.log(mean) - spread**2 / 2, spread, count)
    return (drawn.clip(least, most) * RATE).astype(int).tolist()


# ------------------------------------------------------------------------------------------------------- store
def store(args: argparse.Namespace, figures: Figures) -> None:
    """Print how long opening takes, and how much memory the labels need."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "store"
        make_store(folder, args.rows)
        for name in ("with rows.safetensors", "without"):
            if name == "without":
                (folder / "rows.safetensors").unlink()
            found = [alone(opened, folder) for _ in range(args.rounds)]
            for key, unit in (("open", "s"), ("labels", "MB"), ("rows", "s"), ("memory with rows", "MB")):
                figure = figures.add(f"{key}, {name}", Figure.of([each[key] for each in found], unit))
                print(f"store of {args.rows:,} rows, {name}: {key} {figure}")


def make_store(folder: Path, count: int) -> None:
    """Write the manifest and the indexes of a store of ``count`` rows, without tensors."""
    from s3prl_vqpool.store import index, layout
    from s3prl_vqpool.store.files import DONE, MANIFEST, Writer, about_all, about_data
    from s3prl_vqpool.store.rows import Row

    samples = segments("voxceleb", count)
    shards = layout.shards(samples)
    names = {"upstream": "wav2vec2_vq", "downstream": "vqpool_sid", "device": "cpu", "dtype": "float32"}
    sizes = {"layers": 13, "dim": 768, "downsample_rate": 320, "threads": 1, "batch_seconds": 40}
    others = {"format": 1, "datarc": {}, "root": "/data", "fingerprint": "", "frames": False, "gain_db": 0}
    counts = {"shards": len(shards), "utterances": count, "samples": sum(samples)}
    poolings = {"poolings": ["VQ-LP"], "codebook_sizes": [320, 320]}
    manifest: dict[str, Any] = {**names, **sizes, **others, **counts, **poolings}
    folder.mkdir()
    writer = Writer(folder)
    writer.write_json(MANIFEST, manifest)
    for number, rows in enumerate(shards):
        found = []
        for row in rows:
            name = f"id{10001 + row % 1251}/{row * 7919:011x}/{row % 40:05}.wav"
            path, size = Path("/data/VoxCeleb1/dev/wav", name), samples[row]
            numbers = None, None, size, size // 320, (row % 1251,), f"{row:064x}", size * 2 + 44, row
            found.append(Row(name, path, *numbers))
        writer.write_shard(number, {}, rows, found)
    data = list(index.pieces(index.gathered(folder, manifest)))
    writer.write(index.ROWS, *data)
    writer.write_json(DONE, {**about_all(folder, len(shards), {}), "rows": about_data(index.ROWS, *data)})


def opened(folder: Path) -> dict[str, float]:
    """CPU seconds and MB of opening a store and reading its labels; then of finding all its rows by their paths."""
    from s3prl_vqpool.corpora import Utterance
    from s3prl_vqpool.store import Store

    forget()
    before, begun = peak(), time.process_time()
    opened = Store.open(folder)
    seconds = time.process_time() - begun
    opened.labels.unique()
    labels = peak() - before
    listed = [Utterance(row.path, row.label, row.id) for row in opened.utterances]
    opened._audio_is_fresh = True  # there is no audio
    forget()
    before, begun = peak(), time.process_time()
    opened.rows(listed)
    return {
        "open": seconds,
        "labels": labels,
        "rows": time.process_time() - begun,
        "memory with rows": labels + peak() - before,
    }


# ------------------------------------------------------------------------------------------------------ memory
def memory(args: argparse.Namespace, figures: Figures) -> None:
    """Print the peak memory of extraction by the number of files."""
    with tempfile.TemporaryDirectory() as temporary:
        for count in args.files:
            folder = Path(temporary) / str(count)
            make_corpus(folder, count, [RATE // 10 + k * RATE * 3 // 500 for k in range(50)])
            found = alone(extracted, folder)
            for key, unit in (("memory", "MB"), ("CPU", "s")):
                figure = figures.add(f"extraction, {count} files, {key}", Figure.of([found[key]], unit))
                print(f"extraction of {count:,} files: {key} {figure}")


def make_corpus(folder: Path, count: int, samples: Sequence[int]) -> None:
    """Write a table of ``count`` files, which are hard links to files of noise with ``samples`` each."""
    import soundfile

    folder.mkdir()
    generator = np.random.default_rng(0)
    for k, size in enumerate(samples):
        soundfile.write(folder / f"noise{k}.wav", 0.1 * generator.standard_normal(size), RATE)
    lines, classes = ["path,label,split"], min(100, count // 4)
    for k in range(count):
        path = folder / f"speaker{k % 100:03}" / f"utterance{k:06}.wav"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(folder / f"noise{k % len(samples)}.wav")
        split = ("train", "train", "dev", "test")[k // classes % 4]
        lines.append(f"{path.relative_to(folder)},{k % classes},{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def extracted(folder: Path) -> dict[str, float]:
    """Peak MB and CPU seconds of the extraction of a table's corpus."""
    begun = time.process_time()
    extract(folder, "mfcc_vq")
    return {"memory": peak(), "CPU": time.process_time() - begun}


def extract(folder: Path, *upstream: object, store: str = "store") -> None:
    """Run `vqpool extract` on the corpus of `make_corpus` on one thread."""
    import torch

    from s3prl_vqpool.cli.main import main as vqpool

    torch.set_num_threads(1)
    datarc = {"table": folder / "table.csv", "num_workers": 0, "allow_shared_audio": True}
    override = ",,".join(f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items())
    argv = ["extract", "-u", *map(str, upstream), "-d", "vqpool_table", "-o", override, "--device", "cpu"]
    if vqpool([*argv, "--store", str(folder / store)]):
        raise SystemExit("vqpool extract failed")


# ------------------------------------------------------------------------------------------------------- ranks
CORPORA = {
    "Libri-Light, 60,000 h": ("librilight", 14_400_000),
    "VoxCeleb1 and 2, 2,900 h": ("voxceleb", 1_281_762),
    "VoxCeleb1, 350 h": ("voxceleb", 153_516),
}


def ranks(args: argparse.Namespace, figures: Figures) -> None:
    """Print the idle time of ranks that share corpora."""
    from s3prl_vqpool.store import layout

    print("| corpus | shards | ranks | alone | shared | slow, alone | slow, shared |\n" + "|---" * 7 + "|")
    for name in args.corpora:
        samples = segments(*CORPORA[name])
        shards = layout.shards(samples)
        costs = [sum(samples[row] * (1 + 0.006 * samples[row] / RATE) for row in rows) for rows in shards]
        for world in (10, 100, 1000):
            cells = []
            for speeds in ([1.0] * world, [0.5] + [1.0] * (world - 1)):
                for shared in (False, True):
                    end, busy = simulated(costs, speeds, shared)
                    idle = 100 * (1 - sum(busy) / world / end)
                    title = f"{name}, {world} ranks, slowest {min(speeds)}, {'shared' if shared else 'alone'}"
                    cells.append(f"{figures.add(title, Figure.of([idle], '%'))}")
            print(f"| {name} | {len(shards):,} | {world:,} | {' | '.join(cells)} |", flush=True)


def simulated(
    costs: Sequence[float], speeds: Sequence[float], shared: bool = True
) -> tuple[float, list[float]]:
    """When the last rank ends, and how long each has worked, if a shard takes cost / speed.

    Args:
        shared: whether a rank that is done with its own shards takes others'.
    """
    from s3prl_vqpool.store.share import others, own

    there, taken = np.zeros(len(costs), bool), set[int]()

    def take(number: int) -> bool:
        return number not in taken and not taken.add(number)  # type: ignore[func-returns-value]

    def numbers(rank: int) -> Iterator[int]:
        yield from own(rank, len(speeds), len(costs), take)
        if shared:
            yield from others(there.tolist(), take)

    work = [numbers(rank) for rank in range(len(speeds))]
    busy, doing = [0.0] * len(speeds), dict[int, int]()
    ready = [(0.0, rank) for rank in range(len(speeds))]
    while ready:
        now, rank = heapq.heappop(ready)
        if rank in doing:
            there[doing.pop(rank)] = True
        number = next(work[rank], None)
        if number is not None:
            doing[rank] = number
            busy[rank] += costs[number] / speeds[rank]
            heapq.heappush(ready, (now + costs[number] / speeds[rank], rank))
    return max(busy), busy


# -------------------------------------------------------------------------------------------------------- rate
def rate(args: argparse.Namespace, figures: Figures) -> None:
    """Print how fast extraction is."""
    with tempfile.TemporaryDirectory() as temporary:
        make_corpus(Path(temporary) / "corpus", 10, segments("librilight", 10))
        found = alone(rates, Path(temporary), args.rounds)
    print(
        f"base-size model: {figures.add('rate', Figure.of(list(found.values()), 'h of speech per CPU-hour'))}"
    )


def rates(folder: Path, rounds: int) -> dict[str, float]:
    """Hours of speech per hour of CPU time in each round."""
    from runner_vs_store import checkpoint

    from s3prl_vqpool.store import extract as module
    from s3prl_vqpool.store import passes

    spent: list[float] = []

    def timed(*given: Any) -> None:
        begun = time.process_time()
        passes.go_through(*given)
        spent.append(time.process_time() - begun)

    module.go_through = timed  # type: ignore[assignment]
    weights = checkpoint(folder / "base.pt")
    for k in range(rounds):
        extract(folder / "corpus", "wav2vec2_vq_local", "-k", weights, store=str(k))
    speech = sum(segments("librilight", 10)) / RATE
    return {str(k): speech / seconds for k, seconds in enumerate(spent)}


PARTS = {"store": store, "memory": memory, "ranks": ranks, "rate": rate}

if __name__ == "__main__":
    main()
