"""predict.zip for the SUPERB leaderboard: test predictions of known origin, checked against the corpus."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..corpora import Corpus, Utterance
from ..corpora.tasks import Task
from ..errors import InputError, unknown_name
from ..files import whole
from . import named, provenance


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one experiment; ``fold`` is "" where the task has none, ``accuracy`` in [0, 1]."""

    task: Task
    fold: str
    upstream: str
    utterances: int
    accuracy: float
    member: str
    content: bytes


def collect(task: Task, expdir: Path, corpora: Path | None = None) -> Predictions:
    """The test predictions of an experiment, after all checks.

    Args:
        corpora: `--corpora`; `corpora.yaml` counts where the corpus is no longer where it was.

    Raises:
        InputError: not an experiment of this task; no predictions, or not those of `-m evaluate` and
            dev-best.ckpt; predictions that do not fit the corpus. Where a run is missing, its command is given.
    """
    if not expdir.is_dir():
        raise InputError(
            f"--{task.name} {expdir}: no such folder. Expected an experiment's (run_downstream.py -p)."
        )
    args, datarc = _trained(task, expdir)
    fold = _fold(task, datarc, args)
    stem = task.stem("test", fold)
    file, truth = (expdir / f"{stem}_{what}.{task.suffix}" for what in ("predict", "truth"))
    corpus_keys = {place.key: datarc.get(place.key) for place in task.places}
    corpus_keys |= {task.fold_key: fold} if fold else {}
    command = provenance.command(expdir, args, task.downstream, corpus_keys)
    content = _read(file, command)
    record = provenance.verify(file, content, task.downstream, command)
    corpus = _corpus(file, task, record, fold, corpora)
    accuracy = _accuracy(
        read_labels(file, content, corpus, task),
        read_labels(truth, _read(truth, command), corpus, task),
        {utterance.id: task.separator.join(_parts(corpus, utterance)) for utterance in corpus.splits["test"]},
        truth,
    )
    member = "predict/" + "_".join(filter(None, (task.name, fold, "public"))) + f"/predict.{task.suffix}"
    count = len(corpus.splits["test"])
    return Predictions(task, fold, record["upstream"], count, accuracy, member, content)


def read_labels(file: Path, content: bytes, corpus: Corpus, task: Task) -> dict[str, str]:
    """Label of each utterance in a file that must name exactly the corpus's test utterances.

    Raises:
        InputError: with the line number and the value: a malformed line, an unknown or repeated id, an unknown
            label. Missing ids: the first one, and how many.
    """
    expected = {utterance.id for utterance in corpus.splits["test"]}
    known = _known_labels(corpus)
    form = task.separator.join(["ID", *["LABEL"] * task.slots])
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(content.decode(errors="replace").removesuffix("\n").split("\n"), start=1):
        where = f"{file}, line {number}"
        name, *values = line.split(task.separator)
        if len(values) != task.slots or not all([name, *values]):
            raise InputError(f"{where}: Expected {form!r}, but got {line!r}.")
        if name not in expected:
            raise InputError(f"{where}: {name!r} is not in the corpus's test split.")
        if name in labels:
            raise InputError(f"{where}: {name!r} has a line already, {lines[name]}.")
        for value, names in zip(values, known):
            if value not in names:
                raise InputError(f"{where}: {unknown_name('label', value, names, full_list=len(names) < 20)}")
        labels[name], lines[name] = task.separator.join(values), number
    missing = sorted(expected - labels.keys())
    if missing:
        raise InputError(
            f"{file}: {len(missing)} of the corpus's {len(expected)} test utterances are missing, the first is "
            f"{missing[0]!r}."
        )
    return labels


def write_zip(output: Path, predictions: Iterable[Predictions]) -> Path:
    """predict.zip in ``output``, under that name when it is whole; the same predictions give the same bytes.

    Raises:
        InputError: the folder cannot be made or written.
    """
    final = output / "predict.zip"
    try:
        output.mkdir(parents=True, exist_ok=True)
        with whole(final) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for each in sorted(predictions, key=lambda each: each.member):
                member = zipfile.ZipInfo(each.member, (1980, 1, 1, 0, 0, 0))
                member.compress_type = zipfile.ZIP_DEFLATED
                member.external_attr, member.create_system = 0o644 << 16, 3  # as on Unix, wherever made
                archive.writestr(member, each.content)
    except OSError as error:
        raise InputError(f"{final}: cannot be written ({error.strerror}).") from error
    return final


# -------------------------------------------------------------------------------------------------------- inside
def _trained(task: Task, expdir: Path) -> tuple[argparse.Namespace, dict[str, Any]]:
    """S3PRL's arguments and the `datarc` that an experiment of ``task`` was trained with.

    Raises:
        InputError: an experiment of another task, or one that the leaderboard does not take.
    """
    path = expdir / provenance.BEST
    state = checkpoints.load(path, required=("Args", "Config"))
    trained = getattr(state["Args"], "downstream", None)
    if trained not in (task.downstream, task.s3prl):
        raise InputError(
            f"--{task.name} {expdir}: an experiment of -d {trained}. Expected one of -d {task.downstream}."
        )
    try:
        datarc = dict(state["Config"]["downstream_expert"]["datarc"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its config has no downstream_expert.datarc.") from error
    return state["Args"], datarc


def _fold(task: Task, datarc: dict[str, Any], args: argparse.Namespace) -> str:
    """The fold that was held out in training; by the rule of S3PRL's emotion expert, `datarc` comes before `-v`."""
    named = bool(datarc.get(task.fold_key)) or not task.folds_of(datarc)
    return task.fold(datarc, None if named else getattr(args, "downstream_variant", None))


def _corpus(file: Path, task: Task, record: dict[str, Any], fold: str, corpora: Path | None) -> Corpus:
    datarc = dict(record["datarc"])
    for key, wanted in task.required.items():
        if datarc.get(key, wanted) != wanted:
            raise InputError(
                f"SUPERB's {task.column} needs datarc.{key}={wanted}, but this experiment has {key}={datarc[key]}."
            )
    for place in task.places:
        path = datarc.get(place.key)
        if isinstance(path, str):
            datarc[place.key] = os.path.join(record["folder"], path)
        elif not place.optional:
            raise InputError(
                f"{provenance.path_of(file)}: no datarc.{place.key}, the corpus cannot be found."
            )
    if not os.path.exists(str(datarc[task.places[0].key])):
        moved = named.read(corpora)
        now = (moved.complete(task) if moved else None) or datarc
        datarc |= {place.key: now[place.key] for place in task.places}
    return task.load(datarc, fold)


def _parts(corpus: Corpus, utterance: Utterance) -> list[str]:
    """The labels of a line; a class of `labels: intents31` is three of them."""
    return [part for names, index in zip(corpus.classes, utterance.label) for part in names[index].split("|")]


def _known_labels(corpus: Corpus) -> list[tuple[str, ...]]:
    """For each label in a line, the values that it may have."""
    return [
        tuple(dict.fromkeys(values))
        for names in corpus.classes
        for values in zip(*(name.split("|") for name in names))
    ]


def _accuracy(
    predicted: dict[str, str], truth: dict[str, str], expected: dict[str, str], truth_file: Path
) -> float:
    for name, label in truth.items():
        if label != expected[name]:
            raise InputError(f"{truth_file}: {name!r} is {label!r} there, {expected[name]!r} in the corpus.")
    return sum(predicted[name] == label for name, label in truth.items()) / len(truth)


def _read(file: Path, command: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}). Make it: {command}") from error
