"""`vqpool VERB ...`: everything that is not S3PRL's own run_downstream.py."""

from __future__ import annotations

import argparse
import sys

from . import __version__
from .commands import demo, doctor, listing, synthesise
from .errors import InputError, report

VERBS = {"doctor": doctor, "list": listing, "synthesise": synthesise, "demo": demo}


def main(argv: list[str] | None = None) -> int:
    """Run one verb; exit code 2 for a mistake in the input, 1 for a failure, 130 when interrupted."""
    parser = argparse.ArgumentParser(
        prog="vqpool",
        description="Vector-quantization pooling (arXiv 2304.03940) for S3PRL and SUPERB. "
        "Training and evaluation are S3PRL's: run_downstream.py --help.",
        epilog="example:\n  vqpool doctor --ks speech_commands_v0.01 speech_commands_test_set_v0.01",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"s3prl-vqpool {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(verb)
    args = parser.parse_args(argv)
    try:
        return VERBS[args.verb].run(args)
    except InputError as error:
        return report(error)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
