"""Mistakes with checkpoints and folders of experiments: one line on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mistakes import MODELRC, START, replaced
from tiny import converted_checkpoint

SAVED = "config.runner.total_steps=1,,config.runner.save_step=1"


class RunsCode:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_checkpoints(refused: Any, er: Any, checkpoints: dict, tmp_path: Path) -> None:
    """What `-k`, `-e` and `-i` are given: absent, cut, text, a pickle that would run code, another kind."""
    whole = checkpoints["base"].read_bytes()
    path, made = tmp_path / "model.pt", tmp_path / "made"
    upstream = ("-m", "train", "-n", "a", "-d", "vqpool_er", "-u", "wav2vec2_vq_local", "-k", path, *er())
    resume = ("-m", "train", "-e", path)
    initial = ("-m", "evaluate", "-n", "a", "-d", "vqpool_er", "-u", "mfcc_vq", "-i", path, *er())
    every = (upstream, resume, initial)
    for argv in every:
        assert refused(*argv) == f"{path}: no such checkpoint."
    path.write_bytes(whole[: len(whole) // 2])
    for argv in every:
        assert refused(*argv).startswith(f"{path}: damaged or truncated, ")
    for content in (b"", b"this is text", b"{}\n", bytes(range(256)) * 9):
        path.write_bytes(content)
        for argv in every:
            assert re.match(rf"{path}: (not a checkpoint|damaged or truncated)", refused(*argv))
    runs_code = {"task_cfg": {}, "model_cfg": {}, "model_weight": RunsCode(made)}
    for save, message in (
        (torch.save, r"refused: it asks to import \w+\.mkdir; "),
        (
            lambda state, name: Path(name).write_bytes(pickle.dumps(state, 2)),
            "(damaged or truncated, or no file of |refused: it asks to import )",
        ),
    ):
        save(runs_code, path)
        for argv in every:
            assert re.match(f"{path}: {message}", refused(*argv))
            assert not made.exists()
    path.write_bytes(whole)
    assert refused(*resume) == (
        f"{path}: not the checkpoint expected here: it has no 'Args', 'Config', 'Featurizer', 'Downstream'."
    )
    assert refused(*initial) == f"{path}: not the checkpoint expected here: it has no 'Downstream'."
    torch.save({"Args": 1}, path)
    assert refused(*upstream).startswith(f"{path}: not ")
    converted_checkpoint(path, quantizer=False)
    assert re.match(rf"{path}: [^.]*2\.0 has no quantizer", refused(*upstream))


def test_checkpoints_of_other_modules(run: Any, er: Any, checkpoints: dict, tmp_path: Path) -> None:
    run(*START, *er("config.runner.total_steps=1,,config.runner.save_step=1")).ok()
    checkpoint = tmp_path / "cwd" / "result" / "downstream" / "a" / "states-1.ckpt"
    begin = f"{checkpoint}: its Downstream does not fit what is asked for here ("
    for entry, mismatch in (
        ("pooling=SAP", 'Missing key(s) in state_dict: "model.pooling.attention", '),
        ("pooling=VQ-GP", 'Missing key(s) in state_dict: "model.pooling.tuples", '),
        ("projector_dim=8", "size mismatch for projector.weight: "),
    ):
        error = run("-m", "evaluate", "-e", checkpoint, "-o", f"{MODELRC}.{entry}").error
        assert error.startswith(begin + mismatch)
    other = replaced(replaced(START, "-n", "b"), "-u", "wav2vec2_vq_local")
    error = run(*other, "-k", checkpoints["base"], "-i", checkpoint, *er()).error
    assert error.startswith(f"{begin}size mismatch for projector.weight: ")
    assert not (tmp_path / "cwd" / "result" / "downstream" / "b").exists()


def test_experiment_folders(run: Any, refused: Any, er: Any, tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("")
    message = (
        f"-e {folder}: this folder holds no states-*.ckpt; name a checkpoint file, or start anew with -n."
    )
    assert refused("-m", "train", "-e", folder) == message
    start = ("-m", "train", "-u", "mfcc_vq", "-d", "vqpool_er", "-p")
    message = f"{file} is a file: choose another -n or -p, for the experiment's folder."
    assert refused(*start, file, *er()) == message
    (folder / "notes.txt").write_text("mine")
    bad = er(f"{MODELRC}.pooling=VQ-PL")
    assert refused(*start, folder, *bad).startswith("Unknown pooling")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert refused(*start, tmp_path / "new" / "deep", *bad).startswith("Unknown pooling")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("upstream", None), ("upstream", 3), ("downstream", ["vqpool_er"]), ("expdir", None), ("seed", "abc"),
     ("upstream_trainable", "no"), ("upstream_layer_selection", {"layer": 1}), ("config", 7)],
)  # fmt: skip
def test_arguments_that_s3prl_never_writes(
    name: str, value: object, refused: Any, run: Any, er: Any, tmp_path: Path
) -> None:
    """A checkpoint of S3PRL's runner with one argument of another kind; it was a traceback."""
    run("-m", "train", "-p", tmp_path / "exp", "-u", "mfcc_vq", "-d", "vqpool_er", *er(SAVED)).ok()
    state = torch.load(tmp_path / "exp" / "states-1.ckpt", weights_only=False)
    setattr(state["Args"], name, value)
    path = tmp_path / "changed.ckpt"
    torch.save(state, path)
    error = run("-m", "evaluate", "-e", path).error
    assert error == (
        f"{path}: its Args have {name} {value!r}, which S3PRL's runner never writes: take another checkpoint."
    )


def test_a_config_that_is_none(run: Any, er: Any, tmp_path: Path) -> None:
    run("-m", "train", "-p", tmp_path / "exp", "-u", "mfcc_vq", "-d", "vqpool_er", *er(SAVED)).ok()
    state = torch.load(tmp_path / "exp" / "states-1.ckpt", weights_only=False)
    path = tmp_path / "changed.ckpt"
    for config in (None, [], {"runner": {}}):
        torch.save({**state, "Config": config}, path)
        assert run("-m", "evaluate", "-e", path).error.startswith(
            f"{path}: not a config for this runner: it has no "
        )
