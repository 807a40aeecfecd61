"""Reference pages that are made from the code when the site is built: commands, names, and the API room by room."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Iterator
from functools import cache

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import s3prl_vqpool
from s3prl_vqpool.cli import VERBS, module_of
from s3prl_vqpool.cli import list as names
from s3prl_vqpool.runner.command_line import s3prl_parser

INDEX = """# Reference

These pages are generated from the code.

- [vqpool](vqpool.md): every verb with its options.
- [run_downstream.py](run_downstream.md): the options of S3PRL's runner.
- [Names](names.md): the upstreams, downstreams and poolings.
"""


#: Headings of the tables of names. (`vqpool list upstreams` prints its own.)
HEADINGS = {
    "downstreams": ("downstream", "what it is"),
    "poolings": ("pooling", "kind", "options", "what it is"),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation's entry `Reference` with the pages that `on_files` makes."""
    section = next(entry for entry in config.nav if "Reference" in entry)
    titles = {
        "index": "Overview",
        "run_downstream": "run_downstream.py",
        "names": "Names",
        "vqpool": "vqpool",
    }
    section["Reference"] = [
        {titles.get(name, f"s3prl_vqpool.{name}"): f"reference/{name}.md"} for name in _pages()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in _pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


@cache
def _pages() -> dict[str, str]:
    """Markdown of each page, by its file's name."""
    rooms = dict(_rooms())
    index = INDEX + "".join(f"- [{name}]({name}.md): {text}\n" for name, text in rooms.items())
    return {
        "index": index,
        "vqpool": "\n\n".join(["# vqpool", *(_verb(name) for name in VERBS)]),
        "run_downstream": f"# run_downstream.py\n\n{_parser(s3prl_parser())}",
        "names": "\n\n".join(
            ["# Names", *(_names(kind) for kind in ("upstreams", "downstreams", "poolings"))]
        ),
        **{name: _api(name) for name in rooms},
    }


def _rooms() -> Iterator[tuple[str, str]]:
    """Name and first line of the docstring of each room but cli, which has pages of its own."""
    for found in pkgutil.iter_modules(s3prl_vqpool.__path__):
        if found.name not in ("cli", "__main__"):
            doc = importlib.import_module(f"s3prl_vqpool.{found.name}").__doc__ or ""
            yield found.name, doc.strip().splitlines()[0]


def _api(name: str) -> str:
    """Of a room the names that it hands on, then what else its modules define."""
    package = importlib.import_module(f"s3prl_vqpool.{name}")
    handed_on = [f"!^{each}$" for each in getattr(package, "__all__", ())]
    options = f"    options:\n      filters: {json.dumps(['!^_', *handed_on])}"
    below = [found.name for found in pkgutil.iter_modules(getattr(package, "__path__", ()))]
    modules = [f"::: s3prl_vqpool.{name}.{each}\n{options}" for each in below]
    return "\n\n".join(
        [
            f"# s3prl_vqpool.{name}",
            f"::: s3prl_vqpool.{name}\n    options:\n      show_root_heading: false",
            *modules,
        ]
    )


def _verb(name: str) -> str:
    module = module_of(name)
    parser = argparse.ArgumentParser(prog=f"vqpool {name}", description=module.HELP)
    module.add_arguments(parser)
    parser.epilog = f"example:\n  {module.EXAMPLE}"
    return f"## vqpool {name}\n\n{_parser(parser)}"


def _parser(parser: argparse.ArgumentParser) -> str:
    """Description, usage, a table of the options, the example; then the same of each of its own verbs."""
    parts = [parser.description or "", f"```\n{_usage(parser)}\n```"]
    options = [action for action in parser._actions if not isinstance(action, _OTHER)]
    if options:
        rows = [f"| {_cell(_spelling(action))} | {_cell(_help(parser, action))} |" for action in options]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    if parser.epilog:
        parts.append(f"```\n{parser.epilog.strip()}\n```")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts += [f"### {sub.prog}\n\n{_parser(sub)}" for sub in action.choices.values()]
    return "\n\n".join(part for part in parts if part)


_OTHER = (argparse._HelpAction, argparse._SubParsersAction)


def _usage(parser: argparse.ArgumentParser) -> str:
    return parser.format_usage().removeprefix("usage: ").strip()


def _spelling(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else _value(action)
    return f"`{' '.join([', '.join(action.option_strings), value]).strip()}`"


def _value(action: argparse.Action) -> str:
    metavar = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None and action.metavar is None:
        metavar = f"{{{','.join(map(str, action.choices))}}}"
    value = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    return f"{value} ..." if action.nargs in ("+", "*") else value


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def _names(kind: str) -> str:
    rows = names.rows(kind)
    heading = HEADINGS.get(kind) or rows.pop(0)
    lines = [heading, ("---",) * len(heading), *((f"`{name}`", *rest) for name, *rest in rows)]
    return f"## {kind.capitalize()}\n\n" + "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
