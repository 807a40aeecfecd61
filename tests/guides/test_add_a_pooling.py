"""docs/guides/add-a-pooling.md: its file is registered, and its commands run, in the order of the page."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import s3prl_vqpool  # noqa: F401 (S3PRL's own modules import after it on every stack)

# isort: split
import pytest
import torch

from s3prl_vqpool import pooling
from s3prl_vqpool.cli.main import main
from s3prl_vqpool.pooling import registry
from s3prl_vqpool.runner import run_downstream

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "add-a-pooling.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: title=[^\n]*)?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILE, LIBRARY = (text for language, text in BLOCKS if language == "python")
(COMMANDS,) = (text for language, text in BLOCKS if language == "sh")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's pooling, registered for the tests of this file alone."""
    before = dict(registry._methods)
    path = tmp_path_factory.mktemp("guide") / "soft.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("soft", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    registry._methods.clear()
    registry._methods.update(before)


def test_the_file_has_at_most_20_lines_of_code() -> None:
    assert len([line for line in FILE.splitlines() if line.strip()]) <= 20


def test_the_library_gives_what_the_page_says(registered: None) -> None:
    """Four frames of one tuple and one of another: weights 4 ** -0.5 = 1/2 and 1, before they are normalised."""
    found: dict[str, torch.Tensor] = {}
    exec(LIBRARY, found)
    torch.testing.assert_close(found["w"], torch.tensor([[1 / 6, 1 / 6, 1 / 6, 1 / 6, 1 / 3]]))
    assert found["v"].shape == (1, 8)
    partition = pooling.weights("VQ-AllSquash-AND", found["codes"], found["lengths"])
    torch.testing.assert_close(
        pooling.weights("VQ-Soft", found["codes"], found["lengths"], power=1), partition
    )


def test_the_commands_run_and_dev_chooses_the_power(
    registered: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for command in re.sub(r"\n\s+", " ", COMMANDS).splitlines():
        program, *argv = shlex.split(command)
        if program == "run_downstream.py":
            assert run_downstream.main([*argv[:-1], f"{argv[-1]},,config.runner.eval_step=20"]) == 0
        else:
            more = ["--size", "small"] if argv[0] == "synthesise" else []
            assert main([*argv, *more]) == 0
        printed = capsys.readouterr().out
        if argv == ["list", "poolings"]:
            assert "VQ-Soft" in printed
            assert "power=0.5" in printed
    (score,) = json.loads(Path("results/nearest.json").read_text())["scores"]["VQ-Soft"]["IC"]
    dev = [each["dev"] for each in score["candidates"]]
    assert [each["options"]["power"] for each in score["candidates"]] == [0.25, 0.5, 0.75]
    assert score["options"] == score["candidates"][dev.index(max(dev))]["options"]
    assert "dev acc" in printed
    assert Path("result/downstream/ic_soft/dev-best.ckpt").is_file()
