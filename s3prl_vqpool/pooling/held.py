"""Modules whose buffers are training statistics. Their size is unknown until they are given or loaded."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Held(nn.Module):
    """Buffers that start empty and take the size of what is set or loaded."""

    def __init__(self, **buffers: Tensor) -> None:
        super().__init__()
        self._held = tuple(buffers)
        for name, empty in buffers.items():
            self.register_buffer(name, empty)

    @property
    def has_statistics(self) -> bool:
        """Whether training statistics were set or loaded."""
        return all(getattr(self, name).numel() > 0 for name in self._held)

    def hold(self, **tensors: Tensor) -> None:
        """Replaces the buffers by copies on their device."""
        for name, tensor in tensors.items():
            setattr(self, name, tensor.detach().to(getattr(self, name).device, copy=True))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        present = {name: state_dict[prefix + name] for name in self._held if prefix + name in state_dict}
        self.hold(**present)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
