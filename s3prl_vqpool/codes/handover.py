"""Code indices of a batch, and their hand-over from the upstream to the downstream of the same batch.

S3PRL's runner passes only the selected hidden states from the upstream to the downstream expert
(s3prl/downstream/runner.py: ``features = featurizer(wavs, features)``). So the upstream publishes the codes
of the batch that it has just computed, and the expert takes them, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Codes:
    """The codebook indices of one batch.

    Attributes:
        indices: int64 [B, T, G], index of each frame in each of G codebooks; -1 beyond an utterance's length.
        lengths: int64 [B], real frames per utterance.
        sizes: entries of each codebook, G integers.
        frames: frames that S3PRL's Featurizer keeps of each utterance (`Featurizer.tolist` rounds the
            duration, so this may be one more than ``lengths``: s3prl#394).
    """

    indices: Tensor
    lengths: Tensor
    sizes: tuple[int, ...]
    frames: tuple[int, ...]


_published: Codes | None = None


def publish(codes: Codes | None) -> None:
    """Publish ``codes`` for the downstream of this batch; None withdraws the codes of an earlier batch."""
    global _published
    _published = codes


def take(frames: Sequence[int]) -> Codes | None:
    """Take the codes of the batch whose features have ``frames`` frames each. They can be taken only once.

    Returns:
        Codes, or None if the upstream has published none since the last call.

    Raises:
        InputError: the codes belong to another batch (other number of utterances, other lengths).
    """
    codes = _published
    publish(None)
    if codes is None:
        return None
    if codes.frames != tuple(frames):
        raise _of_another_batch(codes, frames)
    return codes


def recount(frames: Sequence[int]) -> None:
    """Say that the features at hand have ``frames`` frames each, not as many as S3PRL's Featurizer keeps.

    `s3prl.nn.S3PRLUpstream` counts frames in its own way. Codes beyond ``frames`` are dropped; without published
    codes nothing happens.

    Raises:
        InputError: another number of utterances.
    """
    codes = _published
    if codes is None:
        return
    if len(frames) != len(codes.frames):
        publish(None)
        raise _of_another_batch(codes, frames)
    lengths = torch.minimum(codes.lengths, codes.lengths.new_tensor(frames))
    publish(Codes(mask_padding(codes.indices, lengths), lengths, codes.sizes, tuple(frames)))


def require(frames: Sequence[int], pooling: str) -> Codes:
    """Like `take`, but missing codes raise an error that says which upstreams publish codes."""
    codes = take(frames)
    if codes is None:
        raise InputError(
            f"Pooling {pooling} needs code indices, and the upstream published none for this batch: "
            "choose an upstream with codes (vqpool list upstreams), or modelrc.pooling=mean."
        )
    return codes


def mask_padding(indices: Tensor, lengths: Tensor) -> Tensor:
    """``indices`` [B, T, G] with -1 beyond ``lengths`` [B]."""
    padded = torch.arange(indices.size(1), device=indices.device) >= lengths[:, None]
    return indices.masked_fill(padded[:, :, None], -1)


def _of_another_batch(codes: Codes, frames: Sequence[int]) -> InputError:
    return InputError(
        f"The published codes are those of another batch: {len(codes.frames)} utterances of "
        f"{_shorten(codes.frames)} frames, but the features have {len(frames)} of {_shorten(frames)}."
    )


def _shorten(numbers: Sequence[int], most: int = 4) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")
