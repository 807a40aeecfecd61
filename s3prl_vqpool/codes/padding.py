"""wav2vec 2.0 computed so that the padding of a batch changes no utterance's numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from s3prl.upstream.wav2vec2.wav2vec2_model import TransformerEncoder, Wav2Vec2Model
from torch import Tensor, nn


def masks_padding(model: Wav2Vec2Model) -> bool:
    """Whether padding changes nothing after the first convolutions of S3PRL's model.

    Attention is (it masks), and one positional convolution is (padding is set to 0 before it, as beyond an
    utterance's end). A stack of positional convolutions (data2vec), Conformer's convolutions and a sequence cut
    to a multiple of frames are not.
    """
    return (
        type(model.encoder) is TransformerEncoder
        and isinstance(model.encoder.pos_conv, nn.Sequential)
        and isinstance(model.encoder.pos_conv[0], nn.Conv1d)
        and model.crop_seq_to_multiple == 1
    )


@contextmanager
def convolved_apart(model: nn.Module, samples: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Inside this context, utterances of different lengths do not share a call of the feature extractor.

    Models with LayerNorm there do not need it, because a frame sees its own samples only. With GroupNorm (base)
    every frame depends on its whole row, padding included.

    Args:
        model: S3PRL's or Hugging Face's; its ``feature_extractor`` makes [B, C, T] of waveforms [B, S].
        samples: gives the number of samples of each utterance of the batch.
    """
    extractor: nn.Module = model.feature_extractor  # type: ignore[assignment]
    if not any(isinstance(module, nn.GroupNorm) for module in extractor.modules()):
        yield
        return
    own, forward = vars(extractor), extractor.forward
    before = {name: own[name] for name in ("forward",) if name in own}  # that of `blocks`
    own["forward"] = lambda source: _apart(forward, source, samples())
    try:
        yield
    finally:
        del own["forward"]
        own.update(before)


def _apart(extract: Callable[[Tensor], Tensor], source: Tensor, lengths: Sequence[int]) -> Tensor:
    """[B, C, T] of padded waveforms [B, S]; 0 where a row has no more frames."""
    samples = torch.tensor(lengths, device=source.device)
    groups = [(samples == n).nonzero().squeeze(1) for n in sorted(set(lengths), reverse=True)]
    parts = [extract(source[rows, : lengths[int(rows[0])]]) for rows in groups]
    output = parts[0].new_zeros(len(lengths), *parts[0].shape[1:])
    for rows, part in zip(groups, parts):
        output[rows, :, : part.size(2)] = part
    return output
