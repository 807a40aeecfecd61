"""Options that several verbs share, so that each has one name and one meaning; and old names."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError

#: Verbs that take one pooling, as ``--pooling``; the others take several.
_ONE_POOLING = ("cluster", "embed", "store")
#: A verb (None for all), a pattern of the old arguments (one on each line), and the new spelling.
_RENAMED = (
    (None, r"^--pooling(?==|$)", "--poolings"),
    (None, r"^--out(?==|$)", "--output"),
    (None, r"^--upstream_ckpt(?==|$)", "--checkpoint"),
    (None, r"^--upstream_model_config(?==|$)", "--model-config"),
    ("kmeans", r"^-k\n?\d+$", "--entries"),
    ("synthesise", r"\A[^-].*", "--output FOLDER"),
    ("store", r"^--a(?==|$)", "--option a=VALUE"),
    ("convert", r"\A[^-].*\n[^-].*\Z", "IN --output OUT"),
)


def refuse_renamed(argv: Sequence[str]) -> None:
    """Raise InputError, with the new name, for an option that an earlier version called otherwise."""
    verb, given = argv[0] if argv else None, "\n".join(argv[1:])
    for where, pattern, now in _RENAMED:
        found = re.search(pattern, given, re.MULTILINE)
        if now == "--poolings" and verb in _ONE_POOLING:
            continue
        if found and where in (None, verb):
            raise InputError(f"{' '.join(found[0].splitlines())}: write {now} (vqpool {verb} --help).")


def add_upstream(parser: argparse.ArgumentParser, which: str, default: str | None = None) -> None:
    """Add ``-u/--upstream``, which is required if it has no ``default``."""
    text = f"{which} (default: %(default)s)" if default else which
    parser.add_argument("-u", "--upstream", required=default is None, default=default, help=text)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add ``-k/--checkpoint``, run_downstream.py's ``-k``."""
    parser.add_argument(
        "-k", "--checkpoint", metavar="CKPT", help="the upstream's checkpoint, like run_downstream.py's -k"
    )


def add_model_config(parser: argparse.ArgumentParser) -> None:
    """Add ``-g/--model-config``, run_downstream.py's ``-g``."""
    parser.add_argument(
        "-g",
        "--model-config",
        metavar="FILE",
        help="the upstream's codebook.yaml, like run_downstream.py's -g",
    )


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--option NAME=VALUE``: options of poolings, as `pooling.options.from_words` reads them."""
    parser.add_argument(
        "--option",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="options of the poolings that take them, such as a=1e-2 (VQ-SIF): vqpool list poolings",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``, for what ``--output`` names."""
    parser.add_argument("--overwrite", action="store_true", help="replace the output if it is there already")


def add_corpora(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--corpora FILE``, as `runner.named.find` takes it.

    ``default``: argparse.SUPPRESS for an action of a verb that has the option too, so that it counts before the action.
    """
    parser.add_argument(
        "--corpora",
        type=Path,
        default=default,
        metavar="FILE",
        help="file that names the corpora: vqpool corpora --help (default: VQPOOL_CORPORA, or ./corpora.yaml)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", help="cpu or cuda (default: cuda if there is one)")


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``."""
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float32",
        help="dtype of stored vectors and frames; float16 halves the disk (default: %(default)s)",
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    """Add ``--precision``."""
    parser.add_argument(
        "--precision",
        choices=("float32", "bf16", "fp16"),
        default="float32",
        help="of the transformer; codes are those of float32 in all of them. bf16 changes vectors by 0.2 to 0.6 %% and "
        "takes about half the time; fp16 needs a GPU (default: %(default)s)",
    )


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """Add ``--seeds`` of Table 2; `runner.config.seeds_of` checks them."""
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0, 1, 2],
        metavar="SEED",
        help="seeds of Table 2 to average over (default: 0 1 2)",
    )
