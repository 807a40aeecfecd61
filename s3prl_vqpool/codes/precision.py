"""The transformer of an upstream in a shorter format, or in float32 by faster products.

What codes are made from stays as it is, so codes do too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import InputError
from ..pooling.rows import product
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

    In float32 on a CPU, its linear layers are multiplied by oneDNN instead, which changes them by rounding.
    Attention's own projections stay with torch. No gradient can be had.

    Args:
        precision: a key of `DTYPES` that `require` lets pass.
    """
    transformer = upstream.transformer
    device = "" if transformer is None else next(transformer.parameters()).device.type
    if transformer is None or (precision == FLOAT32 and device != "cpu"):
        yield
        return
    forward = transformer.forward

    def shorter(*args: Any, **kwargs: Any) -> Any:
        with _ByOneDNN() if precision == FLOAT32 else torch.autocast(device, DTYPES[precision]):
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


class _ByOneDNN(TorchFunctionMode):
    """`torch.nn.functional.linear` as `product`."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        called = _linear if func is torch.nn.functional.linear else func
        return called(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return product(input, weight, bias)


def _contiguous(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """S3PRL gives its first layer a transposed view; oneDNN copies the weight for each frame of one."""
    return args[0].contiguous(), *args[1:]
