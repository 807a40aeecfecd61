"""The transformer of an upstream in a shorter format. What codes are made from stays in float32, so codes do too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .upstream import WithCodes

FLOAT32 = "float32"
DTYPES = {FLOAT32: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def require(precision: str, upstream: WithCodes, name: str, device: torch.device) -> None:
    """InputError, in one line, where ``upstream``, called ``name``, cannot be run in this precision on ``device``."""
    if precision not in DTYPES:
        raise InputError(f"precision {precision!r}: expected one of {', '.join(DTYPES)}.")
    if precision == FLOAT32:
        return
    if upstream.transformer is None:
        raise InputError(
            f"precision {precision}: {name} has no transformer behind its codes, so nothing would be shorter: take "
            f"{FLOAT32}."
        )
    if precision == "fp16" and device.type == "cpu":
        raise InputError(
            f"precision fp16: torch's products in float16 are slower on a CPU than those in {FLOAT32}: take bf16, or "
            "a GPU."
        )


@contextmanager
def transformer_in(precision: str, upstream: WithCodes) -> Iterator[None]:
    """Inside this context, the transformer alone runs under `torch.autocast`.

    Args:
        precision: a key of `DTYPES` that `require` lets pass.
    """
    transformer = upstream.transformer
    if precision == FLOAT32 or transformer is None:
        yield
        return
    forward, device = transformer.forward, next(transformer.parameters()).device.type

    def shorter(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, DTYPES[precision]):
            return forward(*args, **kwargs)

    vars(transformer)["forward"] = shorter
    layers: Any = getattr(transformer, "layers", ())
    handles = [layer.register_forward_pre_hook(_contiguous) for layer in layers[:1]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        del vars(transformer)["forward"]


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """S3PRL gives its first layer a transposed view; a product in bfloat16 copies the weight for each of its frames."""
    return args[0].contiguous(), *args[1:]
