"""`vqpool list`: the names that `-u`, `-d` and `pooling:` take."""

from __future__ import annotations

import argparse

from .. import pooling
from ..heads import MEAN
from ..plugin import downstreams, upstreams

HELP = "List the upstreams, downstreams or poolings that this plugin adds."
EXAMPLE = "vqpool list upstreams"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("upstreams", "downstreams", "poolings"))


def run(args: argparse.Namespace) -> int:
    for name, text in rows(args.kind):
        print(f"{name:26}{text}")
    return 0


def rows(kind: str) -> list[tuple[str, str]]:
    """Names of one kind, with a line about each."""
    if kind == "upstreams":
        return [(name, _first_line(entry.__doc__)) for name, entry in upstreams().items()]
    if kind == "downstreams":
        from importlib import import_module

        modules = [(name, import_module(f"s3prl.downstream.{name}.expert")) for name in downstreams()]
        return [(name, _first_line(module.__doc__)) for name, module in modules]
    return [(MEAN, "mean over all frames that S3PRL keeps: its MeanPooling")] + [
        (method.name, _needs(method)) for method in map(pooling.method, pooling.methods())
    ]


def _needs(method: pooling.Method) -> str:
    needs = [
        *(["codes"] if method.needs_codes else []),
        *(["training statistics"] if method.needs_statistics else []),
        *(["training with the head"] if method.kind == "learned" else []),
    ]
    return f"{method.family}; needs {' and '.join(needs) or 'nothing'}"


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().splitlines()[0]
