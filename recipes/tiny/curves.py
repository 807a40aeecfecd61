#!/usr/bin/env python3
"""Draw what pretrain.py wrote into curves.json: losses, accuracies, and the perplexity of the codes, by step."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

PANELS = {
    "cross-entropy": {"quantizer_loss": "quantizer", "loss": "masked frames", "seen_loss": "other frames"},
    "accuracy": {
        "quantizer_accuracy": "quantizer",
        "accuracy": "masked frames",
        "seen_accuracy": "other frames",
    },
    "perplexity of the codes in a batch": {"perplexity": "mean over codebooks"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python recipes/tiny/curves.py exp/tiny/curves.json --output recipes/tiny/curves.svg",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("curves", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.curves.read_text())["curves"]
    matplotlib.rcParams.update({"svg.hashsalt": "curves", "font.size": 9})
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(11, 3), constrained_layout=True)
    for axis, (title, lines) in zip(axes, PANELS.items()):
        for name, label in lines.items():
            known = [row for row in rows if name in row]
            axis.plot([row["step"] for row in known], [row[name] for row in known], label=label, linewidth=1)
        axis.set(title=title, xlabel="step", ylim=(0, None))
        axis.legend(frameon=False)
    figure.savefig(args.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
