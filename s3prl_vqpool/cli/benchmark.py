"""`vqpool benchmark`: the tables of the paper."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import asked_for
from .options import add_option, add_overwrite, add_seeds

if TYPE_CHECKING:
    from ..tables.stores import StoredTask
    from ..tables.table import Table

HELP = "Compute a table of the paper from stores of features (vqpool extract)."
EXAMPLE = "vqpool benchmark nearest --store feats_ks feats_sid feats_ic feats_er --output results"
WHEN_STOPPED = "the same command starts again; with --protocol superb it continues"
NEAREST = (
    "Table 1: test accuracy of every pooling that is not learned, by nearest neighbour. A test utterance takes "
    "the label of its nearest training utterance by angle. Statistics come from the training split. "
    "Options with a grid, such as VQ-SIF's a, are chosen on dev. ER is the mean over its five folds. "
    "Writes nearest.csv, .md, .tex and .json, with 95 % intervals and tests against AP; nearest.predictions.csv, "
    "nearest.classes.csv and nearest.provenance.json."
)

SUPERVISED = (
    "Table 2: test accuracy of heads on frozen features. --protocol paper trains one linear layer on vectors "
    "pooled from the mean over layers, with Adam and the published batch size, rate and epochs of each task; "
    "learned poolings are trained with it. --protocol superb trains SUPERB's head on the stored vectors of every "
    "layer, as vqpool train does, with the default config of each task. It keeps the heads below --output, and "
    "the same command continues them. Dev chooses the epoch or step, the rate and options with a grid, such as "
    "VQ-SIF's a. ER is the mean over its five folds. Writes supervised_PROTOCOL.csv and so on, as nearest does."
)
SUPERVISED_EXAMPLE = (
    "vqpool benchmark supervised --store feats_ks feats_sid feats_ic feats_er --output results\n"
    "  vqpool benchmark supervised --protocol superb --lr 1e-2 1e-3 1e-4 --store feats_ks --output results"
)

JOIN = (
    "Join tables of several upstreams into one, as the paper prints it: rows over the mean of the layers, and the "
    "published figures. Of the paper's upstreams, each accuracy stands beside the published one; a star says "
    "that this lies outside the 95 % interval of ours. Writes nearest or supervised_PROTOCOL .csv, .md, .json, .tex."
)
JOIN_EXAMPLE = "vqpool benchmark join base/nearest.json large/nearest.json --output results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    tables = parser.add_subparsers(dest="table", required=True, metavar="TABLE")
    nearest = _table(
        tables, "nearest", "Table 1, unsupervised: label of the nearest neighbour", NEAREST, EXAMPLE
    )
    nearest.add_argument(
        "--poolings",
        nargs="+",
        metavar="NAME",
        help="poolings of the table, such as VQ-LP or 'VQ-*+std|*' (default: all with a name of their own that are not "
        "learned and that the stores allow)",
    )
    nearest.set_defaults(make=_nearest)
    supervised = _table(
        tables, "supervised", "Table 2: heads trained on frozen features", SUPERVISED, SUPERVISED_EXAMPLE
    )
    supervised.add_argument(
        "--protocol",
        choices=("paper", "superb"),
        default="paper",
        help="how heads are trained (default: %(default)s)",
    )
    supervised.add_argument(
        "--poolings",
        nargs="+",
        metavar="NAME",
        help="poolings of the table, such as VQ-LP or 'VQ-*+std|*' (default: all with a name of their own that the "
        "stores allow)",
    )
    supervised.add_argument(
        "--lr",
        nargs="+",
        type=float,
        metavar="RATE",
        help="learning rates; dev chooses one (default: the task's own)",
    )
    add_seeds(supervised)
    supervised.add_argument(
        "-o",
        "--override",
        metavar="OVERRIDE",
        help="for --protocol superb: changes the config of every task, like run_downstream.py's -o; config.* only",
    )
    supervised.set_defaults(make=_supervised)
    joined = _subparser(
        tables, "join", "one table over several upstreams, beside the published figures", JOIN, JOIN_EXAMPLE
    )
    joined.add_argument(
        "tables",
        type=Path,
        nargs="+",
        metavar="TABLE.json",
        help="one table of the same kind for each upstream",
    )
    joined.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the table")
    add_overwrite(joined)
    joined.set_defaults(make=_join)


def _subparser(
    tables: argparse._SubParsersAction, name: str, help: str, description: str, example: str
) -> argparse.ArgumentParser:
    return tables.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 100),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _table(
    tables: argparse._SubParsersAction, name: str, help: str, description: str, example: str
) -> argparse.ArgumentParser:
    parser = _subparser(tables, name, help, description, example)
    add_option(parser)
    parser.add_argument(
        "--store",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="one store for each task, all of one upstream",
    )
    parser.add_argument(
        "--reference",
        choices=("paper",),
        help="add the published figures, which were measured on other corpora",
    )
    parser.add_argument(
        "--layers",
        action="store_true",
        help="add every single layer, for the poolings whose vectors are stored",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the table")
    add_overwrite(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    return args.make(args)


def _nearest(args: argparse.Namespace) -> int:
    from ..tables import stores, table1

    tasks = _tasks(args)
    names = table1.choose(args.poolings, tasks)
    _check_names(names)
    given = _given(args, names)
    if args.poolings is None:
        _say_left_out(table1.unsupervised(), names)
    if args.layers:
        _check_layers(stores.layered(names, tasks))
    _make(args.output)
    with _writing(args, "nearest"), _bar("nearest", table1.steps(tasks, names, args.layers)) as tick:
        return _finish(
            table1.make(tasks, names, given, args.layers, args.reference == "paper", tick), args, "nearest"
        )


def _supervised(args: argparse.Namespace) -> int:
    from .. import pooling
    from ..runner.config import positive, seeds_of
    from ..tables import layers, stores, superb, supervised, table2

    seeds = seeds_of(args.seeds)
    rates = list(dict.fromkeys(positive("--lr", rate) for rate in args.lr or ())) or None
    paper = args.protocol == "paper"
    if args.override and paper:
        raise InputError(f"-o {args.override!r}: there is no config to override: give --protocol superb.")
    if args.option and not paper:
        raise InputError("--option: a store's vectors have their options already: give --protocol paper.")
    tasks = _tasks(args)
    names = (table2 if paper else superb).choose(args.poolings, tasks)
    _check_names(names)
    given = _given(args, names)
    if args.poolings is None and paper:
        _say_left_out(pooling.methods(), names)
    single = stores.layered(names, tasks) if args.layers else []
    if args.layers:
        _check_layers(single)
    _make(args.output)
    scores = len(tasks) * len(names) if paper else sum(len(task.folds) for task in tasks) * len(seeds)
    stem = f"supervised_{args.protocol}"
    with _writing(args, stem), _bar("supervised", scores + len(tasks) * len(single)) as tick:
        if paper:
            measured = supervised.measure(tasks, names, rates, seeds, given, tick)
        else:
            work = args.output / "superb"
            measured = superb.measure(tasks, names, rates, seeds, args.override, work, tick)
        by_layer = layers.measure(tasks, single, rates, seeds, tick)
        table = table2.make(measured, by_layer, tasks, seeds, args.reference == "paper")
        return _finish(table, args, stem)


def _join(args: argparse.Namespace) -> int:
    from ..tables import joined

    found = joined.join(args.tables)
    _make(args.output)
    with asked_for(*joined.files(args.output, found.stem), overwrite=args.overwrite):
        found.table.show()
        print(f"wrote {', '.join(map(str, found.write(args.output)))}")
    return 0


def _tasks(args: argparse.Namespace) -> list[StoredTask]:
    from ..store import Store
    from ..tables import stores

    return stores.tasks({path: Store.open(path) for path in args.store})


def _given(args: argparse.Namespace, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `--option` says of each pooling."""
    from ..pooling.options import from_words
    from ..pooling.registry import given_options

    if args.option and args.layers:
        raise InputError("--option with --layers: stored vectors have their options already; leave one out.")
    return given_options(names, from_words(args.option))


def _make(output: Path) -> None:
    """Make the folder for the tables, and check that it can be written to, before anything is computed."""
    output.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=output).close()


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise InputError("--store: these stores have no pooling in common: vqpool extract --poolings.")


def _say_left_out(offered: Sequence[str], names: Sequence[str]) -> None:
    without = [name for name in offered if name not in names]
    if without:
        print(
            f"left out, because they need frames (vqpool extract --frames): {', '.join(without)}",
            file=sys.stderr,
        )


def _check_layers(stored: Sequence[str]) -> None:
    if not stored:
        raise InputError("--layers: no pooling has vectors in all stores: vqpool extract --poolings.")


@contextmanager
def _bar(name: str, total: int) -> Iterator[Callable[[str], None]]:
    """A progress bar. Call it with the name of what was done to move it by one."""
    from ..store.progress import Progress

    with Progress(name, total, "score") as progress:
        yield lambda done: progress.advance(note=done)


def _writing(args: argparse.Namespace, stem: str) -> AbstractContextManager[None]:
    """The table's files are this process's, and a table that is there stays, unless told otherwise."""
    from ..tables.table import files

    return asked_for(*files(args.output, stem), overwrite=args.overwrite)


def _finish(table: Table, args: argparse.Namespace, stem: str) -> int:
    table.show()
    print(f"wrote {', '.join(map(str, table.write(args.output, stem)))}")
    return 0
