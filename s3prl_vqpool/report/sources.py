"""What the figures draw, read from stores, tables, logs and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import checkpoints
from ..errors import InputError, unknown_name
from ..files import parse_json, parse_yaml
from ..pooling import Counts
from ..pooling.registry import given_options
from ..store import Store
from ..tables import nearest, predictions, stores, table1
from ..tables.predictions import SEPARATOR
from .embedding import most_frequent

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: A line of `log.log`, as S3PRL's experts and ours write it; what `-m evaluate` appends is at step 0.
_LINE = re.compile(r"^(train|dev|test) at step ([1-9]\d*): (\S+)$", re.MULTILINE)


# -------------------------------------------------------------------------------------------------- stores
@dataclass(frozen=True)
class Vectors:
    """Utterance vectors of a split by pooling, floating [N, E]; the label of each, and its row in the store."""

    by_pooling: dict[str, Tensor]
    labels: list[str]
    rows: list[int]


def utterance_vectors(
    path: Path, names: Sequence[str], split: str, classes: int, given: Mapping[str, Any]
) -> Vectors:
    """Vectors of the mean over layers, of a store's utterances of the most frequent classes.

    Statistics are those of the training split; of a task with folds, of the first one. An option with a grid that is
    not ``given`` has its default.

    Args:
        split: train, dev or test.
        classes: how many of them.

    Raises:
        InputError: no store, a pooling that is unknown, learned or not given by the store, a corpus that is not as it
            was, or fewer than two classes.
    """
    store = Store.open(path)
    task = stores.task(path, store)
    fold = task.folds[0]
    names = table1.choose(names, [task])
    options = given_options(names, given)
    rows = {"train": fold.train, "dev": fold.dev, "test": fold.test}[split]
    labels = [
        SEPARATOR.join(names[k] for names, k in zip(task.names, each)) for each in task.labels[rows].tolist()
    ]
    wanted = most_frequent(labels, classes)
    if len(wanted) < 2:
        raise InputError(f"{path}: the {split} split has one class, {', '.join(wanted)}: expected more.")
    kept = torch.tensor([label in wanted for label in labels])
    found = {name: nearest.fixed(name, task.features, fold, options[name])[rows[kept]] for name in names}
    chosen = [label for label in labels if label in wanted]
    return Vectors(found, chosen, rows[kept].tolist())


def entries_of_store(path: Path) -> list[Tensor]:
    """Frames int64 [V_g] with each entry of each codebook, over all utterances of a store."""
    store = Store.open(path)
    sizes = store.manifest["codebook_sizes"]
    found = [torch.zeros(size, dtype=torch.int64) for size in sizes]
    for row in range(len(store.utterances)):
        for total, codes in zip(found, store.codes(row).unbind(1)):
            total += torch.bincount(codes, minlength=len(total))
    return found


def entries_of_statistics(path: Path) -> list[Tensor]:
    """The same over a training set, from its counts (`pooling_statistics.safetensors`)."""
    counts = Counts.load(path)
    return counts.of_entries([torch.arange(size) for size in counts.sizes])


# -------------------------------------------------------------------------------------------------- tables
def table(path: Path) -> DataFrame:
    """The rows of a table's JSON, one for each accuracy.

    Columns: ``source``, ``pooling``, ``task``, ``layer`` (a number, "learned", or "mean" for the mean over layers),
    ``accuracy`` and ``deviation`` in %, and ``low`` and ``high``, the ends of the 95 % interval; NaN for none.

    Raises:
        InputError: not a table that `vqpool benchmark` wrote.
    """
    from pandas import DataFrame

    wrong = InputError(f"{path}: not a table: give the .json that vqpool benchmark wrote.")
    content = parse_json(_text(path), str(path), "Give the .json that vqpool benchmark wrote.")
    try:
        rows = [each for row in content["rows"] for each in _accuracies(row)]
        found = DataFrame(rows).astype(dict.fromkeys(("accuracy", "deviation", "low", "high"), float))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise wrong from error
    return found


def _accuracies(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    layer = "mean" if row["layer"] is None else row["layer"]
    if not isinstance(layer, (int, str)) or not isinstance(row["pooling"], str):
        raise TypeError
    for task, accuracy in row["accuracy"].items():
        low, high = (row.get("interval") or {}).get(task) or (None, None)
        yield {
            "source": str(row["source"]),
            "pooling": row["pooling"],
            "task": task,
            "layer": layer,
            "accuracy": accuracy,
            "deviation": row["deviation"].get(task),
            "low": low,
            "high": high,
        }


def answers(
    path: Path, task: str | None = None, poolings: Sequence[str] | None = None, slot: str | None = None
) -> dict[str, tuple[list[str], list[str]]]:
    """By pooling, labels and predictions of a task's test utterances, all folds and seeds below each other.

    Args:
        path: `STEM.predictions.csv` of `vqpool benchmark`.
        task: may be None where the file has one.
        poolings: as ``task``.
        slot: of a label with several slots; None for the whole label.

    Raises:
        InputError: not such a file, or a task, pooling or slot that is not in it, or is not told.
    """
    frame = predictions.read(path)
    frame = frame[frame["task"].isin(_chosen(path, "task", task and [task], frame["task"]))]
    if slot is not None:
        slots = frame["slots"].iloc[0].split(SEPARATOR)
        if slot not in slots:
            raise unknown_name(f"slot in {path}:", slot, [each for each in slots if each] or ["none"])
        for column in ("label", "predicted"):
            parts = frame[column].str.split(SEPARATOR, regex=False)
            frame = frame.assign(**{column: parts.str[slots.index(slot)]})
    names = _chosen(path, "poolings", poolings, frame["pooling"])
    rows = {name: frame[frame["pooling"] == name] for name in names}
    return {name: (each["label"].tolist(), each["predicted"].tolist()) for name, each in rows.items()}


def _chosen(path: Path, option: str, given: Sequence[str] | None, column: Series) -> list[str]:
    """Those of a column's values that are ``given``; by default the only one."""
    there = list(column.unique())
    if given is None and len(there) > 1:
        raise InputError(f"{path}: has several: give --{option}, of {', '.join(there)}.")
    for name in given or ():
        if name not in there:
            raise unknown_name(f"--{option} in {path}:", name, there)
    return list(dict.fromkeys(given or there))


# --------------------------------------------------------------------------------------------- experiments
def log(folders: Sequence[Path]) -> DataFrame:
    """Accuracies of every experiment below ``folders``, from their `log.log`.

    Columns: ``experiment`` (its folder), ``pooling``, ``rate``, ``split``, ``step``, ``accuracy`` in %.

    Raises:
        InputError: no experiment there, or one without its config.
    """
    from pandas import DataFrame

    rows = []
    for folder in folders:
        logs = sorted(folder.rglob("log.log"))
        if not logs:
            raise InputError(f"{folder}: no log.log below it: give an experiment, or vqpool train's -p.")
        for path in logs:
            name, rate = _trained(path.parent)
            for split, step, accuracy in _LINE.findall(_text(path)):
                place = {"experiment": str(path.parent), "pooling": name, "rate": rate, "split": split}
                rows.append({**place, "step": int(step), "accuracy": 100 * _number(accuracy, path)})
    if not rows:
        raise InputError(f"{folders[0]}: its logs hold no accuracy yet: wait for the first evaluation.")
    return DataFrame(rows)


def _trained(folder: Path) -> tuple[str, float]:
    """Pooling and learning rate of an experiment, from the config that it was begun with."""
    configs = sorted(folder.glob("config_*.yaml"))
    if not configs:
        raise InputError(f"{folder}: has a log.log but no config_*.yaml: give the experiment's own folder.")
    config = parse_yaml(_text(configs[0]), str(configs[0]))
    try:
        name = config["downstream_expert"]["modelrc"]["pooling"]
        return str(name), float(config["optimizer"]["lr"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{configs[0]}: names no pooling, or no learning rate (optimizer.lr).") from error


def _number(text: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{path}: {text!r} is no accuracy.") from error


def layer_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Learned weights float [layers] of experiments, by a name that tells them apart.

    Raises:
        InputError: not a checkpoint of an experiment, or one whose upstream has a single layer.
    """
    found: dict[str, Tensor] = {}
    for path in paths:
        state = checkpoints.load(path, required=("Featurizer", "Config"))
        parameter = state["Featurizer"].get("weights") if isinstance(state["Featurizer"], dict) else None
        if not isinstance(parameter, Tensor) or parameter.ndim != 1:
            raise InputError(f"{path}: has no weights of layers: its upstream has one, or -l chose one.")
        found[_name(path, state["Config"], found)] = parameter.detach().float().softmax(dim=0)
    return found


def _name(path: Path, config: Any, taken: Mapping[str, Tensor]) -> str:
    """Downstream's pooling and the folder; the whole path where that is taken."""
    section = config.get("downstream_expert") if isinstance(config, dict) else None
    modelrc = section.get("modelrc") if isinstance(section, dict) else None
    name = modelrc.get("pooling") if isinstance(modelrc, dict) else None
    short = f"{name}, {path.parent.name}" if name else path.parent.name
    return str(path) if short in taken else short


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8.") from error
