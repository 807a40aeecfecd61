"""The YAML config of an experiment in S3PRL's form: finds, reads and overrides it, and checks its sections."""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..corpora.tasks import READING, Task, by_downstream
from ..errors import InputError, unknown_name
from ..files import parse_yaml
from . import plugin

_EXPONENT = re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+")


def find(downstream: str, given: str | None) -> tuple[Path, dict[str, Any]]:
    """The path and the content of a downstream's config, ``given`` (`-c`) or the default; its sections are checked.

    Raises:
        InputError: no such file, not YAML, or a section is missing.
    """
    path = Path(given) if given else plugin.default_config(downstream)
    try:
        content = parse_yaml(path.read_text("utf-8"), str(path))
    except OSError as error:
        hint = (
            ""
            if given
            else " S3PRL's wheel carries no configs: take it from S3PRL's repository, and give it with -c."
        )
        raise InputError(f"{path}: cannot read this config ({error.strerror}).{hint}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    check_sections(content, path)
    return path, content


def check_sections(content: Any, path: Path) -> None:
    """InputError unless ``content``, read from ``path``, is a config with the sections that S3PRL's runner needs."""
    sections = content if isinstance(content, dict) else {}
    missing = [key for key in ("runner", "optimizer", "downstream_expert") if key not in sections]
    if missing:
        raise InputError(f"{path}: not a config for this runner: it has no {', '.join(missing)}.")


def check_override(option: str) -> None:
    """InputError unless ``option`` is one that S3PRL's `-o` understands (s3prl/utility/helper.py: override)."""
    key, *value = option.split("=")
    first, *rest = key.strip().split(".")
    if (
        len(value) != 1
        or not all(rest)
        or len(rest) not in {"args": (1,), "config": range(1, 9)}.get(first, ())
    ):
        raise InputError(
            f"-o {option!r}: expected config.SECTION.KEY=VALUE or args.KEY=VALUE, several joined by ',,' "
            "(S3PRL allows no '=' in a value)."
        )


def read(
    downstream: str, given: str | None, override: str | None, datarc: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The config of a downstream with `-o` applied, for commands that do not go through S3PRL's runner.

    Args:
        datarc: that of a store. What of it says which corpus it is (`Task.corpus_keys`) holds here too, and its fold
            is the default.

    Raises:
        InputError: as `find`; an option that is not ``config.SECTION.KEY=VALUE``; or ``given`` and ``override`` that
            name another corpus than ``datarc``.
    """
    _, config = find(downstream, given)
    if datarc is not None and given is None:
        config["downstream_expert"]["datarc"].update(_without_reading(datarc))
    for option in override.split(",,") if override else ():
        check_override(option.strip())
        if not option.strip().startswith("config."):
            raise InputError(f"-o {option!r}: only config.SECTION.KEY=VALUE can be used here.")
        apply(option, config)
    if datarc is not None:
        _agree(by_downstream(downstream), config, datarc)
    check_known(config)
    return with_numbers(config)


def with_numbers(values: Any) -> Any:
    """A config in which ``1e-4`` is a number (YAML reads it as text). `datarc`, which holds names, is not changed."""
    if isinstance(values, dict):
        return {key: each if key == "datarc" else with_numbers(each) for key, each in values.items()}
    if isinstance(values, list):
        return [with_numbers(each) for each in values]
    return float(values) if isinstance(values, str) and _EXPONENT.fullmatch(values) else values


def _own_datarc(config: dict[str, Any]) -> Section:
    section = Section("config.downstream_expert", config["downstream_expert"])
    return Section("config.downstream_expert.datarc", section["datarc"])


def _agree(task: Task, config: dict[str, Any], datarc: Mapping[str, Any]) -> None:
    """Complete the `datarc` of ``config`` with that of a store; InputError where they name different corpora."""
    places = {place.key for place in task.places}
    given = {
        key: value for key, value in _own_datarc(config).items() if value is not None or key not in places
    }
    own = {**_without_reading(datarc), **given}
    now = task.corpus_keys(own)
    for key, before in task.corpus_keys(datarc).items():
        if now[key] != before:
            raise InputError(
                f"config.downstream_expert.datarc.{key} {now[key]!r}: the store was extracted with {before!r}; leave "
                "it out, or extract this corpus to another --store."
            )
    config["downstream_expert"]["datarc"] = own


def _without_reading(datarc: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in datarc.items() if key not in READING}


def apply(option: str, config: dict[str, Any]) -> None:
    """Apply a checked ``config.SECTION.KEY=VALUE`` to ``config``; InputError if SECTION is not a section."""
    name, value = (part.strip() for part in option.split("="))
    _, *sections, last = name.split(".")
    section = config
    for each in sections:
        section = section.setdefault(each, {})
        if not isinstance(section, dict):
            raise InputError(f"-o {option!r}: {each} is not a section of the config.")
    section[last] = _value(value)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


_MOST = 2**31 - 1


class Section(dict[str, Any]):
    """A section of the config. A missing key raises InputError, and so does a key that is not ``known``."""

    def __init__(self, name: str, values: dict[str, Any], known: Sequence[str] | None = None) -> None:
        if not isinstance(values, dict):
            raise InputError(f"{name}: expected a section with keys, but got {values!r}.")
        super().__init__(values)
        self.name = name
        for key in values:
            if known is not None and key not in known:
                raise unknown_name(f"key in {name}:", key, known)

    def __missing__(self, key: str) -> Any:
        raise InputError(
            f"{self.name} has no {key!r}: add it to the config, or give -o {self.name}.{key}=VALUE."
        )

    def whole(self, key: str, least: int = 1, most: int = _MOST) -> int:
        """The whole number under ``key``; InputError for anything else, or one outside ``least`` and ``most``."""
        value = self[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not least <= value <= most or value % 1:
            wanted = f"from {least} to {most}" if number and value > most else f"from {least} up"
            raise InputError(f"{self.name}.{key}: expected a whole number {wanted}, but got {value!r}.")
        return int(value)


def datarc_of(downstream: str, values: dict[str, Any]) -> Section:
    """The section `datarc` of one of this project's downstreams; InputError for a key that its default has not."""
    return Section("config.downstream_expert.datarc", values, list(default_datarc(downstream)))


def default_datarc(downstream: str) -> dict[str, Any]:
    """The section `datarc` of the default config of one of this project's downstreams."""
    return find(downstream, None)[1]["downstream_expert"]["datarc"]


#: More processes than this are a slip of the hand, which a machine may not survive.
_MOST_WORKERS = 256


def workers(datarc: Section) -> int:
    """Processes that read audio, of `num_workers`: None means the cores that this process may use, at most 8."""
    if datarc["num_workers"] is None:
        return min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8
        )
    return datarc.whole("num_workers", least=0, most=_MOST_WORKERS)


#: What S3PRL's runner reads of a config (s3prl/downstream/runner.py), and what `vqpool train` records of its store.
_SECTIONS = ("runner", "optimizer", "scheduler", "specaug", "downstream_expert", "store")
_RUNNER = (
    *("total_steps", "gradient_clipping", "gradient_accumulate_steps", "log_step", "eval_step", "save_step"),
    *("max_keep", "eval_dataloaders", "train_dataloader", "evaluate_ratio", "fp16"),
)


def check_known(config: dict[str, Any]) -> None:
    """InputError for a section, or a key of `runner`, that nothing reads in a run of this project's downstreams."""
    Section("config", config, _SECTIONS)
    Section("config.runner", config["runner"], _RUNNER)


def runner_section(config: dict[str, Any]) -> Section:
    """The section `runner`; numbers of steps become integers, also in ``config``.

    Raises:
        InputError: a number of steps that is not whole, any number that is not above 0, splits that are no list, or
            an optimizer or scheduler without a name.
    """
    section = Section("config.runner", config["runner"])
    splits = section.get("eval_dataloaders", [])
    if not (isinstance(splits, list) and all(isinstance(split, str) for split in splits)):
        raise InputError(f"config.runner.eval_dataloaders: expected a list of splits, but got {splits!r}.")
    for kind in ("optimizer", "scheduler"):  # S3PRL evaluates the name
        values = config.get(kind, {})
        if kind == "scheduler" and not values:
            continue  # S3PRL goes without
        named = Section(f"config.{kind}", values).get("name", kind)
        if not str(named).isidentifier():
            raise InputError(f"config.{kind}.name: expected S3PRL's name of one, but got {named!r}.")
    for key in ("total_steps", "gradient_accumulate_steps", "log_step", "eval_step", "save_step", "max_keep"):
        section[key] = config["runner"][key] = section.whole(key)
    positive("config.runner.gradient_clipping", section["gradient_clipping"], infinite=True)
    positive("config.runner.evaluate_ratio", section.get("evaluate_ratio", 1))
    return section


def modelrc_of(config: dict[str, Any]) -> Section:
    """The section of the head; InputError if there is none."""
    expert = Section("config.downstream_expert", config["downstream_expert"])
    return Section("config.downstream_expert.modelrc", expert["modelrc"])


def rate_of(config: dict[str, Any]) -> float:
    """The learning rate; InputError unless it is a positive number."""
    return positive("config.optimizer.lr", Section("config.optimizer", config["optimizer"])["lr"])


def positive(name: str, value: Any, infinite: bool = False) -> float:
    """Return ``value`` if it is a finite number above 0; InputError, which names its place, otherwise."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not value > 0 or (value == math.inf and not infinite):
        raise InputError(f"{name}: expected a number above 0, but got {value!r}.")
    return value


def seeded(option: str, seed: int) -> int:
    """Return ``seed`` if S3PRL's runner can use it (it passes it to numpy); InputError otherwise."""
    if not 0 <= seed < 2**32:
        raise InputError(f"{option} {seed}: expected a whole number from 0 to {2**32 - 1}.")
    return seed


def seeds_of(given: Sequence[int]) -> tuple[int, ...]:
    """What `--seeds` names, each once; InputError as from `seeded`."""
    return tuple(dict.fromkeys(seeded("--seeds", seed) for seed in given))
