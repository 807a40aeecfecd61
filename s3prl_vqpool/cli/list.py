"""`vqpool list`: the names that `-u`, `-d` and `pooling:` take."""

from __future__ import annotations

import argparse
from dataclasses import astuple

from .. import pooling
from ..codes.facts import FACTS, Facts
from ..pooling.registry import MEAN
from ..runner.plugin import downstreams, upstreams

HELP = "List the upstreams, downstreams or poolings that this plugin adds."
EXAMPLE = "vqpool list upstreams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("upstreams", "downstreams", "poolings"))


def run(args: argparse.Namespace) -> int:
    table = rows(args.kind)
    widths = [max(map(len, column)) for column in zip(*table)][:-1]
    for *cells, last in table:
        print(*(f"{cell:{width}}" for cell, width in zip(cells, widths)), last, sep="  ")
    return 0


def rows(kind: str) -> list[tuple[str, ...]]:
    """Names of one kind, with what there is to say about each."""
    if kind == "upstreams":
        heading = ("upstream", "parameters", "frame", "codebooks", "licence of weights", "weights from")
        return [heading, *((name, *astuple(FACTS.get(name, Facts()))) for name in upstreams())]
    if kind == "downstreams":
        from importlib import import_module

        modules = [(name, import_module(f"s3prl.downstream.{name}.expert")) for name in downstreams()]
        return [*((name, _first_line(module.__doc__)) for name, module in modules)]
    methods = [(method.name, _needs(method)) for method in map(pooling.method, pooling.methods())]
    return [(MEAN, "mean over all frames that S3PRL keeps: its MeanPooling"), *methods]


def _needs(method: pooling.Method) -> str:
    needs = [
        *(["codes"] if method.needs_codes else []),
        *(["training statistics"] if method.needs_statistics else []),
        *(["training with the head"] if method.kind == "learned" else []),
    ]
    return f"{method.family}; needs {' and '.join(needs) or 'nothing'}"


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0]
