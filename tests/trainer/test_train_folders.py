"""`vqpool train` in a folder that holds heads: finished ones, ones that the runner evaluated, other ones."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training import SECTION, Config, one_line, state_of, train

from s3prl_vqpool.files import alone
from s3prl_vqpool.store import Store
from s3prl_vqpool.trainer import loop
from s3prl_vqpool.trainer.runs import best, groups


@pytest.mark.parametrize("save_step", [20, 250])
def test_train_adds_heads_and_leaves_finished_ones(
    save_step: int, ic: Any, config: Config, tmp_path: Path
) -> None:
    _, folder = ic("mfcc")
    file = config(total_steps=20, save_step=save_step)
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2") == 0
    first = tmp_path / "exp" / "VQ-LP" / "lr=1e-2"
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert train(folder, file, tmp_path / "exp", "--lr", "0.01", "1e-3") == 0
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert state_of(tmp_path / "exp" / "VQ-LP" / "lr=1e-3", "states-20.ckpt")["Step"] == 20


def test_train_goes_on_in_a_folder_that_the_runner_evaluated_in(
    ic: Any, config: Config, run: Any, tmp_path: Path, capsys: Any
) -> None:
    """The runner leaves a config of its own there, and lines of dev in the log."""
    _, folder = ic("mfcc")
    file = config(total_steps=20)
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2") == 0
    printed = capsys.readouterr().out.splitlines()[0]
    head = tmp_path / "exp" / "VQ-LP" / "lr=1e-2"
    time.sleep(1)  # the config's name is the second that it was written in
    options = ["-t", "dev", "-o", f"{SECTION}.eval_batch_size=2"]
    run("-m", "evaluate", "-e", head / "dev-best.ckpt", *options).ok()
    assert len(list(head.glob("config_*.yaml"))) == 2
    assert "dev at step 0: " in (head / "log.log").read_text()
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2", "1e-3") == 0
    assert capsys.readouterr().out.splitlines()[0] == printed
    assert (head.parent / "lr=1e-3" / "states-20.ckpt").is_file()


def test_train_takes_a_whole_number_as_rate(ic: Any, config: Config, tmp_path: Path) -> None:
    file = config({"lr": 1}, total_steps=1)
    assert train(ic("mfcc")[1], file, tmp_path) == 0
    assert state_of(tmp_path / "VQ-LP" / "lr=1e+0", "states-1.ckpt")["Config"]["optimizer"]["lr"] == 1


def test_steps_are_counted_from_where_training_goes_on(
    ic: Any, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    class Count:
        def __init__(self, _name: str, total: float, _unit: str) -> None:
            told.append(total)

        def __enter__(self) -> Count:
            return self

        def __exit__(self, *_: object) -> None:
            told.append("closed")

        def advance(self) -> None:
            told.append("step")

    monkeypatch.setattr(loop, "Progress", Count)
    assert train(ic("mfcc")[1], config(total_steps=5, save_step=2), tmp_path) == 0
    assert told == [5, *["step"] * 5, "closed"]
    told.clear()
    (tmp_path / "VQ-LP" / "lr=1e-4" / "states-5.ckpt").unlink()
    assert train(ic("mfcc")[1], config(total_steps=5, save_step=2), tmp_path) == 0
    assert told == [1, "step", "closed"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["train at step 5: 0.9"], None),
        (["dev at step 10: 0.0", "test at step 10: 0.25", "dev at step 20: 0.0"], (10, 0.0, 0.25)),
        (
            [
                *("dev at step 10: 0.5370370370370369", "New best on dev at step 10: 0.5370370370370369"),
                *("test at step 10: 0.25", "dev at step 20: 0.537037037037037", "test at step 20: 0.5"),
                *("dev at step 0: 0.6", "New best on dev at step 0: 0.6", "test at step 0: 0.7"),
            ],
            (10, 0.5370370370370369, 0.25),
        ),
    ],
)
def test_best_is_that_of_the_checkpoint(lines: list[str], found: Any, tmp_path: Path) -> None:
    """Which the expert chooses in float32, and `-m evaluate` leaves as it is."""
    (tmp_path / "log.log").write_text("\n".join([*lines, ""]))
    assert best(SimpleNamespace(folder=tmp_path)) == found


def test_train_refuses_a_folder_of_another_configuration(
    ic: Any, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = ic("mfcc")
    file = config(total_steps=1)
    assert train(folder, file, tmp_path / "exp") == 0
    for store, options, named in (
        (folder, ["--seed", "1"], "seed 1337, but now it is 1"),
        (folder, ["-o", f"{SECTION}.train_batch_size=4"], "train_batch_size 3, but now it is 4"),
        (
            folder,
            ["-o", "config.optimizer.weight_decay=0.1"],
            "optimizer.weight_decay None, but now it is 0.1",
        ),
        (folder, ["-o", "config.scheduler.name=constant"], "scheduler.name None, but now it is 'constant'"),
        (ic("large")[1], [], "upstream 'mfcc_vq', but now it is 'wav2vec2_vq_local'"),
    ):
        capsys.readouterr()
        assert train(store, file, tmp_path / "exp", *options) == 2
        assert named in one_line(capsys)


def test_train_refuses_a_head_that_another_process_trains(
    ic: Any, config: Config, tmp_path: Path, elsewhere: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = ic("mfcc")
    file, busy = config(total_steps=1), tmp_path / "exp" / "VQ-LP" / "lr=1e-3"
    first = elsewhere(lambda: alone(busy))
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2", "1e-3") == 2
    assert one_line(capsys).startswith(f"error: {busy}: process {first.pid} on ")
    assert list((tmp_path / "exp").rglob("*.*")) == [busy / ".lock"]
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2") == 0


def test_heads_continue_together_from_a_step_that_all_have(tmp_path: Path) -> None:
    """By hand: two at the end, two with 20 and 40 in common, one with nothing."""
    saved = {"a": [20, 100], "b": [100], "c": [20, 40], "d": [20, 40, 60]}
    runs = {}
    for name, steps in saved.items():
        folder = tmp_path / name
        folder.mkdir()
        for step in steps:
            (folder / f"states-{step}.ckpt").touch()
        runs[name] = SimpleNamespace(folder=folder, config={"runner": {"total_steps": 100}})
    a, b, c, d = runs.values()
    assert groups([a, b, c, d]) == {100: [a, b], 40: [c, d]}
    assert groups([a, b]) == {100: [a, b]}
    (tmp_path / "e").mkdir()
    e = SimpleNamespace(folder=tmp_path / "e", config=a.config)
    assert groups([c, d, e]) == {40: [c], 60: [d], 0: [e]}


@pytest.mark.parametrize(("short", "code"), [(0, 0), (1, 2)])
def test_vectors_must_fit_into_the_memory(
    short: int,
    code: int,
    ic: Any,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, folder = ic("mfcc")
    store = Store.open(folder)
    first = store.vectors("VQ-LP", [0])  # [1, layers, D]
    needed = len(store.utterances) * first.numel() * first.element_size()
    memory = {"SC_PHYS_PAGES": needed - short, "SC_PAGE_SIZE": 1}
    monkeypatch.setattr("os.sysconf", lambda name, real=os.sysconf: memory.get(name) or real(name))
    capsys.readouterr()  # what extraction has said
    assert train(folder, config(total_steps=2), tmp_path / "exp") == code
    if code:
        assert "this machine has" in one_line(capsys)


def test_train_keeps_as_many_checkpoints_as_the_config_says(ic: Any, config: Config, tmp_path: Path) -> None:
    _, folder = ic("mfcc")
    file = config(total_steps=9, save_step=2, max_keep=3)
    assert train(folder, file, tmp_path / "exp", "--lr", "1e-2", "1e-3") == 0
    for rate in ("1e-2", "1e-3"):
        kept = (tmp_path / "exp" / "VQ-LP" / f"lr={rate}").glob("states-*.ckpt")
        assert sorted(path.name for path in kept) == ["states-6.ckpt", "states-8.ckpt", "states-9.ckpt"]
