"""What TensorBoard gets beside S3PRL's averages: learning rate, weights of the layers, hparams, confusion matrices."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 60
"""A confusion matrix of more classes cannot be read, and is left out."""


class Board:
    """Writes to the logger of one experiment.

    Args:
        args: of the experiment, as S3PRL's runner has them.
        config: as ``args``.
        featurizer: S3PRL's; its ``weights`` are those of the layers, before the softmax.
    """

    def __init__(
        self, args: argparse.Namespace, config: Mapping[str, Any], optimizer: Optimizer, featurizer: nn.Module
    ) -> None:
        self.hparams = _hparams(args, config)
        self.optimizer, self.featurizer = optimizer, featurizer
        self._begun = False

    def log_training(self, logger: Any, prefix: str, step: int) -> None:
        """Learning rate and weights of the layers; at the first call also hparams, with dev's accuracy as metric."""
        if not self._begun:
            from tensorboardX.summary import hparams

            for summary in hparams(self.hparams, {f"{prefix}/dev-acc": 0.0}):
                logger.file_writer.add_summary(summary)
            self._begun = True
        rate = self.optimizer.param_groups[0]["lr"]
        logger.add_scalar(f"{prefix}/learning-rate", rate, global_step=step)
        weights = getattr(self.featurizer, "weights", None)
        for layer, weight in enumerate(weights.softmax(dim=-1).tolist() if weights is not None else ()):
            logger.add_scalar(f"{prefix}/layer-weight/{layer}", weight, global_step=step)


def log_confusion(
    logger: Any, tag: str, step: int, records: Mapping[str, list], classes: Sequence[Sequence[str]]
) -> None:
    """A confusion matrix for each slot as an image, where matplotlib is there and `MOST_CLASSES` are enough.

    Args:
        records: with ``truth`` and ``predict``, a class name per slot for each utterance.
        classes: names per slot.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return
    for slot, names in enumerate(classes):
        if len(names) <= MOST_CLASSES:
            truth, predicted = ([each[slot] for each in records[kind]] for kind in ("truth", "predict"))
            place = f"{tag}-confusion" + (f"-{slot}" if len(classes) > 1 else "")
            logger.add_figure(place, confusion(truth, predicted, names), global_step=step)


def confusion(truth: Sequence[str], predicted: Sequence[str], names: Sequence[str]) -> Figure:
    """Row by row, the share of a class's utterances that got each prediction."""
    from matplotlib.figure import Figure
    from sklearn.metrics import confusion_matrix

    side = 2 + 0.15 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(
        confusion_matrix(truth, predicted, labels=list(names), normalize="true"), "Blues", vmin=0, vmax=1
    )
    axes.set_xticks(range(len(names)), labels=names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), labels=names, fontsize=7, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def _hparams(args: argparse.Namespace, config: Mapping[str, Any]) -> dict[str, Any]:
    """What experiments differ in: numbers and names of the optimizer, the head and the runner."""
    found = {key: getattr(args, key) for key in ("upstream", "downstream", "seed")}
    sections = {
        "optimizer": config["optimizer"],
        "modelrc": config["downstream_expert"].get("modelrc", {}),
        "runner": {key: config["runner"].get(key) for key in ("total_steps", "gradient_accumulate_steps")},
    }
    for name, section in sections.items():
        found.update({f"{name}.{key}": value for key, value in section.items()})
    return {key: value for key, value in found.items() if isinstance(value, (int, float, str))}
