"""`s3prl.nn.S3PRLUpstream`, with codes."""

from __future__ import annotations

from typing import Any

from s3prl.nn.upstream import S3PRLUpstream
from torch import Tensor

from .. import codes as handover


class UpstreamWithCodes(S3PRLUpstream):
    """`s3prl.nn.S3PRLUpstream` that gives codes, or hands them over to the head of the same batch.

    Args: those of `S3PRLUpstream`, such as ``name="wav2vec2_vq"`` and ``path_or_url``.
    """

    def forward(self, wavs: Tensor, wavs_len: Tensor, codes: bool = False) -> tuple[Any, ...]:
        """Hidden states of every layer, as `S3PRLUpstream` gives them, and on request the codes.

        Args:
            wavs: float [B, samples] or [B, samples, 1] at 16 kHz.
            wavs_len: int64 [B], samples of each utterance.
            codes: whether the codes are returned too. If not, they stay published for the head.

        Returns:
            A list of L tensors [B, T, D] and a list of L tensors int64 [B], frames of each utterance. With ``codes``
            also int64 [B, T', G], -1 beyond an utterance's end, and int64 [B], the frames that its audio really has.
            S3PRL rounds frames up and may repeat the last one, so T' and the second lengths may be less.

        Raises:
            InputError: ``codes`` from an upstream that has none, or an utterance too short for a frame.
        """
        handover.publish(None)
        states, lengths = super().forward(wavs, wavs_len)
        frames = lengths[0].tolist()
        handover.recount(frames)
        if not codes:
            return states, lengths
        batch = handover.require(frames, "with codes=True")
        return states, lengths, batch.indices, batch.lengths
