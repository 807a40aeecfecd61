#!/usr/bin/env python3
"""What grows with the size of a corpus: opening a store, and the memory of extraction.

Each part makes what it measures in a temporary folder, and measures in a process of its own. Memory is what the process
has at its peak, or how much that is above what it had before.

- store: a store of many rows without tensors is opened and its labels are read, with `rows.safetensors`, and without,
  as earlier versions wrote it.
- memory: `vqpool extract -u mfcc_vq` of 1,000, 4,000 and 60,000 files of 0.1 to 0.4 s, hard links to 50 of noise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
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
    parser.add_argument("--rounds", type=int, default=5, help="of opening a store (default: %(default)s)")
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
    data = index.data(folder, manifest)
    writer.write(index.ROWS, data)
    writer.write_json(DONE, {**about_all(folder, len(shards), {}), "rows": about_data(index.ROWS, data)})


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
            make_corpus(folder, count)
            found = alone(extracted, folder)
            for key, unit in (("memory", "MB"), ("CPU", "s")):
                figure = figures.add(f"extraction, {count} files, {key}", Figure.of([found[key]], unit))
                print(f"extraction of {count:,} files: {key} {figure}")


def make_corpus(folder: Path, count: int) -> None:
    """Write a table of ``count`` files of noise, 0.1 to 0.4 s, which are hard links to 50."""
    import soundfile

    folder.mkdir()
    generator = np.random.default_rng(0)
    for k in range(50):
        noise = 0.1 * generator.standard_normal(int(RATE * generator.uniform(0.1, 0.4)))
        soundfile.write(folder / f"noise{k}.wav", noise, RATE)
    lines = ["path,label,split"]
    for k in range(count):
        path = folder / f"speaker{k % 100:03}" / f"utterance{k:06}.wav"
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(folder / f"noise{k % 50}.wav")
        split = ("train", "train", "dev", "test")[k // 100 % 4]
        lines.append(f"{path.relative_to(folder)},{k % 100},{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def extracted(folder: Path) -> dict[str, float]:
    """Peak MB and CPU seconds of the extraction of a table's corpus."""
    import torch

    from s3prl_vqpool.cli.main import main as vqpool

    torch.set_num_threads(1)
    datarc = {"table": folder / "table.csv", "num_workers": 0, "allow_shared_audio": True}
    override = ",,".join(f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items())
    begun = time.process_time()
    argv = ["extract", "-u", "mfcc_vq", "-d", "vqpool_table", "-o", override, "--device", "cpu"]
    if vqpool([*argv, "--store", str(folder / "store")]):
        raise SystemExit("vqpool extract failed")
    return {"memory": peak(), "CPU": time.process_time() - begun}


PARTS = {"store": store, "memory": memory}

if __name__ == "__main__":
    main()
