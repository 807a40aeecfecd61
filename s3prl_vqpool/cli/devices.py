"""The device that a command computes on."""

from __future__ import annotations

import os

import torch

from ..errors import InputError


def chosen(name: str | None) -> torch.device:
    """The device of `--device`; by default CUDA where torch sees it (torchrun's LOCAL_RANK says which), else the CPU.

    Raises:
        InputError: torch knows no such device, or does not see it here.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: torch knows no such device.") from error
    seen = {"cpu": True, "cuda": (device.index or 0) < torch.cuda.device_count()}
    if not seen.get(device.type):
        raise InputError(f"--device {name}: expected cpu, or cuda where torch sees one.")
    return device
