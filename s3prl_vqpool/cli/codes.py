"""`vqpool codes`: the code indices of audio files, with times."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_checkpoint, add_device, add_model_config, add_overwrite, add_upstream

if TYPE_CHECKING:
    import numpy as np

HELP = (
    "Print the codes of audio files as JSON lines, or write them to a file. The name of the file decides its format: "
    ".jsonl, .npz (arrays FILE.codes, FILE.start and FILE.end) or .ark (Kaldi's, needs kaldiio: columns start, end, "
    "codes; with .scp). Times are in seconds. Each file is computed separately."
)
EXAMPLE = "vqpool codes one.wav two.flac -u wav2vec2_vq --collapse --output units.jsonl"
SUFFIXES = (".jsonl", ".npz", ".ark")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="WAV", help="audio files")
    add_upstream(parser, "an upstream with codes: vqpool list upstreams", default="wav2vec2_vq")
    add_checkpoint(parser)
    add_model_config(parser)
    parser.add_argument(
        "--output", metavar="OUT", type=Path, help=f"file to write: {', '.join(SUFFIXES)} (default: print)"
    )
    add_overwrite(parser)
    parser.add_argument("--collapse", action="store_true", help="join neighbouring frames with equal codes")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    from ..errors import InputError
    from ..files import asked_for, whole
    from ..store.vectors import write_ark

    if args.output is not None:
        if args.output.suffix not in SUFFIXES or not args.output.parent.is_dir():
            raise InputError(f"{args.output}: name a {', '.join(SUFFIXES)} file in a folder that exists.")
        if args.output.suffix == ".ark":
            _require_kaldiio()
            spaced = [file for file in args.files if file.split() != [file]]
            if spaced:
                raise InputError(
                    f"{spaced[0]!r}: Kaldi's archives cannot hold names with spaces; rename the file."
                )
    entries = _entries(args)
    if args.output is None:
        for entry in entries:
            print(json.dumps(entry), flush=True)
        return 0
    made = [args.output, *([args.output.with_suffix(".scp")] if args.output.suffix == ".ark" else [])]
    with asked_for(*made, overwrite=args.overwrite), ExitStack() as stack:
        temporary = [stack.enter_context(whole(path)) for path in made]
        if args.output.suffix == ".ark":
            write_ark(temporary, args.output, _matrices(entries))
        else:
            _WRITERS[args.output.suffix](entries, temporary[0])
    print(f"wrote {' and '.join(map(str, made))}", file=sys.stderr)
    return 0


def _entries(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Per file: its name, the codebooks' sizes, codes [T][G], and start and end of each in seconds."""
    import torch
    from tqdm import tqdm

    from ..corpora import audio
    from ..errors import InputError
    from ..runner import plugin
    from . import devices

    entry = plugin.entry_of(args.upstream)
    device = devices.chosen(args.device)
    options = {"ckpt": args.checkpoint, "model_config": args.model_config, "refresh": False}
    upstream = entry(**options).eval().to(device)
    seconds = upstream.get_downsample_rates("hidden_states") / audio.SAMPLE_RATE
    hidden = None if args.output is not None else True
    for file in tqdm(dict.fromkeys(args.files), unit="file", disable=hidden):
        samples = torch.from_numpy(audio.read(file)).to(device)
        try:
            codes = upstream.codes_alone(samples).cpu()
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
        runs = torch.ones(len(codes), dtype=torch.int64)
        if args.collapse:
            codes, runs = torch.unique_consecutive(codes, dim=0, return_counts=True)
        ends = runs.cumsum(0)
        yield {
            "file": str(file),
            "sizes": list(upstream.codebook_sizes),
            "codes": codes.tolist(),
            "start": [round(frame * seconds, 6) for frame in (ends - runs).tolist()],
            "end": [round(frame * seconds, 6) for frame in ends.tolist()],
        }


def _write_lines(entries: Iterator[dict[str, Any]], path: Path) -> None:
    with open(path, "w") as file:
        file.writelines(f"{json.dumps(entry)}\n" for entry in entries)


def _write_npz(entries: Iterator[dict[str, Any]], path: Path) -> None:
    import numpy as np

    arrays: dict[str, Any] = {}
    for entry in entries:
        arrays[f"{entry['file']}.codes"] = np.array(entry["codes"], dtype=np.int64)
        for key in ("start", "end"):
            arrays[f"{entry['file']}.{key}"] = np.array(entry[key])
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _matrices(entries: Iterator[dict[str, Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """Per file its name and float32 [T, 2 + G]: start, end, codes, which are whole numbers."""
    import numpy as np

    for entry in entries:
        yield (
            entry["file"],
            np.column_stack([entry["start"], entry["end"], entry["codes"]]).astype(np.float32),
        )


def _require_kaldiio() -> None:
    import importlib.util

    from ..errors import InputError

    if importlib.util.find_spec("kaldiio") is None:
        raise InputError(
            "Kaldi's archives need kaldiio: pip install 's3prl-vqpool[ark]'; or name a .jsonl or .npz."
        )


_WRITERS = {".jsonl": _write_lines, ".npz": _write_npz}
