#!/usr/bin/env python3
"""Train the same head by run_downstream.py and on stored vectors; compare seconds per step and SUPERB's total time.

The task is keyword spotting with VQ-LP on a base-size wav2vec 2.0 with random weights, made here with S3PRL's classes.
Both start from the same parameters and take the same utterances in the same order, except for the random seconds of
silence. The runner's step is the median time between its log lines. The store's step is the time of 2,000 more steps of
the same training, divided by their number. Neither includes evaluations. Extraction is the whole command, with loading.

The sweep is `vqpool train` of 60 heads (5 learning rates for each of 12 poolings) on random vectors of that size. The
floor beside it is a lower bound: the time that Adam needs to read and write parameters and two moments, at the speed at
which this machine multiplies 512 MB by a number.

Two figures are extrapolated from the measured rates: SUPERB's 200,000 steps, and the extraction of Speech Commands
v0.01. Of this corpus S3PRL takes 51,094 utterances for training (six of them noise files), 6,798 for dev and 3,081 for
test.

Goals: 1000 times the steps per second, a fiftieth of the total time, 0.5 ms per head and step in the sweep.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import torch
import yaml
from turns import Figure, Figures
from upstream_overhead import BASE

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import s3prl_vqpool  # noqa: E402, F401 (S3PRL's own modules import after it on every stack)

# isort: split
from s3prl.upstream.wav2vec2.wav2vec2_model import (  # noqa: E402
    AudioPretrainingConfig,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from s3prl_vqpool.corpora.synthetic.record import synthesise  # noqa: E402
from s3prl_vqpool.pooling import method, methods  # noqa: E402
from s3prl_vqpool.runner import plugin  # noqa: E402
from s3prl_vqpool.runner.config import read  # noqa: E402
from s3prl_vqpool.store import Store  # noqa: E402
from s3prl_vqpool.store.rows import key, listing  # noqa: E402
from s3prl_vqpool.trainer import train  # noqa: E402
from s3prl_vqpool.trainer.runs import make  # noqa: E402

TASK, POOLING, RATE, SEED = "vqpool_ks", "VQ-LP", 1e-3, 1337
RATES = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
STEPS, UTTERANCES = 200_000, 51_094 + 6_798 + 3_081
Config = dict[str, Any]


class RandomStore(Store):
    """Random vectors of a base-size upstream for all utterances of a corpus, under the names of 12 poolings."""

    poolings: ClassVar = [name for name in methods() if method(name).output_dim(2) == 2][:12]

    def __init__(self, config: Config) -> None:
        self.folder = Path("random")
        found: Any = listing(TASK, config).utterances
        self.utterances, self.added = found, {}
        self._by_key = {key(utterance): row for row, utterance in enumerate(found)}
        self.manifest = {
            **dict.fromkeys(("upstream", "ckpt", "upstream_model_config", "fingerprint", "list_sha256"), ""),
            **{"poolings": self.poolings, "dtype": "float32", "layers": 13, "dim": 768},
        }

    def require_audio(self) -> None:
        """No vector comes from audio."""

    def vectors(self, pooling: str, rows: Any = None) -> torch.Tensor:
        return torch.randn(len(rows), 13, 768)


def checkpoint(path: Path) -> Path:
    """Write a base-size wav2vec 2.0 with random weights."""
    config = Wav2Vec2Config(**BASE)
    torch.manual_seed(0)
    weights = Wav2Vec2Model(config).state_dict()
    content = {
        "task_cfg": asdict(AudioPretrainingConfig()),
        "model_cfg": asdict(config),
        "model_weight": weights,
    }
    torch.save(content, path)
    return path


def with_runner(config: Config, **runner: Any) -> Config:
    """The config with other numbers of steps. It evaluates on test alone, and by default never."""
    never = {"eval_step": 10**9, "save_step": 10**9, "eval_dataloaders": ["test"]}
    return {**config, "runner": {**config["runner"], **never, **runner}}


def called(script: list[str], *options: object) -> list[float]:
    """Run a command of this project. Returns the time of each line about training that it prints, and of its end."""
    process = subprocess.Popen(
        [sys.executable, "-u", *script, *map(str, options)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    times = [time.perf_counter() for line in process.stdout or () if line.startswith("train acc:")]
    if process.wait():
        raise SystemExit(f"{script[-1]} failed")
    return [*times, time.perf_counter()]


def runner_seconds(config: Config, upstream: list[object], steps: int, burn_in: int, folder: Path) -> float:
    """Median seconds of a step of run_downstream.py after ``burn_in`` steps."""
    path = folder / "runner.yaml"
    path.write_text(yaml.dump(with_runner(config, total_steps=steps, log_step=1, eval_step=steps)))
    where = ["-p", folder / "runner", "-i", folder / "initial.ckpt", "--device", "cpu", "--seed", SEED]
    times = called(["run_downstream.py"], "-m", "train", *upstream, "-d", TASK, "-c", path, *where)[:-1]
    return median(after - before for before, after in zip(times[burn_in:], times[burn_in + 1 :]))


def store_seconds(store: Store, config: Config, poolings: list[str], rates: list[float], steps: int) -> float:
    """Seconds of a step of `vqpool train`, logs included: the time of ``steps`` more steps, divided by their number."""
    spent = []
    for total in (steps // 10, steps // 10 + steps):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            train(store, TASK, with_runner(config, total_steps=total), poolings, rates, Path(folder), SEED)
            spent.append(time.perf_counter() - start)
    return (spent[1] - spent[0]) / steps


def accuracy(folder: Path) -> float:
    """Accuracy on test at the end."""
    return float(re.findall(r"^test at step \d+: (\S+)$", (folder / "log.log").read_text(), re.M)[-1])


def compare(config: Config, steps: int, burn_in: int, folder: Path, figures: Figures) -> None:
    """Print the first table."""
    upstream = ["-u", "wav2vec2_vq_local", "-k", checkpoint(folder / "base.pt")]
    (folder / "config.yaml").write_text(yaml.dump(config))
    start = time.perf_counter()
    options = ["-d", TASK, "-c", folder / "config.yaml", "--store", folder / "store", "--device", "cpu"]
    called(["-m", "s3prl_vqpool", "extract"], *upstream, *options, "--poolings", POOLING)
    extraction = time.perf_counter() - start
    store = Store.open(folder / "store")
    evaluated = with_runner(config, total_steps=steps, eval_step=steps)
    (initial,) = make(store, TASK, evaluated, [POOLING], [RATE], folder / "ours", SEED)
    states = {"Featurizer": initial.featurizer.state_dict(), "Downstream": initial.expert.state_dict()}
    torch.save(states, folder / "initial.ckpt")
    (ours,) = train(store, TASK, evaluated, [POOLING], [RATE], folder / "ours", SEED)
    there = runner_seconds(config, upstream, steps, burn_in, folder)
    here = store_seconds(store, config, [POOLING], [RATE], steps=2000)
    utterances = len(store.utterances)
    whole = extraction / utterances * UTTERANCES
    totals = STEPS * there, STEPS * here + whole
    figures.add("a step of the runner over one of the store", Figure.of([there / here], "x"))
    figures.add(
        "all of the runner over all of the store, extrapolated", Figure.of([totals[0] / totals[1]], "x")
    )
    print("| | run_downstream.py | store | ratio |\n|---|---|---|---|")
    print(f"| a step | {there:.3f} s | {here * 1e3:.3f} ms | {there / here:.0f} x (goal: 1000) |")
    print(
        f"| test accuracy after {steps} steps | {accuracy(folder / 'runner'):.4f} | {accuracy(ours.folder):.4f} | |"
    )
    print(f"| extraction of {utterances:,} utterances, measured | | {extraction:.0f} s | |")
    print(f"| extraction of {UTTERANCES:,} utterances, extrapolated | | {whole / 3600:.2f} h | |")
    print(f"| {STEPS:,} steps, extrapolated | {totals[0] / 3600:.2f} h | {STEPS * here / 3600:.2f} h | |")
    print(
        f"| both, extrapolated | {totals[0] / 3600:.2f} h | {totals[1] / 3600:.2f} h "
        f"| {totals[0] / totals[1]:.0f} x (goal: 50) |\n",
        flush=True,
    )


def sweep(config: Config, figures: Figures) -> None:
    """Print the second table."""
    store = RandomStore(config)
    count = len(RATES) * len(store.poolings)
    step = store_seconds(store, config, store.poolings, RATES, steps=100)
    (one,) = make(store, TASK, config, store.poolings[:1], RATES[:1], Path(), SEED)
    moved = 6 * 4 * count * sum(parameter.numel() for parameter in one.parameters.values())
    floor = moved / bytes_per_second()
    figures.add(f"a step of {count} heads over moving what Adam moves", Figure.of([step / floor], "x"))
    figures.add(f"a step of {count} heads, per head", Figure.of([step / count * 1e3], "ms"))
    print("| heads | a step | per head and step | bytes that Adam moves | floor |\n|---|---|---|---|---|")
    print(
        f"| {count} | {step * 1e3:.1f} ms | {step / count * 1e3:.3f} ms (goal: 0.5) | {moved / 1e6:.0f} MB "
        f"| {floor * 1e3:.1f} ms, {floor / count * 1e3:.3f} ms a head |"
    )


def bytes_per_second() -> float:
    """Bytes per second that are read and written when 512 MB are multiplied by a number; the best of ten runs."""
    numbers = torch.ones(2**27)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        numbers.mul_(1.0)
        times.append(time.perf_counter() - start)
    return 2 * 4 * len(numbers) / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  benchmarks/runner_vs_store.py --steps 12\n  benchmarks/runner_vs_store.py --sweep-only",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--corpus", metavar="CONFIG", help="config of vqpool_ks (default: a synthesised corpus)"
    )
    parser.add_argument("--steps", type=int, default=12, help="of run_downstream.py (default: %(default)s)")
    parser.add_argument("--burn-in", type=int, default=2, help="of them not timed (default: %(default)s)")
    parser.add_argument("--sweep-only", action="store_true", help="the 60 heads alone")
    Figures.option(parser)
    args = parser.parse_args()
    figures = Figures(args.json)
    plugin.register()
    config = read(TASK, args.corpus, None)
    config["optimizer"]["lr"] = RATE
    with tempfile.TemporaryDirectory() as folder:
        if not args.corpus:
            config["downstream_expert"]["datarc"].update(synthesise(folder, ["ks"])["ks"], num_workers=0)
        print(
            f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}, Python {platform.python_version()}\n"
        )
        if not args.sweep_only:
            compare(config, args.steps, args.burn_in, Path(folder), figures)
        sweep(config, figures)


if __name__ == "__main__":
    main()
