"""Kaldi's folder of online iVectors, which ``--online-ivector-dir`` of its nnet3 scripts takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..corpora import audio
from ..errors import InputError
from ..files import whole
from . import vectors

NAMES = ("ivector_online.1.ark", "ivector_online.scp", "ivector_period")
_FRAME = audio.SAMPLE_RATE // 100
"""Samples in a frame of Kaldi's features: 10 ms."""


def files(folder: Path) -> list[Path]:
    """The files that `write` makes.

    Raises:
        InputError: the folder is called like a file of vectors, or kaldiio is not installed.
    """
    if folder.suffix in vectors.FORMATS or folder.is_file():
        raise InputError(f"{folder}: with --ivector-period a folder is written: name one.")
    made = [folder / name for name in NAMES]
    vectors.require(made[0])
    return made


def every(period: int, rate: int) -> int:
    """Frames of an upstream, of ``rate`` samples each, in a period of so many frames of 10 ms.

    Raises:
        InputError: not a whole number of them.

    Examples:
        >>> every(10, 320)
        5
    """
    step, milliseconds = rate // math.gcd(rate, _FRAME), 1000 * rate / audio.SAMPLE_RATE
    if period < 1 or period % step:
        raise InputError(
            f"--ivector-period {period}: counts frames of 10 ms, and a frame of this upstream has {milliseconds:g} ms: "
            f"give a positive multiple of {step}."
        )
    return period * _FRAME // rate


def write(folder: Path, period: int, entries: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write float matrices [rows, E] by utterance id, all files whole or not at all. The scp has absolute paths."""
    made = files(folder)
    with ExitStack() as stack:
        *tables, said = [stack.enter_context(whole(path)) for path in made]
        vectors.write_ark(tables, made[0].absolute(), entries)
        said.write_text(f"{period}\n")
