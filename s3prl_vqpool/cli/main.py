"""The command `vqpool VERB ...`: everything except S3PRL's own run_downstream.py."""

from __future__ import annotations

import argparse
import importlib
import sys
import textwrap
from types import ModuleType

from .. import __version__
from ..errors import run_command
from .options import refuse_renamed

#: Each verb is a module of that name in this folder (`module_of`), imported when it is called. Heavy or optional
#: imports are in its ``run`` only.
VERBS = {
    "doctor": "say whether the main job can run here, and why not",
    "corpora": "show which corpora are named and whether they are complete, or write one as a table",
    "list": "list the upstreams, downstreams and poolings",
    "synthesise": "synthesise small corpora",
    "demo": "run the main job on synthesised speech, VQ-LP beside mean",
    "convert": "convert a checkpoint of fairseq without fairseq",
    "extract": "extract the features of a corpus once into a store",
    "store": "show or check a store, or add poolings to it",
    "train": "train heads on a store, all learning rates and poolings at once",
    "kmeans": "fit codebooks on an upstream without a quantizer",
    "kmeans import": "take over a k-means model that others published",
    "embed": "write pooled vectors of audio files, folders and lists",
    "classify": "label audio files, folders and lists by a trained head",
    "codes": "print or write the codes of audio files",
    "benchmark": "compute a table of the paper from stores",
    "cluster": "cluster utterance vectors, into Kaldi's utt2spk, and score the clusters",
    "report": "write a page with tables, figures and utterances to hear",
    "plot": "draw a figure: vectors, an utterance, layers, curves, a confusion matrix, ...",
    "reproduce": "make the paper's tables from the corpora that are named, by one command",
    "submit": "check test predictions and zip them for the SUPERB leaderboard",
}
#: Verbs that need no upstream or downstream. All others take the user's own, by `OWN_CODE`, anywhere behind the verb.
WITHOUT_OWN_CODE = ("synthesise", "convert", "submit")
OWN_CODE = ("--upstream-dir", "--downstream-dir")
OWN_CODE_HELP = (
    "--upstream-dir FOLDER and --downstream-dir FOLDER, behind the verb, name upstreams and downstreams of your own "
    "(docs/guides/own-code.md). Their code is run."
)
EXAMPLE = "vqpool doctor --ks speech_commands_v0.01 speech_commands_test_set_v0.01"


def main(argv: list[str] | None = None) -> int:
    """Run one verb; exit code 2 for a mistake in the input, 1 for a failure, 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    return run_command(lambda: run_verb(argv), lambda: _where(argv))


def module_of(verb: str) -> ModuleType:
    """The module of a verb, such as kmeans_import.py of `kmeans import`."""
    return importlib.import_module(f".{verb.replace(' ', '_')}", __package__)


def run_verb(argv: list[str]) -> int:
    """Run one verb within another; errors pass through."""
    refuse_renamed(argv)
    if " ".join(argv[:2]) in VERBS:
        argv = [" ".join(argv[:2]), *argv[2:]]
    taken: list[str] = []
    if argv and takes_own_code(argv[0]) and any(word.startswith(OWN_CODE) for word in argv):
        from ..runner import own

        argv, taken = own.use(argv)
    args = _parser(argv).parse_args(argv)
    args.own_code = taken
    return args.run(args)


def takes_own_code(verb: str) -> bool:
    """Whether a verb takes upstreams and downstreams of the user's own."""
    return verb in VERBS and verb not in WITHOUT_OWN_CODE


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    """The parser of all verbs, with the options of the one that ``argv`` calls."""
    parser = argparse.ArgumentParser(
        prog="vqpool",
        description="Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB.\n"
        "Training and evaluation are S3PRL's: run_downstream.py --help.",
        epilog=f"example:\n  {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"s3prl-vqpool {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        verb = verbs.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name in argv[:1]:
            module = module_of(name)
            verb.description, verb.epilog = textwrap.fill(module.HELP, 100), f"example:\n  {module.EXAMPLE}"
            if takes_own_code(name):
                verb.description += "\n\n" + textwrap.fill(OWN_CODE_HELP, 100)
            module.add_arguments(verb)
            verb.set_defaults(run=module.run)
    return parser


def _where(argv: list[str]) -> str:
    """Which verb, and how to go on: ``WHEN_STOPPED`` of its module, if it keeps what is done."""
    verb = sys.modules.get(f"{__package__}.{argv[0]}") if argv else None
    return f"vqpool {argv[0] if argv else ''}: {getattr(verb, 'WHEN_STOPPED', 'run it again')}"


if __name__ == "__main__":
    sys.exit(main())
