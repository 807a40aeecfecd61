"""Weights that codes may be made with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import InputError


def require_finite(weights: Mapping[str, Tensor], origin: str) -> None:
    """InputError that names ``origin`` and the first weight that holds NaN or infinity."""
    for name, weight in weights.items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise InputError(
                f"{origin}: its weights are not finite: {name} holds NaN or infinity. Take another copy or an earlier "
                "checkpoint."
            )
