"""`vqpool reproduce`: the paper's tables for upstreams and the corpora that are named, by one command."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import InputError
from ..files import alone
from .options import add_corpora, add_device, add_dtype, add_seeds

HELP = (
    "Make the paper's Tables 1 and 2 for upstreams and all corpora of corpora.yaml: stores of features, tables of each "
    "upstream and of all with the published figures beside, figures, and a page to look at. First it prints a plan: "
    "hours of speech, disk, time. Each step is a command of vqpool. OUTPUT/reproduce.log has the commands, and the "
    "progress of every minute. What is there already with the same inputs is not made again."
)
EXAMPLE = "vqpool reproduce -u wav2vec2_vq wav2vec2_large_960_vq xls_r_300m_vq --output paper"
WHEN_STOPPED = "what is done is kept; the same command continues"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-u",
        "--upstream",
        nargs="+",
        required=True,
        metavar="UPSTREAM",
        help="upstreams with codes that need no -k: vqpool list upstreams",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for everything")
    add_corpora(parser)
    parser.add_argument(
        "--protocol",
        choices=("paper", "superb"),
        default="paper",
        help="Table 2: the paper's, or SUPERB's heads as well (default: %(default)s)",
    )
    add_seeds(parser)
    add_device(parser)
    add_dtype(parser)


def run(args: argparse.Namespace) -> int:
    from ..runner import named
    from ..runner.config import seeds_of
    from ..tables.paper import outline, plan, work
    from . import devices
    from .main import run_verb

    device = devices.chosen(args.device)
    upstreams = list(dict.fromkeys(args.upstream))
    entries = plan.entries(upstreams)
    corpora = named.read(args.corpora)
    if corpora is None:
        raise InputError(
            f"no {named.FILE} here, {named.VARIABLE} is not set: name the corpora (vqpool corpora --help), or give "
            "--corpora FILE."
        )
    seeds = seeds_of(args.seeds)
    superb = args.protocol == "superb"
    settings = outline.Settings(args.output, corpora.file, args.dtype, args.device, superb, seeds)
    with alone(args.output):
        log = work.Log(args.output)
        stores = plan.make(entries, corpora, settings, device, log)
        work.work(outline.steps(stores, settings), args.output, run_verb, log, args.own_code)
    print(f"tables of all upstreams: {args.output / 'tables'}; the page: {args.output / outline.PAGE}")
    return 0
