"""`corpora.yaml`: where each corpus lies, named once for all commands.

A section for each task of `corpora.tasks`. Its keys are those of the config's `datarc`, or their short names; a path is
relative to the file:

    ks: {root: /data/speech_commands_v0.01, test_root: /data/speech_commands_test_set_v0.01}
    er: {root: IEMOCAP}
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..corpora import describe
from ..corpora.checks import unofficial
from ..corpora.tasks import PERMITTED, READING, Task, by_downstream, by_name
from ..errors import InputError, one_line, unknown_name
from ..files import parse_yaml, whole
from . import config, plugin

FILE = "corpora.yaml"
VARIABLE = "VQPOOL_CORPORA"
_EXPERT = "config.downstream_expert.datarc"


@dataclass(frozen=True)
class Named:
    """A `corpora.yaml`: the entries of `datarc` for each task that it has, by the task's name; paths are absolute."""

    file: Path
    datarc: Mapping[str, Mapping[str, Any]]

    def complete(self, task: Task) -> dict[str, Any] | None:
        """The whole `datarc` of a task, with the defaults of its config; None if the task has no section.

        Raises:
            InputError: a place that is not there.
        """
        if task.name not in self.datarc:
            return None
        entries = self.datarc[task.name]
        for place in task.places:
            path = entries.get(place.key)
            if path is not None and not os.path.exists(path):
                raise InputError(
                    f"{self.file}: {task.name}.{place.short}: {path} is not there: correct the path."
                )
        return {**config.default_datarc(task.downstream), **entries}

    def checked(self, task: Task) -> Iterator[tuple[bool, str]]:
        """`checked` of a task that has a section."""
        try:
            datarc = self.complete(task)
        except InputError as error:
            yield False, str(error)
        else:
            yield from checked(task, datarc or {})


def find(given: Path | None = None) -> Path | None:
    """The file: ``given`` (`--corpora`), that of the variable VQPOOL_CORPORA, or `corpora.yaml` in the working folder.

    Raises:
        InputError: the file that was asked for is not there.
    """
    for name, path in ("--corpora", given), (VARIABLE, os.environ.get(VARIABLE)):
        if path:
            if not Path(path).is_file():
                raise InputError(f"{name} {path}: no such file. Expected a corpora.yaml.")
            return Path(path)
    return Path(FILE) if Path(FILE).is_file() else None


def read(given: Path | None = None) -> Named | None:
    """What the file that `find` finds says; None if there is none.

    Raises:
        InputError: not YAML, an unknown task or key, a value of another type, or a corpus without its root.
    """
    file = find(given)
    if file is None:
        return None
    try:
        content = parse_yaml(file.read_text("utf-8"), str(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected a section for each task, such as ks: {{root: PATH}}.")
    return Named(file, {str(name): _section(file, str(name), values) for name, values in content.items()})


def _section(file: Path, name: str, values: Any) -> dict[str, Any]:
    try:
        task = by_name(name)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{file}: {name}: expected a section such as {{root: PATH}}, but got {values!r}.")
    places = {place.short: place for place in task.places}
    places |= {place.key: place for place in task.places}
    entries: dict[str, Any] = {}
    for key, value in values.items():
        place = places.get(str(key))
        full = place.key if place else _known(file, task, str(key), list(places))
        if full in entries:
            raise InputError(f"{file}: {name}.{key}: {full} is named twice; leave one out.")
        entries[full] = _path(file, f"{name}.{key}", value) if place else value
    for place in task.places:
        if not place.optional and place.key not in entries:
            raise InputError(f"{file}: {name}: has no {place.short}: add {place.short}: PATH.")
    return entries


def _known(file: Path, task: Task, key: str, places: list[str]) -> str:
    """``key``, if it says which corpus is meant or which of its classes may be missing."""
    every = config.default_datarc(task.downstream)
    own = [key for key in every if key in PERMITTED or key not in (*READING, task.fold_key)]
    known = list(dict.fromkeys([*places, *own]))
    if key not in known:
        raise unknown_name(f"key in {file}: {task.name}:", key, known)
    return key


def _path(file: Path, name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{file}: {name}: expected a path, but got {value!r}.")
    return os.path.abspath(file.parent / Path(value).expanduser())


def override(downstream: str, given: str | None, option: str | None, file: Path | None = None) -> str | None:
    """`-o` with the corpus that `corpora.yaml` names, where neither `-c` nor `-o` names one.

    Args:
        downstream: others than this project's are left alone.
        given: `-c`. Its `datarc` and that of `-o` come first: where they name the corpus's root, nothing is added.
        option: `-o`.
        file: `--corpora`.

    Raises:
        InputError: as `read`; a place that is not there; a `--corpora` that has no such task or would not be used.
    """
    if downstream not in plugin.downstreams():
        return option
    task = by_downstream(downstream)
    explicit = _explicit(downstream, given, option)
    if task.places[0].key in explicit:
        if file:
            raise InputError(
                f"--corpora {file}: would not be used: -c or -o names {task.places[0].key}; leave one out."
            )
        return option
    named = read(file)
    datarc = named.complete(task) if named else None
    if named is None or datarc is None:
        if file:
            raise InputError(f"--corpora {file}: has no section {task.name}: add it.")
        return option
    print(f"corpus: {task.name} of {named.file}, {datarc[task.places[0].key]}", file=sys.stderr)
    added = [
        f"{_EXPERT}.{key}={_quoted(value)}"
        for key, value in named.datarc[task.name].items()
        if key not in explicit
    ]
    return ",,".join([*added, *([option] if option else [])])


def _explicit(downstream: str, given: str | None, option: str | None) -> set[str]:
    """Keys of `datarc` that have a value in the file ``given`` or in ``option``."""
    keys = {part.split("=")[0].strip() for part in (option or "").split(",,")}
    explicit = {key.removeprefix(f"{_EXPERT}.") for key in keys if key.startswith(f"{_EXPERT}.")}
    if given:
        section = config.find(downstream, given)[1]["downstream_expert"]
        datarc = section.get("datarc") if isinstance(section, dict) else None
        explicit |= (
            {key for key, value in datarc.items() if value is not None} if isinstance(datarc, dict) else set()
        )
    return explicit


def _quoted(value: Any) -> str:
    """A literal as S3PRL's `-o` reads it: evaluated, after a split at `=` and `,,`, which stand escaped in a text."""
    return repr(value).replace("=", "\\x3d").replace(",,", ",\\x2c")


def checked(task: Task, datarc: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """(complete, line) for each fold of a corpus: utterances per split and classes, or the problem."""
    try:
        for fold, corpus in task.divisions(datarc):
            note = unofficial(corpus, task.official.get(fold))
            yield True, f"{' '.join(filter(None, [task.name, fold]))}: {describe(corpus)}{note}"
    except ImportError as error:
        yield False, f"{task.name}: cannot be looked at ({error})"
    except InputError as error:
        yield False, f"{task.name}: {one_line(error)}"


def add(folder: Path, made: Mapping[str, Mapping[str, str]]) -> Path:
    """Add sections to the `corpora.yaml` of a folder, with paths relative to it; those that are there stay as they are.

    Args:
        made: places of corpora below ``folder``: task -> key of `datarc` -> path.

    Raises:
        InputError: the file is not one, or has another corpus of a task.
    """
    file = folder / FILE
    before = read(file).datarc if file.is_file() else {}  # type: ignore[union-attr]
    wanted = {
        name: {key: os.path.abspath(path) for key, path in places.items()} for name, places in made.items()
    }
    for name in wanted:
        if before.get(name, wanted[name]) != wanted[name]:
            raise InputError(
                f"{file}: names another corpus for {name}: take that section out, or choose another --output."
            )
    lines = [_line(folder, by_name(name), wanted[name]) for name in wanted if name not in before]
    if lines:
        text = f"{file.read_text('utf-8').rstrip()}\n" if file.is_file() else ""
        _write_whole(file, text, "".join(lines), {**before, **wanted})
    return file


def _line(folder: Path, task: Task, places: Mapping[str, str]) -> str:
    import yaml

    short = {place.key: place.short for place in task.places}
    section = {short[key]: os.path.relpath(path, folder) for key, path in places.items()}
    return yaml.safe_dump({task.name: section}, default_flow_style=None, sort_keys=False, width=10_000)


def _write_whole(file: Path, text: str, lines: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Write ``text`` and ``lines``; InputError, and the old file, if that does not say what is ``wanted``."""
    with whole(file) as temporary:
        temporary.write_text(text + lines, "utf-8")
        try:
            fine = read(temporary).datarc == wanted  # type: ignore[union-attr]
        except InputError:
            fine = False
        if not fine:
            raise InputError(
                f"{file}: its form takes no further lines: add {' '.join(lines.split())} by hand."
            )
