"""A convolutional feature extractor applied to a long waveform in pieces, with the same frames as on the whole.

Where it normalises over channels (LayerNorm, as wav2vec 2.0 large and XLS-R), a frame sees its own samples only, so
pieces that overlap by the window suffice. Where its first layer normalises each channel over time (GroupNorm, as
wav2vec 2.0 base), the mean and variance of the whole are found first, some channels at a time. Both equal the whole up
to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

_Kind = TypeVar("_Kind", bound=nn.Module)

FRAMES = 1000
"""Frames of a piece: 20 s of wav2vec 2.0."""
_NUMBERS = 2**25
"""Outputs of the first convolution that are held at once while statistics are found."""


def divisible(extractor: nn.Module) -> bool:
    """Whether `features` gives what ``extractor`` gives: at most the first layer normalises over time.

    Args:
        extractor: S3PRL's or Hugging Face's of wav2vec 2.0, with ``conv_layers`` in a row.
    """
    first, *others = layers(extractor)
    norms = every(first, nn.GroupNorm)
    return (
        not any(every(layer, nn.GroupNorm) for layer in others)
        and all(norm.num_groups == norm.num_channels for norm in norms)
        and all(conv.padding == (0,) and conv.dilation == (1,) for conv in every(extractor, nn.Conv1d))
    )


def geometry(*extractor: nn.Module) -> tuple[int, int]:
    """window and hop in samples: n samples give ``(n - window) // hop + 1`` frames, each of which sees ``window``.

    Of several modules in a row, in numbers that the first is given.
    """
    window, hop = 1, 1
    for conv in (conv for module in extractor for conv in every(module, nn.Conv1d)):
        window += (conv.kernel_size[0] - 1) * hop
        hop *= conv.stride[0]
    return window, hop


def features(extractor: nn.Module, wave: Tensor, frames: int = FRAMES) -> Iterator[Tensor]:
    """Output [1, C, t] of consecutive pieces of ``frames`` frames of a waveform [samples].

    A waveform of no more frames is one piece, computed as the extractor itself does.
    """
    window, hop = geometry(extractor)
    total = (len(wave) - window) // hop + 1
    if total <= frames:
        yield extractor(wave[None])
        return
    with _normalised_overevery(layers(extractor)[0], wave):
        for start in range(0, total, frames):
            end = min(start + frames, total)
            yield extractor(wave[None, start * hop : (end - 1) * hop + window])


def bytes_needed(extractor: nn.Module, samples: int) -> int:
    """About how much memory ``extractor`` takes for a waveform as a whole: three times what its first layer gives."""
    conv = every(extractor, nn.Conv1d)[0]
    return 3 * 4 * conv.out_channels * (samples // conv.stride[0])


def require_memory(needed: int, device: torch.device) -> None:
    """InputError where ``device`` has not ``needed`` bytes free, as far as the system says."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free()
    if free is not None and needed > free:
        raise InputError(
            f"needs about {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free: this model normalises over "
            "the whole file; cut it into shorter ones."
        )


def _free() -> int | None:
    """Bytes of memory that this process may still take, by the kernel and the container; None where unknown."""
    found = []
    try:
        text = Path("/proc/meminfo").read_text()
        found += [
            1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable")
        ]
        most, used = (
            Path("/sys/fs/cgroup", f"memory.{name}").read_text().strip() for name in ("max", "current")
        )
        found += [int(most) - int(used)] if most.isdecimal() else []
    except (OSError, ValueError):
        pass  # not Linux, or no such container
    return min(found, default=None)


@contextmanager
def _normalised_overevery(layer: nn.Module, wave: Tensor) -> Iterator[None]:
    """While entered, the GroupNorm of the first layer, if it has one, takes mean and variance of all of ``wave``."""
    norms = every(layer, nn.GroupNorm)
    if not norms:
        yield
        return
    (norm,), (conv,) = norms, every(layer, nn.Conv1d)
    mean, deviation = _moments(conv, norm.eps, wave)
    scale = deviation if norm.weight is None else deviation * norm.weight.float()[:, None]
    shift = -mean * scale if norm.bias is None else norm.bias.float()[:, None] - mean * scale
    vars(norm)["forward"] = lambda values: (values.float() * scale + shift).type_as(values)
    try:
        yield
    finally:
        del vars(norm)["forward"]


def _moments(conv: nn.Conv1d, eps: float, wave: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation over time of each channel of ``conv``, both [C, 1]."""
    length = (len(wave) - conv.kernel_size[0]) // conv.stride[0] + 1
    channels = max(_NUMBERS // length, 1)
    found = []
    for start in range(0, conv.out_channels, channels):
        chosen = slice(start, start + channels)
        bias = None if conv.bias is None else conv.bias[chosen]
        output = F.conv1d(wave[None, None], conv.weight[chosen], bias, conv.stride)
        count = output.size(1)
        _, mean, deviation = torch.native_group_norm(
            output.float(), None, None, 1, count, output.size(2), count, eps
        )
        found.append(torch.stack([mean[0], deviation[0]]))
    mean, deviation = torch.cat(found, dim=1)
    return mean[:, None], deviation[:, None]


def layers(extractor: nn.Module) -> list[nn.Module]:
    """The layers of an extractor, in the order of its forward."""
    return list(extractor.conv_layers)  # type: ignore[arg-type]


def every(module: nn.Module, kind: type[_Kind]) -> list[_Kind]:
    """The modules of a ``kind`` in ``module``, itself included."""
    return [each for each in module.modules() if isinstance(each, kind)]
