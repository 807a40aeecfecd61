"""The first hidden states of an upstream of S3PRL, without the layers after them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..corpora import audio


class _Enough(Exception):
    """Carries the last hidden state that is needed out of the forward pass."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state


def stops_after(upstream: Any, layer: int) -> bool:
    """Whether `hidden_states` up to ``layer`` are those of a whole forward pass, bit for bit; a second of noise tells.

    S3PRL's upstreams note their hidden states by hooks (s3prl/upstream/interfaces.py), in the order in which the
    model computes them; one that has none, or changes them afterwards, is run as a whole.
    """
    if not 0 <= layer < len(getattr(upstream, "hooks", ())) - 1:
        return False
    noise = torch.randn(audio.SAMPLE_RATE, generator=torch.Generator())  # always the same
    wavs = [noise.to(next(upstream.parameters()).device)]
    whole, parts = upstream(wavs)["hidden_states"], hidden_states(upstream, wavs, layer)
    return len(parts) == layer + 1 and all(
        torch.equal(part[:, : one.size(1)], one) for part, one in zip(parts, whole)
    )


def hidden_states(upstream: Any, wavs: Sequence[Tensor], layer: int) -> list[Tensor]:
    """Hidden states 0 to ``layer``, each [B, T, D]; T may hold the padding that the model adds at the end.

    Args:
        upstream: one that `stops_after` that layer, in eval mode.
    """
    hook = upstream.hooks[layer]
    noted = hook.transform

    def last(given: Any, output: Any) -> Tensor:
        raise _Enough(noted(given, output))

    hook.transform = last
    try:
        upstream(wavs)
    except _Enough as enough:
        return [*(state for _, state in upstream._hook_hiddens), enough.state]
    finally:
        hook.transform = noted
        upstream._hook_hiddens.clear()
    return []
