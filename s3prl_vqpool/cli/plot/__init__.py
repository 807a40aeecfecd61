"""`vqpool plot KIND ...`: one kind a file, each with HELP, EXAMPLE, add_arguments(parser), draw(args) -> axes."""

from __future__ import annotations

import argparse
import importlib
import textwrap
from pathlib import Path

from ..options import add_overwrite

HELP = (
    "Draw a figure and write it as .svg, .pdf or .png. The same input gives the same bytes. It needs "
    "pip install 's3prl-vqpool[report]'. In a notebook, use s3prl_vqpool.report."
)
EXAMPLE = "vqpool plot utterance one.wav -u wav2vec2_vq --poolings AP VQ-LP --output one.svg"

KINDS = {
    "embedding": "utterance vectors by t-SNE, AP beside VQ-LP (the paper's Figure 2)",
    "utterance": "waveform, spectrogram, codes and weights over time (the paper's Figure 3)",
    "layers": "accuracy by layer",
    "weights": "learned weights of the layers",
    "curves": "learning curves of a sweep",
    "confusion": "which classes are taken for which",
    "accuracy": "accuracy by pooling, with 95 %% intervals",
    "codebook": "how often each entry of a codebook is used",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, text in KINDS.items():
        module = importlib.import_module(f".{name}", __name__)
        kind = kinds.add_parser(
            name,
            help=text,
            description=textwrap.fill(module.HELP, 100),
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(kind)
        kind.add_argument(
            "--output", type=Path, required=True, metavar="FILE", help="file to write: .svg, .pdf or .png"
        )
        add_overwrite(kind)
        kind.set_defaults(draw=module.draw)


def run(args: argparse.Namespace) -> int:
    from ...files import asked_for
    from ...report import style

    style.check_suffix(args.output)
    style.require()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with asked_for(args.output, overwrite=args.overwrite):
        figure = args.draw(args).get_figure(root=True)
        style.save(figure, args.output)
        pyplot.close(figure)  # reproduce draws many
    print(f"wrote {args.output}")
    return 0
