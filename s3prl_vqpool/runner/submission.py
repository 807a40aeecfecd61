"""predict.zip for the SUPERB leaderboard: test predictions of known origin, checked against the corpus."""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoints, corpora
from ..corpora import Corpus, Utterance
from ..corpora.iemocap import FOLDS
from ..errors import InputError, unknown_name
from ..files import whole
from . import provenance


@dataclass(frozen=True)
class Task:
    """How a task's predictions look.

    Attributes:
        theirs: S3PRL's own expert.
        load: the corpus, by `datarc` and fold.
        paths: what in `datarc` is a path.
        optional: which of them may be null.
        suffix, separator, slots: of the prediction file, and the labels in a line of it.
    """

    theirs: str
    load: Callable[[dict[str, Any], str], Corpus]
    paths: tuple[str, ...]
    optional: tuple[str, ...] = ()
    suffix: str = "txt"
    separator: str = " "
    slots: int = 1


@dataclass(frozen=True)
class Predictions:
    """Test predictions of one experiment; ``fold`` is "" for all but ER, ``accuracy`` in [0, 1]."""

    task: str
    fold: str
    upstream: str
    utterances: int
    accuracy: float
    member: str
    content: bytes


def _twelve_keywords(datarc: dict[str, Any], _: str) -> Corpus:
    if datarc.get("classes", "v1") != "v1":
        raise InputError(
            f"SUPERB's KS has 12 classes, this experiment has datarc.classes={datarc['classes']}."
        )
    return corpora.speech_commands(datarc["speech_commands_root"], datarc["speech_commands_test_root"])


TASKS = {
    "ks": Task("speech_commands", _twelve_keywords, ("speech_commands_root", "speech_commands_test_root")),
    "sid": Task(
        "voxceleb1",
        lambda datarc, _: corpora.voxceleb1(datarc["file_path"], datarc["meta_data"]),
        ("file_path", "meta_data"),
    ),
    "ic": Task(
        "fluent_commands",
        lambda datarc, _: corpora.fluent_commands(datarc["file_path"], datarc.get("labels", "slots")),
        ("file_path",),
        suffix="csv",
        separator=",",
        slots=3,
    ),
    "er": Task(
        "emotion",
        lambda datarc, fold: corpora.iemocap(datarc["root"], datarc.get("meta_data"), fold),
        ("root", "meta_data"),
        optional=("meta_data",),
    ),
}


def collect(task: str, expdir: Path) -> Predictions:
    """The test predictions of an experiment, once everything about them is as it should be.

    Raises:
        InputError: not an experiment of this task; no predictions, or not those of `-m evaluate` and
            dev-best.ckpt; predictions that do not fit the corpus. Where a run is missing, its command is given.
    """
    kind = TASKS[task]
    if not expdir.is_dir():
        raise InputError(
            f"--{task} {expdir}: no such folder. Expected an experiment's (run_downstream.py -p)."
        )
    args, datarc = _trained(task, expdir)
    fold = _fold(datarc, args) if task == "er" else ""
    stem = f"test_{fold}" if fold else "test"
    file, truth = (expdir / f"{stem}_{what}.{kind.suffix}" for what in ("predict", "truth"))
    corpus_keys = {key: datarc.get(key) for key in kind.paths} | ({"test_fold": fold} if fold else {})
    command = provenance.command(expdir, args, f"vqpool_{task}", corpus_keys)
    content = _read(file, command)
    record = provenance.verify(file, content, f"vqpool_{task}", command)
    corpus = _corpus(file, kind, record, fold)
    accuracy = _accuracy(
        read_labels(file, content, corpus, kind),
        read_labels(truth, _read(truth, command), corpus, kind),
        {utterance.id: kind.separator.join(_parts(corpus, utterance)) for utterance in corpus.splits["test"]},
        truth,
    )
    member = "predict/" + "_".join(filter(None, (task, fold, "public"))) + f"/predict.{kind.suffix}"
    count = len(corpus.splits["test"])
    return Predictions(task, fold, record["upstream"], count, accuracy, member, content)


def read_labels(file: Path, content: bytes, corpus: Corpus, kind: Task) -> dict[str, str]:
    """Label of each utterance in a file that must name exactly the corpus's test utterances.

    Raises:
        InputError: with the line number and the value: a malformed line, an unknown or repeated id, an unknown
            label. Missing ids: the first one, and how many.
    """
    expected = {utterance.id for utterance in corpus.splits["test"]}
    known = _known_labels(corpus)
    form = kind.separator.join(["ID", *["LABEL"] * kind.slots])
    labels: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(content.decode(errors="replace").removesuffix("\n").split("\n"), start=1):
        where = f"{file}, line {number}"
        name, *values = line.split(kind.separator)
        if len(values) != kind.slots or not all([name, *values]):
            raise InputError(f"{where}: Expected {form!r}, but got {line!r}.")
        if name not in expected:
            raise InputError(f"{where}: {name!r} is not in the corpus's test split.")
        if name in labels:
            raise InputError(f"{where}: {name!r} has a line already, {lines[name]}.")
        for value, names in zip(values, known):
            if value not in names:
                raise InputError(f"{where}: {unknown_name('label', value, names, full_list=len(names) < 20)}")
        labels[name], lines[name] = kind.separator.join(values), number
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
def _trained(task: str, expdir: Path) -> tuple[argparse.Namespace, dict[str, Any]]:
    """S3PRL's arguments and the `datarc` that an experiment of ``task`` was trained with."""
    path = expdir / provenance.BEST
    state = checkpoints.load(path, required=("Args", "Config"))
    trained = getattr(state["Args"], "downstream", None)
    if trained not in (f"vqpool_{task}", TASKS[task].theirs):
        raise InputError(
            f"--{task} {expdir}: an experiment of -d {trained}. Expected one of -d vqpool_{task}."
        )
    try:
        return state["Args"], dict(state["Config"]["downstream_expert"]["datarc"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its config has no downstream_expert.datarc.") from error


def _fold(datarc: dict[str, Any], args: argparse.Namespace) -> str:
    """The fold that was held out in training, by the rule of S3PRL's emotion expert."""
    fold = datarc.get("test_fold") or getattr(args, "downstream_variant", None) or FOLDS[0]
    if fold not in FOLDS:
        raise unknown_name("IEMOCAP fold", str(fold), FOLDS)
    return fold


def _corpus(file: Path, kind: Task, record: dict[str, Any], fold: str) -> Corpus:
    given = {key: path for key in kind.paths if isinstance(path := record["datarc"].get(key), str)}
    absent = [key for key in kind.paths if key not in given and key not in kind.optional]
    if absent:
        raise InputError(f"{provenance.path_of(file)}: no datarc.{absent[0]}, the corpus cannot be found.")
    found = {key: os.path.join(record["folder"], path) for key, path in given.items()}
    return kind.load({**record["datarc"], **found}, fold)


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
