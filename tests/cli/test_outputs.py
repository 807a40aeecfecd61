"""What `--output` names is never replaced without a word."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from s3prl_vqpool import cli

#: Those whose second run continues what is there, or refuses anything else.
CONTINUE = ("demo", "reproduce", "synthesise")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_a_verb_with_output_has_overwrite(verb: str) -> None:
    parser = argparse.ArgumentParser()
    cli.module_of(verb).add_arguments(parser)
    parsers = [parser, *(child for action in parser._actions for child in _children(action))]
    for each in parsers:
        names = each._option_string_actions
        assert ("--overwrite" in names) == ("--output" in names and verb not in CONTINUE)


def _children(action: argparse.Action) -> list[argparse.ArgumentParser]:
    return list(action.choices.values()) if isinstance(action, argparse._SubParsersAction) else []


@pytest.mark.parametrize(
    ("command", "output", "beside"),
    [
        ("codes {wav} -u mfcc_vq", "units.npz", None),
        ("embed {wav} -u mfcc_vq", "v.npz", None),
        ("embed {wav} -u mfcc_vq", "v.npy", "v.ids.txt"),
        ("kmeans {speech} -u mfcc -l 0 --entries 2 --frames 20", "a.yaml", "a.safetensors"),
        ("convert {checkpoint}", "a.pt", None),
        ("convert {checkpoint}", "a.safetensors", "a.json"),
    ],
)
def test_a_second_run_replaces_nothing_unless_told(
    command: str,
    output: str,
    beside: str | None,
    synthetic: dict,
    checkpoints: Any,
    tmp_path: Path,
    capsys: Any,
) -> None:
    speech = Path(synthetic["ks"]["speech_commands_root"]) / "yes"
    given = {"wav": next(speech.glob("*.wav")), "speech": speech, "checkpoint": checkpoints["base"]}
    argv = [*command.format(**given).split(), "--output", str(tmp_path / output)]
    for there in filter(None, [output, beside]):
        (tmp_path / there).write_text("somebody's")
        assert cli.main(argv) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line == (
            f"error: {tmp_path / there}: is there already: name another, or give --overwrite to replace it."
        )
        assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "somebody's"}
        (tmp_path / there).unlink()
    assert cli.main(argv) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made.keys() == {output, beside} - {None}
    assert cli.main(argv) == 2
    (tmp_path / output).write_text("damaged")
    assert cli.main([*argv, "--overwrite"]) == 0
    assert made.keys() == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / output).read_bytes() == made[output]
