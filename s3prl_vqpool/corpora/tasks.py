"""The tasks. Each is described once: corpus, folds, prediction file, official counts, the paper's protocol.

Importing this module loads neither torch nor a corpus. A new task needs one call of `register` and a folder below
`downstream/`.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import InputError, unknown_name

if TYPE_CHECKING:
    from .base import Corpus

#: Keys of `datarc` that permit what is refused otherwise.
PERMITTED = ("allow_missing_classes", "allow_shared_audio")
#: Keys of `datarc` that say how a corpus is read. All other keys say which corpus it is.
READING = (
    *("batch_size", "train_batch_size", "eval_batch_size", "num_workers", "pre_load", "max_timestep"),
    *PERMITTED,
)


@dataclass(frozen=True)
class Place:
    """A key of `datarc` that holds the path of a folder or file of the corpus.

    Attributes:
        key: the key.
        metavar: its name on the command line (`vqpool doctor`).
        optional: whether it may be left out.
    """

    key: str
    metavar: str
    optional: bool = False

    @property
    def short(self) -> str:
        """Its name in `corpora.yaml`, where ``key`` is taken too."""
        return self.metavar.lower()


@dataclass(frozen=True)
class Protocol:
    """Training of one linear layer with Adam: utterances per batch, epochs, learning rate.

    The defaults are those of arXiv 2304.03940, Table 2, for intent classification and emotion recognition.
    """

    batch: int = 512
    epochs: int = 200
    rate: float = 1e-3


@dataclass(frozen=True, eq=False)
class Task:
    """An utterance classification task.

    Attributes:
        name: short name, e.g. ``ks``.
        title: what is recognised.
        downstream: name of its expert, for `-d`.
        loader: ``module:function``. The function takes the `datarc` (a mapping) and the name of a fold ("" where
            the task has none), and gives a `Corpus`.
        places: where the corpus lies.
        folds: names of its folds, the default first; empty where the corpus has one fixed test set.
        folds_from: ``module:function`` where the corpus itself says which folds it has. The function takes the `datarc`
            and gives their names.
        fold_key: key of `datarc` that chooses a fold.
        s3prl: S3PRL's own expert for the task.
        suffix, separator, slots: ending of the prediction files, what separates the fields of a line, and the number
            of labels in a line, where the corpus does not have more.
        official: number of test utterances on the SUPERB leaderboard, by fold ("" where the task has none); empty
            where the task is not on the leaderboard.
        required: values that `datarc` must have for the leaderboard.
        protocol: how the paper trains a linear layer for the task.
        published: the task's column in the tables of arXiv 2304.03940; None where it has none.
    """

    name: str
    title: str
    downstream: str
    loader: str
    places: tuple[Place, ...]
    folds: tuple[str, ...] = ()
    folds_from: str | None = None
    fold_key: str = "test_fold"
    s3prl: str | None = None
    suffix: str = "txt"
    separator: str = " "
    slots: int = 1
    official: Mapping[str, int] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol = Protocol()
    published: str | None = None

    @property
    def column(self) -> str:
        """The task's column in tables."""
        return self.name.upper()

    def fold(self, datarc: Mapping[str, Any], variant: str | None = None) -> str:
        """The fold held out for test: from ``datarc``, from ``variant`` (S3PRL's `-v`), or the first; "" without folds.

        Raises:
            InputError: an unknown fold, `datarc` and ``variant`` that name two, or a fold where there are none.
        """
        given, folds = datarc.get(self.fold_key), self.folds_of(datarc)
        named = None if given in (None, "") else str(given)  # YAML takes the name 1 for a number
        if not folds:
            if variant is not None:
                raise InputError(f"-v {variant}: {self.downstream} has no folds; leave -v out.")
            if named is not None:
                raise InputError(f"datarc.{self.fold_key} {named}: this corpus has no folds; leave it out.")
            return ""
        if named and variant and named != variant:
            raise InputError(
                f"-v {variant}: the config says datarc.{self.fold_key}: {named}; leave one of the two out."
            )
        chosen = named or variant or folds[0]
        if chosen not in folds:
            raise unknown_name(f"fold of {self.downstream}:", chosen, folds)
        return chosen

    def folds_of(self, datarc: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the folds of the corpus that ``datarc`` names, the default first.

        Raises:
            InputError: a place that is missing, or an invalid corpus, where the corpus says which folds it has.
        """
        if self.folds_from is None:
            return self.folds
        self._require_places(datarc)
        return pkgutil.resolve_name(self.folds_from)(datarc)

    def stem(self, split: str, fold: str) -> str:
        """The first part of the names of a split's prediction files."""
        return f"{split}_{fold}" if fold else split

    def load(self, datarc: Mapping[str, Any], fold: str | None = None) -> Corpus:
        """The corpus that ``datarc`` names, divided by ``fold`` (None: by `Task.fold`).

        Raises:
            InputError: a place that is missing or no path, an unknown fold, an invalid corpus, a class without
                utterances (unless ``datarc.allow_missing_classes`` allows it), or a name that a prediction file cannot
                hold.
        """
        self._require_places(datarc)
        from . import checks

        corpus = pkgutil.resolve_name(self.loader)(datarc, self.fold(datarc) if fold is None else fold)
        checks.require_classes(corpus, datarc.get("allow_missing_classes", False))
        checks.require_names(corpus, self.separator, max(self.slots, len(corpus.classes)))
        return corpus

    def _require_places(self, datarc: Mapping[str, Any]) -> None:
        for place in self.places:
            key, value = f"config.downstream_expert.datarc.{place.key}", datarc.get(place.key)
            if value is not None and not _is_path(value):
                raise InputError(f"{key}: expected a path, but got {value!r}: put a text there, in quotes.")
            if not place.optional and value is None:
                raise InputError(
                    f"{key}: {self.downstream} needs this path: give -o {key}=PATH, or name it in corpora.yaml "
                    f"({self.name}: {{{place.short}: PATH}}; vqpool corpora --help)."
                )

    def divisions(self, datarc: Mapping[str, Any]) -> Iterator[tuple[str, Corpus]]:
        """(fold, corpus) of every fold; of a task without folds one, named ""."""
        for fold in self.folds_of(datarc) or ("",):
            yield fold, self.load(datarc, fold)

    def absolute(self, datarc: Mapping[str, Any]) -> dict[str, Any]:
        """``datarc`` with absolute paths."""
        places = {place.key for place in self.places}
        return {
            key: os.path.abspath(value) if key in places and isinstance(value, str) else value
            for key, value in datarc.items()
        }

    def corpus_keys(self, datarc: Mapping[str, Any]) -> dict[str, Any]:
        """What says which corpus ``datarc`` names: all keys except those of `READING` and the fold; paths absolute."""
        return {
            key: value
            for key, value in self.absolute(datarc).items()
            if key not in READING and key != self.fold_key
        }


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and value != "" and "\0" not in os.fspath(value)


_tasks: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Make ``task`` known to all commands; InputError if its name or downstream is taken."""
    for other in _tasks.values():
        if task.name == other.name or task.downstream == other.downstream:
            raise InputError(
                f"Task {task.name!r} ({task.downstream}) is registered already, as {other.name!r} ({other.downstream})."
            )
    _tasks[task.name] = task
    return task


def registered() -> list[Task]:
    """All tasks, in the order of tables."""
    return list(_tasks.values())


def by_name(name: str) -> Task:
    """The task of that name; InputError with close matches if there is none."""
    if name not in _tasks:
        raise unknown_name("task", name, _tasks)
    return _tasks[name]


def by_downstream(downstream: str) -> Task:
    """The task of a downstream; InputError with close matches if there is none."""
    known = {task.downstream: task for task in _tasks.values()}
    if downstream not in known:
        raise unknown_name("downstream of a task:", downstream, known)
    return known[downstream]


register(
    Task(
        name="ks",
        title="keyword spotting",
        downstream="vqpool_ks",
        loader=f"{__package__}.speech_commands:load",
        places=(
            Place("speech_commands_root", "ROOT"),
            Place("speech_commands_test_root", "TEST_ROOT", optional=True),
        ),
        s3prl="speech_commands",
        official={"": 3081},
        required={"classes": "v1"},
        protocol=Protocol(batch=4096, epochs=200, rate=1e-2),
        published="KWS",
    )
)
register(
    Task(
        name="sid",
        title="speaker identification",
        downstream="vqpool_sid",
        loader=f"{__package__}.voxceleb1:load",
        places=(Place("file_path", "ROOT"), Place("meta_data", "LIST")),
        s3prl="voxceleb1",
        official={"": 8251},
        protocol=Protocol(batch=128, epochs=50, rate=1e-3),
        published="SID",
    )
)
register(
    Task(
        name="ic",
        title="intent classification",
        downstream="vqpool_ic",
        loader=f"{__package__}.fluent_commands:load",
        places=(Place("file_path", "ROOT"),),
        s3prl="fluent_commands",
        suffix="csv",
        separator=",",
        slots=3,
        official={"": 3793},
        protocol=Protocol(batch=512, epochs=200, rate=1e-3),
        published="IC",
    )
)
register(
    Task(
        name="er",
        title="emotion recognition",
        downstream="vqpool_er",
        loader=f"{__package__}.iemocap:load",
        places=(Place("root", "ROOT"), Place("meta_data", "META_DATA", optional=True)),
        folds=("fold1", "fold2", "fold3", "fold4", "fold5"),
        s3prl="emotion",
        official={"fold1": 1085, "fold2": 1023, "fold3": 1151, "fold4": 1031, "fold5": 1241},
        protocol=Protocol(batch=512, epochs=200, rate=1e-3),
        published="ER",
    )
)
register(
    Task(
        name="table",
        title="utterance classification of a corpus of your own",
        downstream="vqpool_table",
        loader=f"{__package__}.table.corpus:load",
        places=(Place("table", "TABLE"), Place("root", "ROOT", optional=True)),
        folds_from=f"{__package__}.table.corpus:folds",
        suffix="tsv",
        separator="\t",
    )
)
