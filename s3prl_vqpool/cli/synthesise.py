"""`vqpool synthesise`: the embedded corpora, laid out as the four of SUPERB."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..corpora.tasks import by_name
from ..files import alone

HELP = (
    "Synthesise small corpora with espeak-ng, in the layout of the four corpora that SUPERB uses, and name them in "
    "corpora.yaml beside them."
)
EXAMPLE = "vqpool synthesise --output demo/corpora --tasks ks er"
#: Of the suggested training: minutes on two CPU cores.
SHORT = {"runner.total_steps": 100, "runner.eval_step": 50, "runner.log_step": 50, "optimizer.lr": "1e-2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, metavar="FOLDER", required=True, help="folder for the corpora")
    parser.add_argument(
        "--tasks",
        nargs="+",
        metavar="TASK",
        help="tasks whose corpora are made (default: all)",
    )
    parser.add_argument(
        "--size",
        metavar="SIZE",
        default="default",
        help="small is for tests (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the voices and words (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from ..corpora import synthetic
    from ..runner import named

    with alone(args.output):
        if (args.output / named.FILE).is_file():
            named.read(args.output / named.FILE)
        made = synthetic.synthesise(args.output, args.tasks, args.size, args.seed)
        file = named.add(args.output, made)
    for name, datarc in made.items():
        settings = {**{f"downstream_expert.datarc.{key}": value for key, value in datarc.items()}, **SHORT}
        override = ",,".join(f"config.{key}={value}" for key, value in settings.items())
        command = f"run_downstream.py -m train -n {name} -u wav2vec2_vq_tiny -d {by_name(name).downstream}"
        print(f'{name}: {command} -o "{override}"')
    print(f"they are named in {file}: vqpool corpora --corpora {file}")
    return 0
