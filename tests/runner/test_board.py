"""What TensorBoard gets beside the averages."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import confusion_matrix
from torch import nn

from s3prl_vqpool import cli
from s3prl_vqpool.runner import board
from s3prl_vqpool.runner.board import Board, log_confusion

CONFIG = {
    "optimizer": {"name": "TorchOptim", "lr": 0.01},
    "downstream_expert": {"modelrc": {"pooling": "VQ-LP", "projector_dim": 8, "pooling_options": None}},
    "runner": {"total_steps": 5, "gradient_accumulate_steps": 1, "eval_step": 2},
}


class Logger:
    """Keeps what it is given."""

    def __init__(self, *_: Any) -> None:
        self.scalars: dict[tuple[str, int], float] = {}
        self.figures: dict[tuple[str, int], Any] = {}
        self.summaries: list[Any] = []
        self.file_writer = self

    def add_scalar(self, tag: str, value: float, global_step: int) -> None:
        self.scalars[tag, global_step] = value

    def add_figure(self, tag: str, figure: Any, global_step: int) -> None:
        self.figures[tag, global_step] = figure

    def add_summary(self, summary: Any) -> None:
        self.summaries.append(summary)

    def close(self) -> None:
        pass


@pytest.fixture
def begun() -> Board:
    featurizer = nn.Module()
    featurizer.weights = nn.Parameter(torch.tensor([0.0, 1.0, 3.0]))
    optimizer = torch.optim.SGD(featurizer.parameters(), lr=0.5)
    args = argparse.Namespace(upstream="mfcc_vq", downstream="vqpool_ks", seed=7)
    return Board(args, CONFIG, optimizer, featurizer)


def test_training_logs_the_present_rate_and_layer_weights(begun: Board) -> None:
    logger = Logger()
    begun.log_training(logger, "ks", 10)
    begun.optimizer.param_groups[0]["lr"] = 0.25
    begun.log_training(logger, "ks", 20)
    assert logger.scalars["ks/learning-rate", 10] == 0.5
    assert logger.scalars["ks/learning-rate", 20] == 0.25
    weights = [logger.scalars[f"ks/layer-weight/{layer}", 10] for layer in range(3)]
    assert weights == pytest.approx(softmax([0.0, 1.0, 3.0]).tolist())


def test_hparams_are_logged_once_with_dev_as_metric(begun: Board) -> None:
    logger = Logger()
    for step in (1, 2):
        begun.log_training(logger, "ks", step)
    assert len(logger.summaries) == 3
    said = "".join(map(str, logger.summaries))
    for word in ("ks/dev-acc", "modelrc.pooling", "VQ-LP", "optimizer.lr", "mfcc_vq"):
        assert word in said


def test_confusion_has_an_image_for_each_readable_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, generator = Logger(), np.random.default_rng(0)
    monkeypatch.setattr(board, "MOST_CLASSES", 3)
    classes = (("_a_", "b", "$x^$"), ("p", "q"), ("1", "2", "3", "4"))
    truth, predicted = (
        [tuple(str(generator.choice(names)) for names in classes) for _ in range(40)] for _ in range(2)
    )
    log_confusion(logger, "ic/dev", 3, {"truth": truth, "predict": predicted}, classes)
    assert list(logger.figures) == [("ic/dev-confusion-0", 3), ("ic/dev-confusion-1", 3)]
    for slot, figure in enumerate(logger.figures.values()):
        pair = ([each[slot] for each in side] for side in (truth, predicted))
        expected = confusion_matrix(*pair, labels=list(classes[slot]), normalize="true")
        np.testing.assert_allclose(figure.axes[0].images[0].get_array(), expected)
        figure.canvas.draw()


def test_without_matplotlib_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = Logger()
    monkeypatch.setattr(board.importlib.util, "find_spec", lambda name: None)
    log_confusion(logger, "ks/dev", 1, {"truth": [("a",)], "predict": [("a",)]}, (("a", "b"),))
    assert not logger.figures


def test_heads_on_a_store_log_the_evaluation_that_dev_chose(
    extracted: Any, synthetic: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorboardX

    loggers: list[Logger] = []
    monkeypatch.setattr(tensorboardX, "SummaryWriter", lambda *_: loggers.append(Logger()) or loggers[-1])
    steps = "config.runner.total_steps=4,,config.runner.eval_step=2,,config.runner.log_step=2"
    command = ["train", "-d", "vqpool_ks", "--store", extracted("mfcc", "ks")[1], "--lr", "0.5", "0.25"]
    assert cli.main([*map(str, command), "--poolings", "VQ-LP", "-p", str(tmp_path), "-o", steps]) == 0
    assert [logger.scalars["speech_commands/learning-rate", 2] for logger in loggers] == [0.5, 0.25]
    for logger in loggers:
        accuracy = {step: logger.scalars["speech_commands/dev-acc", step] for step in (2, 4)}
        best = max(accuracy, key=accuracy.get)  # the first of equals
        assert set(logger.figures) == {
            (f"speech_commands/{split}-confusion", best) for split in ("dev", "test")
        }
