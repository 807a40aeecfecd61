"""The installed wheel, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import s3prl_vqpool  # noqa: F401  (makes s3prl importable)
from s3prl_vqpool import checkpoints as files

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package installed from a wheel, into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    kept_out = shutil.ignore_patterns(
        ".*", "build", "dist", "demo", "result", "tests", "*.egg-info", "__pycache__"
    )
    source = shutil.copytree(ROOT, folder / "source", ignore=kept_out)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*pip, "wheel", source, "-w", folder, *offline], check=True, capture_output=True, text=True
    )
    (built,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", built, "--target", folder / "site", "--no-deps", "--no-index"], check=True
    )
    shutil.rmtree(source)
    return folder / "site"


def test_a_wheel_needs_no_checkout(wheel: Path, options: Any, synthetic: dict, tmp_path: Path) -> None:
    """The installed script trains with its default config, and the codebooks, from anywhere."""
    given = options({**synthetic["er"], "num_workers": 0}, total_steps=8, eval_step=8, save_step=8)
    env = {**os.environ, "PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, wheel / "bin" / "run_downstream.py"]
    command = [*script, "-m", "train", "-n", "er", "-u", "mfcc_vq", "-d", "vqpool_er", *given]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expdir = tmp_path / "result" / "downstream" / "er"
    assert "test at step 8: " in (expdir / "log.log").read_text()
    assert str(wheel) in files.load(expdir / "states-8.ckpt")["Args"].config
    assert {path.name for path in wheel.iterdir() if path.name[0] not in "._"} == {
        "bin",
        "s3prl_vqpool",
        *(path.name for path in wheel.glob("*.dist-info")),
    }
