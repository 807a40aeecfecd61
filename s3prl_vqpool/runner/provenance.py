"""Records which checkpoint a prediction file comes from. The experts write it; `vqpool submit` requires it.

S3PRL also evaluates test during training, and writes the same files. Nothing in the files tells the two apart.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import parse_json, sha256

BEST = "dev-best.ckpt"


def origin(mode: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the predictions of this run come from; None outside S3PRL's runner.

    Args:
        mode: S3PRL's `-m`. For `evaluate` the checkpoint is hashed, now that it has just been loaded: training
            may replace it before the predictions are written.
        arguments: S3PRL's command line, as its runner hands it to an expert.
    """
    if "upstream" not in arguments:
        return None
    checkpoint = arguments.get("init_ckpt")
    return {
        "mode": mode,
        "upstream": arguments["upstream"],
        "downstream": arguments.get("downstream"),
        "checkpoint": checkpoint,
        "checkpoint_sha256": sha256(Path(checkpoint)) if checkpoint and mode == "evaluate" else None,
        "folder": os.getcwd(),
    }


def describe(start: dict[str, Any], step: int, split: str, datarc: dict[str, Any], predictions: Path) -> str:
    """The record for ``predictions`` (which are already written), as JSON.

    Args:
        start: as `origin` gives it.
        step: steps of training that the model has made since its start; 0 in S3PRL's `-m evaluate`, where
            ``start`` names the checkpoint.
        datarc: `-o` may give an evaluation other corpus folders than the checkpoint's; they may be relative to
            the ``folder`` of ``start``.
    """
    record = {**start, "step": step or None, "split": split, "datarc": datarc}
    record["predictions_sha256"] = sha256(predictions)
    return json.dumps(record, indent=1, default=str) + "\n"


def path_of(predictions: Path) -> Path:
    """``test_provenance.json`` for ``test_predict.txt``."""
    return predictions.with_name(f"{predictions.stem.removesuffix('_predict')}_provenance.json")


def verify(predictions: Path, content: bytes, downstream: str, command: str) -> dict[str, Any]:
    """Return the record of ``predictions`` if it says that `-m evaluate` made them from dev-best.ckpt.

    Args:
        content: what ``predictions`` holds.
        downstream: the `-d` that must have written it.
        command: how to make them.

    Raises:
        InputError: no record, a damaged one, one of another run; or predictions or checkpoint changed since.
    """
    path, again = path_of(predictions), f"Make it again: {command}"
    try:
        record = _parse(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{predictions}: no {path.name} beside it tells which checkpoint made it; -d {downstream} writes that."
            f" {again}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged. {again}") from error
    if (record["downstream"], record["split"]) != (downstream, "test"):
        raise InputError(
            f"{path}: of -d {record['downstream']} on {record['split']}, not of {downstream} on test."
        )
    if record["mode"] != "evaluate":
        raise InputError(f"{predictions}: written by -m {record['mode']}; only -m evaluate counts. {again}")
    name = Path(record["checkpoint"]).name
    if name != BEST:
        raise InputError(f"{predictions}: made with {name}; only {BEST} counts. {again}")
    if record["predictions_sha256"] != hashlib.sha256(content).hexdigest():
        raise InputError(f"{predictions}: changed since -m evaluate wrote it. {again}")
    if record["checkpoint_sha256"] != sha256(predictions.with_name(BEST)):
        raise InputError(f"{predictions}: made with another {BEST} than the one beside it. {again}")
    return record


def command(expdir: Path, args: argparse.Namespace, downstream: str, datarc: Mapping[str, Any]) -> str:
    """The command that makes the test predictions of an experiment.

    Our experts also evaluate the mean-pooling heads of S3PRL's own; those checkpoints have another config, so
    the command for them repeats what it says.

    Args:
        args: the checkpoint's `Args`.
        downstream: our expert for the task.
        datarc: the config's entries that say where the corpus is.
    """
    best, words = str(expdir / BEST), ["run_downstream.py", "-m", "evaluate"]
    if args.downstream == downstream:
        moved = Path(getattr(args, "expdir", None) or expdir).resolve() != expdir.resolve()
        return shlex.join([*words, "-e", best, *(["-o", f"args.expdir={expdir}"] if moved else [])])
    words += ["-u", str(args.upstream), "-d", downstream, "-i", best, "-p", str(expdir)]
    for flag, key, default in (
        ("-k", "upstream_ckpt", None),
        ("-g", "upstream_model_config", None),
        ("-s", "upstream_feature_selection", "hidden_states"),
        ("-l", "upstream_layer_selection", None),
    ):
        value = getattr(args, key, default)
        words += [flag, str(value)] if value != default else []
    words += ["--upstream_feature_normalize"] if getattr(args, "upstream_feature_normalize", False) else []
    section = "config.downstream_expert"
    options = [f"{section}.datarc.{key}={value}" for key, value in datarc.items()]
    return shlex.join([*words, "-o", ",,".join([*options, f"{section}.modelrc.pooling=mean"])])


def _parse(text: bytes) -> dict[str, Any]:
    record = parse_json(text.decode(), "the record", "")
    if not isinstance(record["datarc"], dict):
        raise TypeError("datarc")
    for key in ("mode", "upstream", "downstream", "split", "folder", "predictions_sha256"):
        if not isinstance(record[key], str):
            raise TypeError(key)
    if record["mode"] == "evaluate" and not all(
        isinstance(record[key], str) for key in ("checkpoint", "checkpoint_sha256")
    ):
        raise TypeError("checkpoint")
    return record
