"""`vqpool corpora`: which corpora corpora.yaml names, and whether they are complete."""

from __future__ import annotations

import argparse

from ..corpora.tasks import registered
from ..errors import InputError
from .options import add_corpora

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_corpora(parser)


def run(args: argparse.Namespace) -> int:
    """Print the file, and lines for each task; 1 where a corpus that is named is not complete."""
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
