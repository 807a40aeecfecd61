"""Mistakes at `vqpool train`: one line on stderr, exit code 2, no folder left behind."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from training import Config, one_line, train

from s3prl_vqpool import cli


def test_train_refuses_vectors_with_another_folds_statistics(
    extracted: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, store = extracted("mfcc", "er")
    folder = tmp_path / "store"
    shutil.copytree(store, folder)
    assert cli.main(["store", "add-pooling", str(folder), "VQ-GP"]) == 0
    command = [
        "train",
        "-d",
        "vqpool_er",
        "--store",
        str(folder),
        "--poolings",
        "VQ-GP",
        "-p",
        str(tmp_path / "exp"),
    ]
    capsys.readouterr()
    assert cli.main([*command, "-o", "config.downstream_expert.datarc.test_fold=fold3"]) == 2
    assert "its VQ-GP is of fold1, not of fold3" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--poolings", "VQ-LPP"], "Did you mean VQ-LP"),
        (["--poolings", "VQ-SIF"], "'VQ-SIF'"),
        (["--poolings", "Whitening"], "a map is fitted where"),
        (["--poolings", "VQ-Squash-AND"], "'VQ-Squash-AND'"),
        (["--lr", "0"], "--lr: expected a number above 0, but got 0.0"),
        (["--lr", "nan"], "--lr: expected a number above 0, but got nan"),
        (["--store", "nothing"], "vqpool extract"),
        (["-d", "vqpool_ks"], "extracted for vqpool_ic"),
        (["-d", "vqpool_kss"], "Did you mean vqpool_ks"),
        (["-c", "nothing.yaml"], "nothing.yaml"),
        (["-o", "config.optimizer.torch_optim_name=Adamm"], "Adamm"),
        (["-o", "config.optimizer.beta=1"], "beta"),
        (["-o", "config.runner.total_steps=0"], "total_steps"),
        (["-o", "config.runner.gradient_clipping=no"], "gradient_clipping"),
        (["-o", "config.runner.eval_dataloaders=['tset']"], "Did you mean test"),
        (["-o", "config.runner.fp16=True"], "fp16"),
        (["-o", "config.specaug.apply_time_mask=True"], "specaug"),
        (["-o", "config.scheduler.name=nothing"], "nothing"),
        (["-o", "config.downstream_expert.modelrc.pooling_options={'a': 1}"], "pooling_options"),
        (
            ["-o", "config.optimizer.lr='fast'"],
            "config.optimizer.lr: expected a number above 0, but got 'fast'",
        ),
        (
            ["-o", "config.runner.gradient_clipping='1'"],
            "config.runner.gradient_clipping: expected a number above 0, but got '1'",
        ),
        (["-o", "config.optimizer=None", "--lr", "1e-3"], "config.optimizer: expected a section"),
        (["-o", "config.optimizer.torch_optim_name=LBFGS"], "LBFGS"),
        (["-o", "config.downstream_expert=None"], "config.downstream_expert: expected a section"),
        (["-o", "config.downstream_expert={'datarc': {}}"], "config.downstream_expert has no 'modelrc'"),
        (
            ["-o", "config.runner.evaluate_ratio=all"],
            "config.runner.evaluate_ratio: expected a number above 0, but got 'all'",
        ),
        (["--seed", "99999999999999"], "--seed 99999999999999"),
        (["-p", __file__], "cannot be made a folder"),
    ],
)
def test_train_says_what_is_wrong_in_one_line(
    options: list[str], named: str, ic: Any, config: Config, tmp_path: Path, capsys: Any
) -> None:
    _, folder = ic("mfcc")
    file = config(total_steps=1)
    capsys.readouterr()
    assert train(folder, file, tmp_path / "exp", *options) == 2
    assert named in one_line(capsys)
    assert not (tmp_path / "exp").exists()
