"""The help of every verb: each option says what it does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from s3prl_vqpool.cli import VERBS, main, module_of


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The options of a parser and of the parsers below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options(below)
        else:
            yield action


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_does(verb: str) -> None:
    module = module_of(verb)
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    silent = [
        action.dest for action in options(parser) if not action.help or action.help.startswith("(default")
    ]
    assert not silent


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_with_an_upstream_takes_own_ones(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    module_of(verb).add_arguments(parser)
    if not any("--upstream" in action.option_strings for action in options(parser)):
        pytest.skip("has no -u")
    assert main([*verb.split(), "--upstream-dir", "absent"]) == 2
    assert "error: --upstream-dir absent: no such folder." in capsys.readouterr().err.splitlines()
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert "--upstream-dir FOLDER" in capsys.readouterr().out
