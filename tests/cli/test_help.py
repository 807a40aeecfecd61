"""The help of every verb: each option says what it does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from s3prl_vqpool.cli import VERBS, module_of


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
