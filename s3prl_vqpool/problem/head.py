"""The head of `s3prl.problem`'s models: that of the runner's experts, with S3PRL's newer interface."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import codes, pooling
from ..errors import InputError
from ..runner.config import Section
from ..runner.head import SuperbHead

#: What `build_downstream` may hold, and its defaults.
DEFAULTS = {"hidden_size": 256, "pooling": "VQ-LP", "pooling_options": {}, "pooling_statistics": None}


class PoolingHead(SuperbHead):
    """SUPERB's linear head with any pooling, where S3PRL has `s3prl.nn.MeanPoolingLinear`.

    Args:
        input_size: D, size of a frame.
        output_size: number of logits.
        build_downstream: the config's section of that name, see `DEFAULTS`.

    Raises:
        InputError: an unknown key, pooling or option; a pooling with a map, which the runner alone fits; statistics
            for a pooling without, or none for one that needs them.
    """

    def __init__(self, input_size: int, output_size: int, build_downstream: dict[str, Any]) -> None:
        Section("build_downstream", build_downstream, list(DEFAULTS))
        section = Section("build_downstream", {**DEFAULTS, **build_downstream})
        method, self.statistics_path = pooling.method(str(section["pooling"])), section["pooling_statistics"]
        if method.map is not None:
            raise InputError(
                f"build_downstream.pooling {method.name}: its map is fitted by run_downstream.py alone: train it there."
            )
        if method.needs_statistics != (self.statistics_path is not None):
            raise InputError(
                f"build_downstream.pooling_statistics: pooling {method.name} "
                + (
                    "needs a file, such as the pooling_statistics.safetensors of an experiment with it."
                    if method.needs_statistics
                    else "takes none: leave it out."
                )
            )
        hidden = section.whole("hidden_size", most=2**16)
        super().__init__(input_size, hidden, output_size, method.name, section["pooling_options"])
        self.input_size, self.output_size = input_size, output_size

    def forward(self, x: Tensor, x_len: Tensor) -> Tensor:
        """Logits [B, C] of frames [B, T, D] with lengths ``x_len`` [B] and the codes published for them.

        Raises:
            InputError: the pooling needs codes, and there are none of this batch.
        """
        frames, method = x_len.tolist(), self.model.method
        batch = codes.require(frames, method.name) if method.needs_codes else codes.take(frames)
        return self.logits(x, x_len, batch)
