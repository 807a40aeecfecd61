"""Every key of a default config with values of every kind: it is taken, or one line says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from s3prl_vqpool.corpora.tasks import registered
from s3prl_vqpool.errors import InputError, one_line
from s3prl_vqpool.runner import plugin

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**62, 1.5, float("nan"), float("inf"), "", "x", "../x", "a\nb", [], [[]], [None], {},
    {"a": {}}, [1, "x"],
)  # fmt: skip
DOWNSTREAMS = [task.downstream for task in registered()]


@pytest.fixture(scope="module")
def corpora(synthetic: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """datarc entries by downstream; a table's corpus is a folder of folders."""
    folder = tmp_path_factory.mktemp("folders")
    for split in ("train", "dev", "test"):
        for label in ("one", "two"):
            (folder / split / label).mkdir(parents=True)
            soundfile.write(folder / split / label / "a.wav", np.ones(800) / 9, 16_000)
    return {"vqpool_table": {"table": str(folder)}, **{f"vqpool_{name}": v for name, v in synthetic.items()}}


def outcome(make: Callable[[], Any]) -> str:
    """What a user reads: nothing, or the line of an InputError; other errors are failures of the test."""
    try:
        make()
    except InputError as error:
        return one_line(error)
    return ""


@pytest.mark.parametrize("section", ["datarc", "modelrc"])
@pytest.mark.parametrize("downstream", DOWNSTREAMS)
def test_a_value_is_taken_or_refused_in_one_line(
    section: str, downstream: str, corpora: dict[str, Any], build: Callable[..., Any]
) -> None:
    task, datarc = downstream.removeprefix("vqpool_"), corpora[downstream]
    default = yaml.safe_load(plugin.default_config(downstream).read_text())["downstream_expert"][section]
    assert outcome(lambda: build(task, datarc)) == ""
    refused = 0
    for key in default:
        for value in ODD:
            given = {**datarc, key: value} if section == "datarc" else datarc
            modelrc = {key: value} if section == "modelrc" else {}
            said = outcome(lambda given=given, modelrc=modelrc: build(task, given, modelrc=modelrc))
            assert "\n" not in said, (key, value)
            refused += bool(said)
    assert refused >= 3 * len(default)
