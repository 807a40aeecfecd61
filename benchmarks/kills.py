#!/usr/bin/env python3
"""Kill commands at random moments, run them again, and compare what is there then with an uninterrupted run.

Each command is run once without interruption, for its files and its duration. Then, as often as asked, it is started
in a process of its own, killed (SIGKILL) after a random part of that duration, and run again. What counts: the second
run ends, every file has the bytes of the uninterrupted run, and neither a lock nor half a file is left. TensorBoard's
events, which hold times, are not compared. A command that had ended before it was killed may refuse to replace its
output, which must be the right one then.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import s3prl_vqpool  # noqa: E402 (S3PRL's own modules import after it on every stack)
from s3prl_vqpool import cli  # noqa: E402
from s3prl_vqpool.corpora import synthetic  # noqa: E402

SECONDS = 300
#: In the names of the files that hold a run's arguments and config.
_TIME = re.compile(r"_\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d")


@dataclass(frozen=True)
class Command:
    """A command that writes into the folder ``output``, where ``start`` is copied to before, if it is given."""

    name: str
    argv: Sequence[str]
    output: Path
    start: Path | None = None

    def prepare(self) -> None:
        """Put the output's folder into the state before the command."""
        shutil.rmtree(self.output, ignore_errors=True)
        if self.start is None:
            self.output.mkdir()
        else:
            shutil.copytree(self.start, self.output)


@dataclass(frozen=True)
class Outcome:
    """What came of a kill ``after`` seconds, or of a command that ended then; ``wrong`` is empty if all is well."""

    command: str
    killed: bool
    after: float
    wrong: str


def commands(folder: Path, datarc: Mapping[str, object]) -> list[Command]:
    """The commands of a campaign, in the order in which the later ones take what the earlier ones made.

    Args:
        datarc: a small Fluent Speech Commands.
    """
    store, heads, config = folder / "store", folder / "heads", "config.downstream_expert"
    values = {**datarc, "num_workers": 0}
    corpus = ["-o", ",,".join(f"{config}.datarc.{key}={value}" for key, value in values.items())]
    steps = "total_steps=60 log_step=10 eval_step=20 save_step=20 max_keep=1 gradient_accumulate_steps=2"
    run = ",,".join(
        [f"{config}.modelrc.projector_dim=8", *(f"config.runner.{step}" for step in steps.split())]
    )
    wavs = sorted(map(str, Path(str(datarc["file_path"])).rglob("*.wav")))[:8]
    tiny = ROOT / "upstream_expert" / "wav2vec2_vq" / "tiny.safetensors"
    extracted, converted, codes = folder / "extracted", folder / "converted", folder / "codes"
    train = ["train", "-d", "vqpool_ic", "--store", str(extracted), "--poolings", "VQ-LP", "mean", "-o", run]
    return [
        Command(
            "extract", ["extract", "-u", "mfcc_vq", "-d", "vqpool_ic", *corpus, "--store", str(store)], store
        ),
        Command("add-pooling", ["store", "add-pooling", str(store), "VQ-BP", "VQ-SIF"], store, extracted),
        Command("train", [*train, "--lr", "1e-2", "1e-3", "-p", str(heads)], heads),
        Command("codes", ["codes", *wavs, "-u", "mfcc_vq", "--output", str(codes / "units.npz")], codes),
        Command("convert", ["convert", str(tiny), "--output", str(converted / "a.safetensors")], converted),
        Command("convert .pt", ["convert", str(tiny), "--output", str(converted / "a.pt")], converted),
    ]


def campaign(folder: Path, datarc: Mapping[str, object], kills: int, seed: int) -> Iterator[Outcome]:
    """Kill each command as often as ``kills`` divided among them gives, at moments drawn with ``seed``."""
    for name in ("s3prl.hub", "tensorboardX", "s3prl_vqpool.store.extract", "s3prl_vqpool.trainer"):
        import_module(name)  # once, before the forks
    generator, todo = random.Random(seed), commands(folder, datarc)
    for number, command in enumerate(todo):
        command.prepare()
        if _ended(command, folder):
            said = (folder / "output.txt").read_text().splitlines()[-1:]
            raise RuntimeError(f"{command.name} fails without a kill: {said}")
        expected, begun = content(command.output), time.monotonic()
        if command.name == "extract":
            shutil.copytree(command.output, folder / "extracted")
        command.prepare()
        _ended(command, folder)
        duration = time.monotonic() - begun
        if content(command.output) != expected:
            raise RuntimeError(f"{command.name} twice gives two results without a kill")
        for _ in range(len(range(number, kills, len(todo)))):
            command.prepare()
            outcome = kill_once(command, expected, generator.uniform(0, duration), folder)
            duration = (
                duration if outcome.killed else min(duration, outcome.after)
            )  # the machine is faster now
            yield outcome


def kill_once(command: Command, expected: Mapping[str, str], after: float, folder: Path) -> Outcome:
    """Start, kill ``after`` seconds, run again, compare."""
    process, begun = _start(command, folder), time.monotonic()
    process.join(after)
    killed, after = process.is_alive(), time.monotonic() - begun
    process.kill()
    process.join()
    complete = content(command.output) == expected
    code = _ended(command, folder)
    found = content(command.output)
    wrong = []
    if code and not (code == 2 and complete):
        wrong.append(f"the second run ends with {code}")
    wrong += [f"{name} is left over" for name in sorted(found.keys() - expected.keys())]
    wrong += [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"{name} differs" for name in expected.keys() & found.keys() if found[name] != expected[name]]
    return Outcome(command.name, killed, after, "; ".join(wrong))


def content(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, hidden ones too, but for TensorBoard's events."""
    return {
        _TIME.sub("", str(path.relative_to(folder))): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("events.")
    }


def _start(command: Command, folder: Path) -> multiprocessing.process.BaseProcess:
    def work() -> None:
        log = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os._exit(cli.main(list(command.argv)))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def _ended(command: Command, folder: Path) -> int | None:
    process = _start(command, folder)
    process.join(SECONDS)
    process.kill()
    process.join()
    return process.exitcode


def main() -> int:
    """Print a line per command; 1 if any kill did harm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="among all commands (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)  # before forks
    s3prl_vqpool.register()
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        datarc = synthetic.synthesise(Path(name) / "corpora", ("ic",), "small")["ic"]
        for outcome in campaign(Path(name), datarc, args.kills, args.seed):
            outcomes[outcome.command].append(outcome)
    print("| command | runs | killed | ended before | same files afterwards |\n|---|---|---|---|---|")
    for command, each in outcomes.items():
        counted = Counter(outcome.killed for outcome in each)
        well = sum(not outcome.wrong for outcome in each)
        print(f"| {command} | {len(each)} | {counted[True]} | {counted[False]} | {well} |")
    harmed = [outcome for each in outcomes.values() for outcome in each if outcome.wrong]
    for outcome in harmed:
        print(f"{outcome.command}, killed after {outcome.after:.3f} s: {outcome.wrong}")
    return int(bool(harmed))


if __name__ == "__main__":
    sys.exit(main())
