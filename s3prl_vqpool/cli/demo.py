"""`vqpool demo`: the main job on the embedded corpus and the embedded upstream, VQ-LP beside mean."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from ..errors import InputError
from ..files import alone
from ..runner.plugin import folder
from .options import add_upstream

HELP = (
    "Train and evaluate keyword spotting through S3PRL's runner on synthesised speech: VQ-LP beside mean. Then write a "
    "page with both, and with utterances to look at and to hear."
)
EXAMPLE = "vqpool demo --output demo"
WHEN_STOPPED = "what is done is kept; the same command continues"
POOLINGS = ("VQ-LP", "mean")

_ACCURACY = re.compile(r"^test acc: ([\d.]+)$", re.MULTILINE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo"),
        metavar="FOLDER",
        help="folder for the corpus and the experiments (default: %(default)s)",
    )
    add_upstream(parser, "an upstream with codes: vqpool list upstreams", default="wav2vec2_vq_tiny")


def run(args: argparse.Namespace) -> int:
    from ..corpora import synthetic

    out = args.output.resolve()
    with alone(out):
        datarc = synthetic.synthesise(out / "corpora", ("ks",))["ks"]
        accuracies = {
            name: _train_and_evaluate(name, args.upstream, out / name, datarc, args.own_code)
            for name in POOLINGS
        }
        page = _write_page(out, args.upstream, datarc, args.own_code)
    print(f"\nkeyword spotting, 12 classes, synthesised speech, -u {args.upstream}, test accuracy:")
    for name, accuracy in accuracies.items():
        print(f"  {name:8}{100 * accuracy:6.2f} %")
    print(f"\nthe page: {page}")
    return 0


def _write_page(out: Path, upstream: str, datarc: dict[str, str], own_code: list[str]) -> str:
    """Extract the corpus, write the page, and say where it is; or why there is none."""
    from ..report import page

    try:
        page.require()
    except InputError as error:
        return str(error)
    override = ",,".join(f"config.downstream_expert.datarc.{key}={value}" for key, value in datarc.items())
    _run(
        "s3prl_vqpool",
        "extract",
        "-u",
        upstream,
        "-d",
        "vqpool_ks",
        "-o",
        override,
        "--store",
        str(out / "store"),
        *own_code,
    )
    page.write([out], out / "report.html")
    return f"{out / 'report.html'}: open it in a browser"


def _train_and_evaluate(
    pooling: str, upstream: str, expdir: Path, datarc: dict[str, str], own_code: list[str]
) -> float:
    """Test accuracy of a head trained with ``pooling``; what an earlier run has finished is not done again."""
    settings = {
        **{f"config.downstream_expert.datarc.{key}": value for key, value in datarc.items()},
        "config.downstream_expert.modelrc.pooling": pooling,
    }
    override = ",,".join(f"{key}={value}" for key, value in settings.items())
    config = folder("configs") / "demo_ks.yaml"
    _runner(
        "-m",
        "train",
        "-p",
        str(expdir),
        "-u",
        upstream,
        "-d",
        "vqpool_ks",
        "-c",
        str(config),
        "-o",
        override,
        "-a",
        *own_code,
    )
    output = _runner("-m", "evaluate", "-e", str(expdir / "dev-best.ckpt"), *own_code)
    found = _ACCURACY.search(output)
    if found is None:
        raise RuntimeError(f"run_downstream.py -m evaluate printed no test accuracy:\n{output}")
    return float(found[1])


def _runner(*argv: str) -> str:
    """Run run_downstream.py in its own process; what it printed."""
    return _run("s3prl_vqpool.runner.run_downstream", *argv)


def _run(module: str, *argv: str) -> str:
    """Run a module in its own process, with its progress on this terminal. Returns what it printed."""
    program = "vqpool" if module == "s3prl_vqpool" else "run_downstream.py"
    print(f"$ {program} {' '.join(argv)}", flush=True)
    finished = subprocess.run([sys.executable, "-m", module, *argv], stdout=subprocess.PIPE, text=True)
    print(finished.stdout, end="", flush=True)
    if finished.returncode:
        raise InputError(f"the demo stopped: {program} ended with exit code {finished.returncode}.")
    return finished.stdout
