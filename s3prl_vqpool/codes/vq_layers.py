"""What S3PRL's VQ-APC and NPC share: a model of fbank frames whose last features go through VQ layers, one a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import sections
from ..checkpoints.models import from_memory, untrusted
from ..corpora import audio
from ..errors import InputError
from .upstream import WithCodes, best_entries


def load(path: str) -> dict[str, Any]:
    """The config and the weights of a checkpoint of APC or NPC, as `sections.load` gives them."""
    return sections.load(path, ("config",), "model")


class WithVqLayers(WithCodes):
    """`WithCodes` for an S3PRL expert whose ``model.vq_layers`` are VQ layers (s3prl/upstream/apc/vq.py).

    The code of a frame in a group is the argmax of the logits with which the forward pass itself has quantized,
    without Gumbel noise also while training.
    """

    #: S3PRL's APC or NPC, and its fbank: float [1, samples] to [T, D].
    model: Any
    preprocessor: Any

    def build(self, ckpt: str, constructor: FunctionType, kind: str) -> None:
        """Run S3PRL's ``constructor`` of a model called ``kind`` on the checkpoint, read as data.

        Raises:
            InputError: the checkpoint is damaged, another model's, or its model has no VQ layers.
        """
        content = load(ckpt)
        with untrusted(ckpt, content["model"], kind):
            spoken = dict(content["config"]["data"]["audio"])  # S3PRL's constructor empties its own
            from_memory(constructor, torch=SimpleNamespace(load=lambda *_, **__: content))(self, ckpt)
            self.window, self.hop = (
                int(audio.SAMPLE_RATE * spoken.get(key, milliseconds) * 0.001)
                for key, milliseconds in (("frame_length", 25.0), ("frame_shift", 10.0))
            )
            self._try()
        layers = getattr(self.model, "vq_layers", ())
        if not layers:
            raise InputError(
                f"{ckpt}: this {kind} has no VQ layers, so there are no codes: fit codebooks with vqpool kmeans and "
                "use -u kmeans_vq."
            )
        self.codebook_sizes = tuple(layer.codebook_size for layer in layers)
        if spoken.get("cmvn", True):
            self.min_frames = 2  # it divides by the standard deviation over time
        self._logits: dict[int, Tensor] = {}
        for group, layer in enumerate(layers):
            layer.vq_logits.register_forward_hook(self._keeper(group))

    def _try(self) -> None:
        """Run on three frames: only that tells whether what the config says of fbank is possible."""
        features = self.preprocessor(torch.ones(1, self.window + 2 * self.hop))
        if len(features) != 3:
            raise ValueError(f"{len(features)} frames where its frame_length and frame_shift give 3")

    def _keeper(self, group: int) -> Callable[..., None]:
        def keep(module: Any, args: Any, output: Tensor) -> None:
            self._logits[group] = output.detach()

        return keep

    @torch.no_grad()
    def quantize(self, result: dict[str, Any], wavs: Sequence[Tensor]) -> Tensor:
        logits, self._logits = self._logits, {}
        return torch.cat([best_entries(logits[group], 1) for group in sorted(logits)], dim=-1)
