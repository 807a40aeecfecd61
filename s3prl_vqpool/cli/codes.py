"""`vqpool codes`: the code indices of audio, with times."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .embed import GIVEN
from .options import add_checkpoint, add_device, add_model_config, add_overwrite, add_upstream

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from ..corpora.table.clips import Clip

    Entries = Iterator[tuple[Clip, dict[str, Any]]]

HELP = (
    "Print the codes of audio as JSON lines, or write them to a file. The name of the file decides its format: .jsonl, "
    ".npz (arrays FILE.codes, FILE.start and FILE.end; of a segment ID.codes and so on) or .ark (Kaldi's, with .scp; "
    "needs kaldiio). An .ark has a vector of integers for each utterance, as copy-int-vector reads it: an index for "
    "each frame or, with --collapse, for each run. Of several codebooks it is one joint index, i * V2 + j of codes i "
    "and j; numpy.unravel_index(index, sizes) gives the codes back. Times are in seconds. Each file is computed "
    "separately."
)
EXAMPLE = (
    "vqpool codes one.wav two.flac -u wav2vec2_vq --collapse --output units.jsonl\n"
    "  vqpool codes data/train -u wav2vec2_vq --output units.ark"
)
SUFFIXES = (".jsonl", ".npz", ".ark")
_MOST_INDICES = 2**31
"""Of an int32."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help=GIVEN)
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
    from ..corpora.table.clips import clips
    from ..errors import InputError
    from ..files import asked_for, whole
    from ..store import vectors

    archive = args.output is not None and args.output.suffix == ".ark"
    if args.output is not None:
        if args.output.suffix not in SUFFIXES or not args.output.parent.is_dir():
            raise InputError(f"{args.output}: name a {', '.join(SUFFIXES)} file in a folder that exists.")
        if archive:
            vectors.require(args.output)
    found = clips(list(dict.fromkeys(args.audio)), unique=archive)
    if archive:
        vectors.check_ids(args.output, [clip.id for clip in found])
    entries = _entries(args, found)
    if args.output is None:
        for _, entry in entries:
            print(json.dumps(entry), flush=True)
        return 0
    made = vectors.files(args.output) if archive else [args.output]
    with asked_for(*made, overwrite=args.overwrite), ExitStack() as stack:
        temporary = [stack.enter_context(whole(path)) for path in made]
        if archive:
            vectors.write_ark(temporary, args.output, _indices(entries))
        else:
            _WRITERS[args.output.suffix](entries, temporary[0])
    print(f"wrote {' and '.join(map(str, made))}", file=sys.stderr)
    return 0


def _entries(args: argparse.Namespace, found: Sequence[Clip]) -> Entries:
    """Each utterance with its id, file, the codebooks' sizes, codes [T][G], and start and end of each in seconds."""
    import torch
    from tqdm import tqdm

    from ..errors import InputError

    upstream, device = _upstream(args)
    rate = upstream.get_downsample_rates("hidden_states")
    for clip in tqdm(found, unit="utterance", disable=None if args.output is not None else True):
        samples = torch.from_numpy(clip.read()).to(device)
        try:
            codes = upstream.codes_alone(samples).cpu()
        except InputError as error:
            raise InputError(f"{clip.path}: {error}") from error
        runs = torch.ones(len(codes), dtype=torch.int64)
        if args.collapse:
            codes, runs = torch.unique_consecutive(codes, dim=0, return_counts=True)
        ends = runs.cumsum(0)
        yield (
            clip,
            {
                "id": clip.id,
                "file": str(clip.path),
                "sizes": list(upstream.codebook_sizes),
                "codes": codes.tolist(),
                "start": _seconds(ends - runs, rate),
                "end": _seconds(ends, rate),
            },
        )


def _upstream(args: argparse.Namespace) -> tuple[Any, torch.device]:
    from ..runner import plugin
    from . import devices

    entry = plugin.entry_of(args.upstream)
    device = devices.chosen(args.device)
    upstream = entry(ckpt=args.checkpoint, model_config=args.model_config, refresh=False)
    return upstream.eval().to(device), device


def _seconds(frames: Tensor, rate: int) -> list[float]:
    from ..corpora import audio

    return [round(frame * rate / audio.SAMPLE_RATE, 6) for frame in frames.tolist()]


def _write_lines(entries: Entries, path: Path) -> None:
    with open(path, "w") as file:
        file.writelines(f"{json.dumps(entry)}\n" for _, entry in entries)


def _write_npz(entries: Entries, path: Path) -> None:
    import numpy as np

    arrays: dict[str, Any] = {}
    for clip, entry in entries:
        name = entry["file"] if clip.frames is None else clip.id
        arrays[f"{name}.codes"] = np.array(entry["codes"], dtype=np.int64)
        for key in ("start", "end"):
            arrays[f"{name}.{key}"] = np.array(entry[key])
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _indices(entries: Entries) -> Iterator[tuple[str, np.ndarray]]:
    """Per utterance its id and int32 [T]: the code or, of several codebooks, their joint index.

    Raises:
        InputError: more joint indices than an int32 can tell apart.
    """
    import numpy as np

    from ..errors import InputError

    for clip, entry in entries:
        sizes = entry["sizes"]
        if math.prod(sizes) > _MOST_INDICES:
            raise InputError(
                f"--output: codebooks of {' x '.join(map(str, sizes))} entries have more joint indices than Kaldi's "
                "integers: name a .jsonl or .npz."
            )
        yield clip.id, np.ravel_multi_index(np.array(entry["codes"]).T, sizes).astype(np.int32)


_WRITERS = {".jsonl": _write_lines, ".npz": _write_npz}
