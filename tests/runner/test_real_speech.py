"""The four tasks on real speech, through run_downstream.py: trains, evaluates, and learns.

Each accuracy is held against chance for that test set: what the best constant answer gets (KS 0.09, SID 0.03,
ER 0.29; IC 0.04, which so few steps over MFCC do not beat: there only the numbers are checked).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s3prl_vqpool import checkpoints as files

#: task: steps, utterances per step, learning rate, how many times chance the test accuracy has to be.
QUICK = {
    "ks": (40, 32, 3e-3, 1.5),
    "sid": (60, 32, 1e-2, 3.0),
    "ic": (12, 16, 3e-3, 0.0),
    "er": (40, 16, 3e-3, 1.1),
}


def accuracies(expdir: Path, split: str) -> dict[int, float]:
    lines = re.findall(rf"^{split} at step (\d+): (\S+)$", (expdir / "log.log").read_text(), re.M)
    return {int(step): float(accuracy) for step, accuracy in lines}


@pytest.mark.parametrize("task", QUICK)
def test_real_speech_trains_above_chance_and_evaluates_as_logged(
    task: str, real: dict, run: Any, options: Any, tmp_path: Path
) -> None:
    steps, batch, rate, times_chance = QUICK[task]
    sizes = {"batch_size": batch} if task == "ks" else {"train_batch_size": batch, "eval_batch_size": 32}
    extra = {"er": {"pre_load": True}, "sid": {"max_timestep": 32000}}.get(task, {})
    runner = {"total_steps": steps, "eval_step": steps // 2, "save_step": steps // 2, "log_step": steps // 2}
    given = options({**real[task], **sizes, **extra, "num_workers": 1}, gradient_accumulate_steps=1, **runner)
    given[1] += f",,config.optimizer.lr={rate}"
    expdir = tmp_path / "exp"
    run("-m", "train", "-p", expdir, "-u", "mfcc_vq", "-d", f"vqpool_{task}", *given).ok()

    dev, test = accuracies(expdir, "dev"), accuracies(expdir, "test")
    assert list(dev) == list(test) == [steps // 2, steps]
    kept = expdir / ("dev-best.ckpt" if max(dev.values()) > 0 else f"states-{steps}.ckpt")
    state = files.load(kept)
    assert dev[state["Step"]] == max(dev.values())
    run("-m", "evaluate", "-e", kept).ok()
    assert accuracies(expdir, "test")[0] == test[state["Step"]]
    (truth,) = expdir.glob("test*_truth.*")
    labels = Counter(re.split("[ ,]", line, maxsplit=1)[1] for line in truth.read_text().splitlines())
    chance = max(labels.values()) / labels.total()
    print(f"{task}: chance {chance:.3f}, dev {dev}, test {test}")
    assert test[state["Step"]] >= times_chance * chance
