"""Evaluation in chunks of rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from s3prl_vqpool.trainer.loop import Trainer


@pytest.mark.parametrize(("rows", "chunks"), [(1, [1]), (128, [128]), (129, [128, 1]), (300, [128, 128, 44])])
def test_logits_of_128_rows_are_computed_together(rows: int, chunks: list[int]) -> None:
    held = []

    def forward(
        heads: object, rows: list[int], targets: torch.Tensor
    ) -> tuple[Any, torch.Tensor, torch.Tensor]:
        assert targets[:, 0].tolist() == rows
        assert not torch.is_grad_enabled()
        held.append(len(rows))
        return None, targets.T.float(), targets.expand(1, -1, -1)

    fake: Any = SimpleNamespace(_forward=forward)
    targets = torch.arange(rows)[:, None]
    losses, predicted = Trainer._answers(fake, list(range(rows)), targets, None)  # type: ignore[arg-type]
    assert held == chunks
    assert losses.tolist() == [list(range(rows))]
    assert predicted[0, :, 0].tolist() == list(range(rows))
