"""`vqpool classify`: labels of audio files by a trained head, with probabilities."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .embed import GIVEN
from .options import add_device, add_overwrite

if TYPE_CHECKING:
    from ..runner.inference import Classifier

HELP = (
    "Label audio by a checkpoint that run_downstream.py or vqpool train wrote, and write a CSV file: id, path, label "
    "and probability; several slots of a label have a column each. The model is built once, and each piece of audio is "
    "computed alone, so the labels are those of run_downstream.py -m inference."
)
EXAMPLE = "vqpool classify -e result/downstream/ks_vqlp/dev-best.ckpt speech/ --top 3 --output labels.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help=GIVEN)
    parser.add_argument(
        "-e",
        "--experiment",
        type=Path,
        required=True,
        metavar="CKPT",
        help="the head's checkpoint, like run_downstream.py's -e",
    )
    parser.add_argument(
        "--top",
        type=int,
        default=1,
        metavar="K",
        help="labels for each piece of audio (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, metavar="CSV", required=True, help="CSV file to write")
    add_overwrite(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    from ..corpora.table.clips import clips, lengths
    from ..errors import InputError
    from ..files import asked_for, whole
    from . import devices

    if args.output.suffix != ".csv" or not args.output.parent.is_dir():
        raise InputError(f"{args.output}: name a .csv file in a folder that exists.")
    found = clips(args.audio)
    lengths(found)
    device = devices.chosen(args.device)
    with asked_for(args.output, overwrite=args.overwrite):
        from ..runner.inference import Classifier

        classifier = Classifier(args.experiment, device)
        most = min(map(len, classifier.classes))
        if not 1 <= args.top <= most:
            raise InputError(f"--top {args.top}: expected 1 to {most}, the number of classes.")
        with whole(args.output) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "path", *_columns(classifier.slots, args.top)])
            writer.writerows(_rows(classifier, found, args.top))
    print(f"wrote {args.output}: {len(found)} labelled", file=sys.stderr)
    return 0


def _columns(slots: Sequence[str], top: int) -> Iterator[str]:
    """``label probability label_2 probability_2``; of several slots ``action action_probability action_2 ...``."""
    from ..tables.escape import inert

    for slot in slots:
        about = "probability" if len(slots) == 1 else f"{slot}_probability"
        for place in range(1, top + 1):
            behind = f"_{place}" if place > 1 else ""
            yield inert(f"{slot}{behind}")
            yield inert(f"{about}{behind}")


def _rows(classifier: Classifier, found: Sequence[Any], top: int) -> Iterator[list[str]]:
    from tqdm import tqdm

    from ..tables.escape import inert

    for clip in tqdm(found, "classifying", unit="file", disable=None):
        row = [inert(clip.id), inert(str(clip.path))]
        for names, probabilities in zip(classifier.classes, classifier(clip)):
            values, places = probabilities.topk(top)
            for value, place in zip(values.tolist(), places.tolist()):
                row += [inert(names[place]), f"{value:.6f}"]
        yield row
