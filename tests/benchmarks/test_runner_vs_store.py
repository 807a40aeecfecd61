"""The random store of benchmarks/runner_vs_store.py trains heads like any other."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "benchmarks")]

import runner_vs_store  # noqa: E402

from s3prl_vqpool.corpora.synthetic.record import synthesise  # noqa: E402
from s3prl_vqpool.runner import plugin  # noqa: E402
from s3prl_vqpool.runner.config import read  # noqa: E402
from s3prl_vqpool.trainer import train  # noqa: E402


def test_heads_train_on_random_vectors(tmp_path: Path) -> None:
    plugin.register()
    config = read(runner_vs_store.TASK, None, None)
    config["downstream_expert"]["datarc"].update(synthesise(tmp_path, ["ks"])["ks"], num_workers=0)
    store = runner_vs_store.RandomStore(config)
    short = runner_vs_store.with_runner(config, total_steps=3, eval_step=3)
    (run,) = train(store, runner_vs_store.TASK, short, ["VQ-LP"], [1e-3], tmp_path / "heads", 0)
    assert 0 <= runner_vs_store.accuracy(run.folder) <= 1
