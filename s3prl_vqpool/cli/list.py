"""`vqpool list`: the names that `-u`, `-d` and `pooling:` take."""

from __future__ import annotations

import argparse
import sys
from dataclasses import astuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pooling import Method, Option

HELP = "List the upstreams, downstreams or poolings that this plugin adds."
EXAMPLE = "vqpool list upstreams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("upstreams", "downstreams", "poolings"), help="what to list")


def run(args: argparse.Namespace) -> int:
    table = rows(args.kind)
    widths = [max(map(len, column)) for column in zip(*table)][:-1]
    for *cells, last in table:
        print(*(f"{cell:{width}}" for cell, width in zip(cells, widths)), last, sep="  ")
    return 0


def rows(kind: str) -> list[tuple[str, ...]]:
    """Names of one kind, with the facts about each."""
    return {"upstreams": _upstreams, "downstreams": _downstreams, "poolings": _poolings}[kind]()


def _upstreams() -> list[tuple[str, ...]]:
    from ..codes.facts import FACTS, Facts
    from ..runner.plugin import upstreams

    heading = ("upstream", "parameters", "frame", "codebooks", "licence of weights", "weights from")
    return [heading, *((name, *astuple(FACTS.get(name, Facts()))) for name in upstreams())]


def _downstreams() -> list[tuple[str, ...]]:
    from ..runner.plugin import downstreams, expert_of

    modules = [(name, sys.modules[expert_of(name).__module__]) for name in downstreams()]
    return [(name, _first_line(module.__doc__)) for name, module in modules]


def _poolings() -> list[tuple[str, ...]]:
    from .. import pooling
    from ..pooling.registry import maps

    methods = map(pooling.method, pooling.methods())
    named = [(each.name, _needs(each), _options(each.options), each.doc) for each in methods]
    grammar = ("+std", "after weights", "", "the weighted standard deviation beside the mean: VQ-LP+std")
    mapped = [
        (
            f"|{each.name}",
            "after weights or +std; needs training statistics",
            _options(each.options),
            each.doc,
        )
        for each in maps()
    ]
    return [*named, grammar, *mapped]


def _needs(method: Method) -> str:
    needs = [
        *(["codes"] if method.needs_codes else []),
        *(["training statistics"] if method.needs_statistics else []),
        *(["training with the head"] if method.learned is not None else []),
    ]
    return f"{method.family}; needs {' and '.join(needs) or 'nothing'}"


def _options(options: Sequence[Option]) -> str:
    """Each option with its default, as `--option` takes it."""
    from ..pooling.options import in_short

    return " ".join(f"{option.name}={in_short(option.default)}" for option in options)


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0]
