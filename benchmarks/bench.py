#!/usr/bin/env python3
"""Run the benchmarks in short forms, keep their figures, and compare them with the last time: `make bench`.

Each program of RUNS is run in a process of its own, with --json. What it prints goes to a log beside the figures. All
figures of a run lie in one file, FOLDER/DATE-TIME.json. The last file of the same processor, number of threads and
versions is what they are compared with; a figure of several turns is marked if their middle half lies wholly outside
that of the last time. Nothing fails because a figure has changed: this is for looking.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: Program and options of a short run, which together take about 20 minutes on two cores.
RUNS: Mapping[str, Sequence[str]] = {
    "upstream_overhead": ["--clips", "4x4", "8x1", "--pairs", "11", "--threads", "1"],
    "extraction": ["--sizes", "base", "--clips", "10x1", "0.4,2,8", "--rounds", "5"],
    "pooling": ["--device", "cpu", "--repeats", "9"],
    "learned_poolings": ["--rounds", "3"],
    "runner_vs_store": ["--sweep-only"],
    "embed": ["--files", "200"],
    "scale": ["store", "memory", "ranks", "--files", "1000", "4000", "--corpora", "VoxCeleb1 and 2, 2,900 h"],
    "nearest": ["--rounds", "3"],
    "clustering_times": ["--vectors", "2000", "5000"],
}
#: What must be equal for two runs to be compared.
SAME = ("processor", "threads", "torch", "python")
Content = dict[str, Any]


def run(name: str, options: Sequence[str], threads: int, log: Path) -> Content | None:
    """The machine and the figures of one program; None if it failed, which its log tells."""
    with tempfile.TemporaryDirectory() as folder, log.open("a", encoding="utf-8") as out:
        file = Path(folder) / "figures.json"
        command = [sys.executable, str(HERE / f"{name}.py"), *options, "--json", str(file)]
        print(f"\n$ {name}.py {' '.join(options)}", file=out, flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment).returncode
        return None if code else json.loads(file.read_text(encoding="utf-8"))


def last(folder: Path, machine: Mapping[str, Any]) -> tuple[str, Content]:
    """Name and figures of the newest run on the same machine; none of either if there is none."""
    for file in sorted(folder.glob("*.json"), reverse=True):
        content = json.loads(file.read_text(encoding="utf-8"))
        if all(content["machine"][key] == machine[key] for key in SAME):
            return file.stem, content["figures"]
    return "", {}


def row(name: str, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """A line of the table: a figure, its middle half, that of the last time, and a mark where they do not meet."""
    here = f"{now['value']:10.3g} {now['unit']:<4} [{now['low']:.3g}, {now['high']:.3g}]"
    if before is None:
        return f"{name:<60} {here}"
    several = min(now["turns"], before["turns"]) > 1
    apart = several and (now["low"] > before["high"] or now["high"] < before["low"])
    change = f"{(now['value'] / before['value'] - 1) * 100:+.1f} %" if before["value"] else ""
    return f"{name:<60} {here:<36} {before['value']:10.3g}  {change}{'  <' if apart else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  benchmarks/bench.py --only upstream_overhead embed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("bench"), help="folder (default: %(default)s)")
    parser.add_argument("--only", choices=RUNS, nargs="+", default=list(RUNS), help="default: all")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    started = f"{datetime.datetime.now():%Y-%m-%d-%H-%M-%S}"
    log, machine, figures, failed = args.output / f"{started}.log", {}, {}, []
    for name in args.only:
        start = time.perf_counter()
        print(f"{name} ...", file=sys.stderr, end=" ", flush=True)
        found = run(name, RUNS[name], args.threads, log)
        print(f"{time.perf_counter() - start:.0f} s{'' if found else ', failed'}", file=sys.stderr)
        if found is None:
            failed.append(name)
            continue
        machine = found["machine"]
        figures.update({f"{name}: {key}": figure for key, figure in found["figures"].items()})
    if figures:
        report(args.output, started, {"machine": machine, "figures": figures})
    if failed:
        print(f"failed: {', '.join(failed)}. {log} has what they said.", file=sys.stderr)
    return 1 if failed else 0


def report(folder: Path, name: str, content: Content) -> None:
    """Print the table and keep the figures."""
    when, before = last(folder, content["machine"])
    print(", ".join(f"{key} {value}" for key, value in content["machine"].items()))
    print(f"compared with {when}" if when else "the first run on such a machine: nothing to compare with")
    for key, figure in content["figures"].items():
        print(row(key, figure, before.get(key)))
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {file}")


if __name__ == "__main__":
    sys.exit(main())
