"""`vqpool corpora`: which corpora corpora.yaml names, and whether they are complete; a corpus as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..corpora.tasks import by_name, registered
from ..errors import InputError
from .options import add_corpora, add_overwrite

HELP = (
    "Show which corpora are named in corpora.yaml, from which file, and whether each is complete. The file is the one "
    "that --corpora or the variable VQPOOL_CORPORA names, or corpora.yaml in the working folder. It has a section for "
    "each task, with paths relative to the file; the config's own keys are taken too, such as classes: all35. "
    "Commands that read a corpus find it there, unless -c or -o names another. vqpool synthesise writes such a file."
)
_SECTIONS = "\n".join(
    f"  {task.name}: {{{', '.join(f'{place.short}: PATH' for place in task.places)}}}"
    f"{''.join(f'  # {place.short} may be left out' for place in task.places if place.optional)}"
    for task in registered()
)
EXAMPLE = f"vqpool corpora --corpora /data/corpora.yaml\n\na corpora.yaml:\n{_SECTIONS}"


EXPORT = (
    "Write a corpus as a table that -d vqpool_table takes: a row for each utterance, with its label, split and id, and "
    "where needed its segment, speaker and sampling weight. Prints the entries of datarc with which it is read."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_corpora(parser)
    actions = parser.add_subparsers(dest="action", metavar="export")
    export = actions.add_parser(
        "export", help="write a corpus as a table", description=EXPORT, allow_abbrev=False
    )
    export.add_argument("task", choices=[task.name for task in registered()], help="the task of the corpus")
    export.add_argument("--output", type=Path, required=True, metavar="TABLE.csv", help="the table")
    export.add_argument(
        "-o", "--override", metavar="OVERRIDE", help="changes the config, like run_downstream.py's -o"
    )
    add_corpora(export, argparse.SUPPRESS)
    add_overwrite(export)


def run(args: argparse.Namespace) -> int:
    """Print the file, and lines for each task; 1 where a corpus that is named is not complete."""
    if args.action == "export":
        return _export(args)
    from ..runner import named

    corpora = named.read(args.corpora)
    if corpora is None:
        raise InputError(
            f"no {named.FILE} here, {named.VARIABLE} is not set: write one (vqpool corpora --help), or give --corpora "
            "FILE."
        )
    print(corpora.file.absolute())
    failed = False
    for task in registered():
        if task.name not in corpora.datarc:
            print(f"--  {task.name}: not set")
            continue
        for key, value in corpora.datarc[task.name].items():
            print(f"    {task.name}.{key}: {value}")
        for fine, line in corpora.checked(task):
            failed |= not fine
            print(f"{'ok ' if fine else 'NO '} {line}")
    return int(failed)


def _export(args: argparse.Namespace) -> int:
    from ..corpora.table.export import as_table, reading
    from ..files import asked_for, write_text
    from ..runner import config, named

    if args.output.suffix != ".csv":
        raise InputError(f"--output {args.output}: expected TABLE.csv.")
    task = by_name(args.task)
    override = named.override(task.downstream, None, args.override, args.corpora)
    datarc = config.read(task.downstream, None, override)["downstream_expert"]["datarc"]
    with asked_for(args.output, overwrite=args.overwrite):
        divisions = dict(task.divisions(config.datarc_of(task.downstream, datarc)))
        write_text(args.output, as_table(divisions))
    entries = {"table": str(args.output), **reading(divisions)}
    section = "config.downstream_expert.datarc"
    print(f'-d vqpool_table -o "{",,".join(f"{section}.{key}={value}" for key, value in entries.items())}"')
    return 0
