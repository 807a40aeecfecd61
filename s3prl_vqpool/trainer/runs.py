"""The folders of the runs: makes, recognises and continues experiments in the form of S3PRL's runner."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import checkpoints
from ..corpora.table import export
from ..errors import InputError
from ..files import parse_yaml, remove_parts, whole, write_text
from ..pooling import method
from ..runner.command_line import s3prl_parser
from ..runner.config import modelrc_of, runner_section
from ..runner.expert import UtteranceExpert
from ..runner.plugin import expert_of
from ..store import Store
from .batched import Run

#: Keys of the manifest that say how the vectors were made, and from what.
STORE = ("upstream", "fingerprint", "list_sha256", "dtype", "layers", "dim")


def name_of(rate: float) -> str:
    """``1e-3`` for 0.001.

    Examples:
        >>> name_of(0.001)
        '1e-3'
    """
    return format(Decimal(repr(rate)).normalize(), "e")


def check(config: dict[str, Any]) -> None:
    """Raise InputError for a config that S3PRL's runner cannot use, or that does not work with a store."""
    runner, modelrc = runner_section(config), modelrc_of(config)
    for place, given in (
        ("specaug", config.get("specaug")),
        ("runner.fp16", runner.get("fp16")),
        ("runner.train_dataloader", runner.get("train_dataloader", "train") != "train"),
        ("downstream_expert.modelrc.pooling_options", modelrc.get("pooling_options")),
    ):
        if given:
            raise InputError(
                f"config.{place}: not for heads on stored vectors; leave it out, or train with run_downstream.py."
            )


def make(
    store: Store,
    downstream: str,
    config: dict[str, Any],
    poolings: Sequence[str],
    rates: Sequence[float],
    folder: Path,
    seed: int,
) -> list[Run]:
    """A run per pooling and rate, all with the same initial parameters, drawn with ``seed``; see `trainer.train`."""
    manifest, made = store.manifest, []
    blank = s3prl_parser().parse_args(["-m", "train"])
    ckpt = manifest["ckpt"]
    for name in poolings:
        own, expert = _for_pooling(config, store, name), None
        for rate in rates:
            own = deepcopy(own)
            own["optimizer"]["lr"] = rate
            args = argparse.Namespace(**vars(blank))
            args.upstream, args.downstream, args.seed = manifest["upstream"], downstream, seed
            args.upstream_ckpt = os.path.abspath(ckpt) if ckpt and os.path.exists(ckpt) else ckpt
            args.upstream_model_config = manifest["upstream_model_config"]
            args.expdir, args.device = str(folder / name / f"lr={name_of(rate)}"), "cpu"
            if expert is None:
                expert = _expert(store, name, own, args)
            own["downstream_expert"]["classes"] = [list(names) for names in expert.classes]
            if expert.slots:
                own["downstream_expert"]["slots"] = list(expert.slots)
            made.append(Run(expert, manifest["layers"], args, own, name))
    return made


def _for_pooling(config: dict[str, Any], store: Store, name: str) -> dict[str, Any]:
    """The config of heads with a pooling: what the store made its vectors with is in it."""
    own = deepcopy(config)
    own["store"] = {key: store.manifest[key] for key in STORE}
    modelrc, added = own["downstream_expert"]["modelrc"], store.added.get(name, {})
    modelrc["pooling"] = name
    options = {option.name: added[option.name] for option in method(name).options if option.name in added}
    if options:
        modelrc["pooling_options"] = options
    if "counts" in added:
        own["store"]["counts"] = added["counts"]
    return own


def _expert(store: Store, name: str, config: dict[str, Any], args: argparse.Namespace) -> UtteranceExpert:
    """An expert with the initial parameters of all heads; the process's random state is left alone.

    Raises:
        InputError: the vectors of the pooling were made with the statistics of another fold.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        made = expert_of(args.downstream)(
            upstream_dim=store.manifest["dim"], **deepcopy(config), **vars(args)
        )
    added = store.added.get(name, {})
    if added.get("fold") not in (None, made.fold):
        raise InputError(
            f"{store.folder}: its {name} is of {added['fold']}, not of {made.fold}: its statistics are of another "
            "training split. Extract this fold to another --store."
        )
    if "counts" in added:
        made.set_statistics(store.statistics(name))
    return made


def agreed(run: Run) -> bool:
    """Whether the run's folder was started with its config; InputError if it holds anything else.

    S3PRL's runner writes a further config at each evaluation or resumption; the first one is the run's.
    """
    wanted = {"args": _told(run.args), "config": run.config}
    for kind, values in wanted.items():
        files = sorted(run.folder.glob(f"{kind}_*.yaml"))
        if not files:
            if any(run.folder.glob("*.ckpt")):
                raise InputError(f"{run.folder}: holds other files: choose another folder.")
            return False
        try:
            known = parse_yaml(files[0].read_text("utf-8"), str(files[0]))
            known = _told(argparse.Namespace(**known)) if kind == "args" else known
        except (InputError, UnicodeDecodeError, TypeError, AttributeError) as error:
            raise InputError(f"{files[0]}: cannot be read: choose another folder.") from error
        before, now = _flat(known), _flat(values)
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise InputError(
                    f"{run.folder}: was begun with {key} {before.get(key)!r}, but now it is {now.get(key)!r}: give the "
                    "same options to continue, or choose another folder."
                )
    return True


def _told(args: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(args, key) for key in ("upstream", "downstream", "seed")}


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name: values}
    return {key: end for k, v in values.items() for key, end in _flat(v, f"{name}.{k}".lstrip(".")).items()}


def begin(run: Run, known: bool) -> None:
    """Write config and arguments into the folder, unless they are ``known`` to be there."""
    from s3prl.utility.helper import get_time_tag

    remove_parts(run.folder)
    if run.expert.corpus:
        export.keep(run.folder, {run.expert.fold: run.expert.corpus})
    if known:
        return
    for kind, values in (("config", run.config), ("args", vars(run.args))):
        path = run.folder / f"{kind}_{get_time_tag()}.yaml"
        write_text(path, yaml.dump(values))


def states(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, in order."""
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("states-*.ckpt"))


def groups(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Runs by the step that they continue from: one that they have in common, or the last of each."""
    steps = {id(run): states(run.folder) for run in runs}
    total = runs[0].config["runner"]["total_steps"]
    found: dict[int, list[Run]] = defaultdict(list)
    unfinished = [run for run in runs if total not in steps[id(run)]]
    found[total] = [run for run in runs if total in steps[id(run)]]
    common = set.intersection(*(set(steps[id(run)]) for run in unfinished)) if unfinished else set()
    for run in unfinished:
        found[max(common or steps[id(run)], default=0)].append(run)
    return {step: group for step, group in found.items() if group}


def load(path: Path) -> dict[str, Any]:
    """A checkpoint to continue from."""
    return checkpoints.load(path, required=("Optimizer", "Featurizer", "Downstream"))


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole; torch would put the temporary file's name into it."""
    with whole(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def best(run: Run) -> tuple[int, float, float] | None:
    """Step of ``dev-best.ckpt``, and what the log says of dev and test there; None where dev was never evaluated.

    Where dev is 0 throughout there is no checkpoint, and this is the first evaluation. What `-m evaluate` of S3PRL's
    runner appends is at step 0, and does not count.
    """
    path = run.folder / "log.log"
    lines = re.findall(
        r"^(.+) at step ([1-9]\d*): (\S+)$", path.read_text() if path.exists() else "", re.MULTILINE
    )
    found = {(what, int(step)): float(accuracy) for what, step, accuracy in lines}
    evaluated = [step for what, step in found if what == "dev"]
    if not evaluated:
        return None
    step = [evaluated[0], *(int(step) for what, step, _ in lines if what == "New best on dev")][-1]
    return step, found["dev", step], found.get(("test", step), math.nan)


def cut_log(path: Path, step: int) -> None:
    """Keep the log up to ``step``. The later steps are made again."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if int((re.search(r" at step (\d+):", line) or [0, 0])[1]) <= step]
        write_text(path, "".join(kept))
