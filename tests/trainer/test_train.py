"""`vqpool train`: against S3PRL's runner on the same utterances, and each head against itself alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.testing import assert_close
from training import SECTION, Config, state_of, train

from s3prl_vqpool import cli
from s3prl_vqpool.runner import plugin
from s3prl_vqpool.store import Store
from s3prl_vqpool.store.progress import innermost
from s3prl_vqpool.store.threads import torch_threads
from s3prl_vqpool.trainer import loop as trainer
from s3prl_vqpool.trainer.data import Data
from s3prl_vqpool.trainer.runs import name_of


def log_of(folder: Path) -> tuple[list[str], list[float]]:
    lines = (folder / "log.log").read_text().splitlines()
    number = re.compile(r"[\d.e-]+$")
    return [number.sub("", line) for line in lines], [float(number.search(line)[0]) for line in lines]


ALONE = f"{SECTION}.batch_size=1,,{SECTION}.num_workers=0"
ADAM = {"lr": 1e-3}
SGD = {"torch_optim_name": "SGD", "momentum": 0.9, "weight_decay": 1e-3, "lr": 1e-2}
WARMUP = {"name": "linear_schedule_with_warmup", "num_warmup_steps": 20}


@pytest.mark.parametrize(
    ("kind", "optimizer", "scheduler", "accumulate", "ratio"),
    [("large", ADAM, None, 1, 1), ("mfcc", SGD, WARMUP, 2, 0.3)],
)
def test_train_gives_the_runners_checkpoint_after_200_steps(
    kind: str, optimizer: dict, scheduler: dict | None, accumulate: int, ratio: float, ic: Any, config: Config,
    run: Any, build: Any, synthetic: dict, tmp_path: Path,
) -> None:  # fmt: skip
    """From the same initial parameters: those of the runner follow the upstream's own in the random stream."""
    upstream, folder = ic(kind)
    file = config(
        optimizer, scheduler, total_steps=200, save_step=200, eval_step=100, log_step=50,
        gradient_clipping=0.5, gradient_accumulate_steps=accumulate, evaluate_ratio=ratio,
    )  # fmt: skip
    manifest = Store.open(folder).manifest
    torch.manual_seed(1337)
    initial = {"Downstream": build("ic", synthetic["ic"], upstream_dim=manifest["dim"]).state_dict()}
    if manifest["layers"] > 1:
        initial["Featurizer"] = {"weights": torch.zeros(manifest["layers"])}
    torch.save(initial, tmp_path / "initial.ckpt")
    start = ["-i", tmp_path / "initial.ckpt", "-c", file, "-p", tmp_path / "runner"]
    run("-m", "train", *upstream, "-d", "vqpool_ic", *start).ok()
    assert train(folder, file, tmp_path / "ours") == 0
    ours = tmp_path / "ours" / "VQ-LP" / f"lr={name_of(optimizer['lr'])}"
    theirs = tmp_path / "runner"

    mine, other = state_of(ours, "states-200.ckpt"), state_of(theirs, "states-200.ckpt")
    assert mine.keys() == other.keys()
    for key in ("Featurizer", "Downstream"):
        assert_close(mine[key], other[key], atol=1e-4, rtol=0)
        for name in other[key] if key == "Downstream" else ():
            if name != "best_score":
                assert not torch.allclose(mine[key][name], initial[key][name], atol=1e-2)
    assert_close(mine["Optimizer"]["state"], other["Optimizer"]["state"], atol=1e-4, rtol=1e-3)
    assert mine["Optimizer"]["param_groups"] == other["Optimizer"]["param_groups"]
    assert (mine["Step"], mine["Epoch"]) == (other["Step"], other["Epoch"])
    assert mine.get("Scheduler", {}).get("last_epoch") == other.get("Scheduler", {}).get("last_epoch")
    assert vars(mine["Args"]).keys() == vars(other["Args"]).keys()
    assert {**mine["Config"], "store": None} == {**other["Config"], "store": None}
    assert log_of(ours)[0] == log_of(theirs)[0]
    assert log_of(ours)[1] == pytest.approx(log_of(theirs)[1], abs=1e-6)
    names = {path.name for path in theirs.glob("*.c*")} - {"train_predict.csv", "train_truth.csv"}
    assert {path.name for path in ours.glob("*.c*")} == names
    for split in ("dev", "test"):
        run("-m", "evaluate", "-e", theirs / "dev-best.ckpt", "-t", split).ok()
        assert (ours / f"{split}_predict.csv").read_text() == (theirs / f"{split}_predict.csv").read_text()

    run("-m", "train", "-e", ours, "-o", "config.runner.total_steps=202,,config.runner.save_step=1").ok()
    assert state_of(ours, "states-202.ckpt")["Step"] == 202


@pytest.mark.parametrize(("kind", "poolings"), [("mfcc", ["VQ-LP"]), ("large", ["VQ-LP", "mean"])])
def test_train_evaluates_from_audio_as_it_reported(
    kind: str, poolings: list[str], extracted: Any, run: Any, tmp_path: Path, capsys: Any
) -> None:
    _, folder = extracted(kind, "ks")
    command = ["train", "-d", "vqpool_ks", "--store", str(folder), "--poolings", *poolings, "--lr", "1e-2"]
    steps = "config.runner.total_steps=60,,config.runner.eval_step=60"
    assert cli.main([*command, "-o", steps, "-p", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.splitlines()[-len(poolings) - 2 : -2]
    assert [line.split()[0] for line in printed] == poolings
    for line in printed:
        best = Path(line.split()[-1])
        predictions = (best.parent / "test_predict.txt").read_text()
        assert len({each.split()[1] for each in predictions.splitlines()}) > 1
        (accuracy,) = re.findall(r"^test at step 60: (\S+)$", (best.parent / "log.log").read_text(), re.M)
        (best.parent / "test_predict.txt").unlink()
        ran = run("-m", "evaluate", "-e", best, "-o", ALONE).ok()
        assert f"test acc: {accuracy}\n" in ran.out
        assert f"test {float(accuracy):7.2%}" in line
        assert (best.parent / "test_predict.txt").read_text() == predictions


def test_predictions_are_those_of_the_best_checkpoint(
    ic: Any, config: Config, run: Any, tmp_path: Path, capsys: Any
) -> None:
    """Not of the last step, and neither after the heads have gone on."""
    _, folder = ic("mfcc")
    file = config(SGD, total_steps=40, eval_step=5, save_step=20)
    assert train(folder, file, tmp_path / "exp", "--lr", "1", "0.1") == 0
    lasting = 0
    for line in capsys.readouterr().out.splitlines()[-4:-2]:
        step, head = int(re.findall(r"step +(\d+)", line)[0]), Path(line.split()[-1]).parent
        assert state_of(head, "dev-best.ckpt")["Step"] == step
        predictions, truth = ((head / f"test_{kind}.csv").read_text() for kind in ("predict", "truth"))
        right = [a == b for a, b in zip(predictions.splitlines(), truth.splitlines())]
        logged = dict(re.findall(r"^test at step (\d+): (\S+)$", (head / "log.log").read_text(), re.M))
        assert sum(right) / len(right) == pytest.approx(float(logged[str(step)]))
        lasting += logged[str(step)] != logged["40"]
        assert json.loads((head / "test_provenance.json").read_text())["step"] == step
        run("-m", "evaluate", "-e", head / "dev-best.ckpt", "-o", f"{SECTION}.eval_batch_size=1").ok()
        assert (head / "test_predict.csv").read_text() == predictions
    assert lasting  # another step's would have been told apart


def test_predictions_without_dev_are_the_latest(ic: Any, config: Config, tmp_path: Path) -> None:
    file = config(SGD, total_steps=10, eval_step=5, eval_dataloaders=["test"])
    assert train(ic("mfcc")[1], file, tmp_path, "--lr", "1") == 0
    head = tmp_path / "VQ-LP" / "lr=1e+0"
    assert json.loads((head / "test_provenance.json").read_text())["step"] == 10
    assert not (head / "dev_predict.csv").exists()


def test_steps_are_counted_for_whoever_asks_how_far_it_is(
    ic: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `vqpool reproduce` does every minute; asked here before each checkpoint is written."""
    told: set[tuple[str, float, float, str]] = set()
    real = trainer.write

    def write(*args: Any) -> None:
        counted = innermost()
        assert counted
        told.add((counted.name, counted.done, counted.total, counted.unit))
        real(*args)

    monkeypatch.setattr(trainer, "write", write)
    file = config(SGD, total_steps=10, eval_step=5, save_step=5)
    assert train(ic("mfcc")[1], file, tmp_path, "--lr", "1") == 0
    assert told == {("training", 4, 10, "step"), ("training", 9, 10, "step")}
    assert innermost() is None


def test_train_on_added_poolings_evaluates_from_audio_as_it_reported(
    extracted: Any, run: Any, tmp_path: Path
) -> None:
    _, store = extracted("large", "ks")
    folder = tmp_path / "store"
    shutil.copytree(store, folder)
    assert cli.main(["store", "add-pooling", str(folder), "VQ-BP", "VQ-SIF", "--option", "a=1e-2"]) == 0
    poolings = ("VQ-BP", "VQ-SIF", "VQ-LP")
    command = ["train", "-d", "vqpool_ks", "--store", str(folder), "--lr", "1e-2", "--poolings", *poolings]
    steps = "config.runner.total_steps=60,,config.runner.eval_step=60"
    assert cli.main([*command, "-o", steps, "-p", str(tmp_path / "exp")]) == 0
    weights = []
    for name in poolings:
        head = tmp_path / "exp" / name / "lr=1e-2"
        predictions = (head / "test_predict.txt").read_text()
        (accuracy,) = re.findall(r"^test at step 60: (\S+)$", (head / "log.log").read_text(), re.M)
        ran = run("-m", "evaluate", "-e", head / "dev-best.ckpt", "-o", ALONE).ok()
        assert f"test acc: {accuracy}\n" in ran.out
        assert (head / "test_predict.txt").read_text() == predictions
        weights.append(state_of(head, "dev-best.ckpt")["Downstream"]["projector.weight"])
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


def test_train_heads_together_equal_heads_alone(ic: Any, config: Config, tmp_path: Path) -> None:
    _, folder = ic("large")
    file = config(total_steps=40, gradient_clipping=0.1)
    assert train(folder, file, tmp_path / "all", "--poolings", "VQ-LP", "mean", "--lr", "1e-2", "1e-3") == 0
    for pooling in ("VQ-LP", "mean"):
        for rate in ("1e-2", "1e-3"):
            assert train(folder, file, tmp_path / "one", "--poolings", pooling, "--lr", rate) == 0
            name = f"{pooling}/lr={rate}/states-40.ckpt"
            together, alone = state_of(tmp_path / "all", name), state_of(tmp_path / "one", name)
            for key in ("Featurizer", "Downstream"):
                assert_close(together[key], alone[key], atol=1e-6, rtol=1e-6)
    assert not torch.equal(
        state_of(tmp_path / "all", "mean/lr=1e-3/states-40.ckpt")["Featurizer"]["weights"],
        state_of(tmp_path / "all", "VQ-LP/lr=1e-3/states-40.ckpt")["Featurizer"]["weights"],
    )


def test_train_on_two_threads_gives_the_same_heads_as_on_one(ic: Any, config: Config, tmp_path: Path) -> None:
    """The poolings' heads are trained side by side then, each with one thread for its products."""
    _, folder = ic("large")
    file = config(total_steps=40)
    for threads in (1, 2):
        with torch_threads(threads):
            assert train(folder, file, tmp_path / str(threads), "--poolings", "VQ-LP", "mean") == 0
    for pooling in ("VQ-LP", "mean"):
        one, two = (next((tmp_path / threads / pooling).iterdir()) for threads in "12")
        states = [state_of(each, "states-40.ckpt") for each in (one, two)]
        assert_close(states[1]["Downstream"], states[0]["Downstream"], atol=0, rtol=0)
        assert (two / "log.log").read_text() == (one / "log.log").read_text()


@pytest.mark.parametrize(("killed_at", "accumulate"), [(1, 1), (8, 1), (8, 2)])
def test_train_resumed_after_sigkill_equals_uninterrupted(
    killed_at: int, accumulate: int, ic: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the checkpoint ``killed_at`` is written: some heads are a step ahead of the others then."""
    _, folder = ic("large")
    file = config(total_steps=60, max_keep=1, gradient_accumulate_steps=accumulate)
    options = ["--poolings", "VQ-LP", "mean", "--lr", "1e-2", "1e-3"]
    written = 0

    def write(*args: Any) -> None:
        nonlocal written
        written += 1
        if written == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)

    real = trainer.write
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "write", write)
        work = lambda: os._exit(train(folder, file, tmp_path / "killed", *options))  # noqa: E731
        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert train(folder, file, tmp_path / "killed", *options) == 0
    assert train(folder, file, tmp_path / "whole", *options) == 0
    whole = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").glob("*/*/*.c*")}
    assert len(whole) >= 4 * 5
    for path in whole:
        one, other = tmp_path / "whole" / path, tmp_path / "killed" / path
        if path.suffix == ".csv":
            assert other.read_text() == one.read_text()
        else:
            before, after = (state_of(each.parent, each.name) for each in (one, other))
            for key in ("Featurizer", "Downstream"):
                assert_close(after[key], before[key], atol=0, rtol=0)
            assert (after["Step"], after["Epoch"]) == (before["Step"], before["Epoch"])
    for path in (tmp_path / "whole").glob("*/*/log.log"):
        assert (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_text() == path.read_text()


def test_train_without_config_takes_the_stores_corpus_and_nothing_else(
    ic: Any, synthetic: dict, tmp_path: Path
) -> None:
    """What a machine's extraction was given to read audio with says nothing of how heads are trained."""
    folder = tmp_path / "store"
    shutil.copytree(ic("mfcc")[1], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["datarc"].update(train_batch_size=3, eval_batch_size=5)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    command = ["train", "-d", "vqpool_ic", "--store", str(folder), "-p", str(tmp_path / "exp")]
    assert cli.main([*command, "-o", "config.runner.total_steps=2"]) == 0
    made = state_of(tmp_path / "exp" / "VQ-LP" / "lr=1e-4", "states-2.ckpt")["Config"]
    default = yaml.safe_load(plugin.default_config("vqpool_ic").read_text())
    expected = {**default["downstream_expert"]["datarc"], "file_path": str(synthetic["ic"]["file_path"])}
    assert made["downstream_expert"]["datarc"] == expected
    assert made["optimizer"] == default["optimizer"]


def test_train_draws_every_second_of_silence_by_seed_and_epoch(
    build: Any, synthetic: dict, extracted: Any
) -> None:
    store = Store.open(extracted("mfcc", "ks")[1])
    expert = build("ks", {**synthetic["ks"], "batch_size": 8})
    data, again = (Data(store, expert, ["VQ-LP"], ["train", "test"], seed=3) for _ in range(2))
    taken = data.batches(0)
    batches = [next(taken) for _ in range(40 * data.batches_per_epoch)]
    later = again.batches(11)
    assert [next(later) for _ in range(30)] == batches[11:41]
    for epoch in range(
        5
    ):  # the draws of an epoch are those of a generator of (seed, epoch), and nothing else's
        generator = torch.Generator().manual_seed(2**40 + 3 * 1_000_003 + epoch)
        for number, indices, rows in batches[epoch * data.batches_per_epoch :][: data.batches_per_epoch]:
            assert number == epoch
            for index, row in zip(indices, rows):
                path = data.splits["train"][index].path.resolve()
                windows = [row for row, u in enumerate(store.utterances) if u.path == path]
                if len(windows) > 1:
                    windows = [windows[int(torch.randint(len(windows), (), generator=generator))]]
                assert row == windows[0]
    drawn: dict[int, set[int]] = {}
    for _, indices, rows in batches:
        for index, row in zip(indices, rows):
            drawn.setdefault(index, set()).add(row)
    for index, utterance in enumerate(data.splits["train"]):
        same_file = {row for row, u in enumerate(store.utterances) if u.path == utterance.path.resolve()}
        if utterance.id in {u.id for u in expert.corpus.splits["train"] if u.frames}:
            assert len(same_file) > 1
        assert drawn[index] == same_file
