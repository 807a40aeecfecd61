"""Two runs of run_downstream.py in one folder: the second is refused, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3prl_vqpool.files import alone

STEPS = {"total_steps": 4, "eval_step": 2, "save_step": 2, "gradient_accumulate_steps": 1}


def test_a_second_run_in_a_folder_is_refused(
    run: Any, elsewhere: Any, options: Any, synthetic: dict, tmp_path: Path
) -> None:
    expdir = tmp_path / "exp"
    datarc = {"num_workers": 0, "batch_size": 16, **synthetic["ks"]}
    anew = ["-p", expdir, "-u", "mfcc_vq", "-d", "vqpool_ks", *options(datarc, **STEPS)]
    run("-m", "train", *anew).ok()
    first = elsewhere(lambda: alone(expdir))
    before = {path: path.stat().st_mtime_ns for path in expdir.iterdir()}
    for argv in (
        ["-m", "train", "-e", expdir],
        ["-m", "train", "-a", *anew],
        ["-m", "evaluate", "-e", expdir / "dev-best.ckpt"],
    ):
        assert run(*argv).error.startswith(f"{expdir}: process {first.pid} on ")
        assert {path: path.stat().st_mtime_ns for path in expdir.iterdir()} == before
    other = tmp_path / "other"
    run("-m", "evaluate", "-e", expdir / "dev-best.ckpt", "-o", f"args.expdir={other}").ok()
    assert (other / "test_predict.txt").is_file()
