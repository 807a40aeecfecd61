"""Hidden states and logits that are not finite make no codes."""

from __future__ import annotations

import math

import pytest
import torch

from s3prl_vqpool.codes.upstream import best_entries, check_finite
from s3prl_vqpool.errors import InputError

LENGTHS = [5, 2, 3]


def states(layer: int, place: tuple[int, int, int], value: float) -> list[torch.Tensor]:
    made = [torch.zeros(3, 5, 4) for _ in range(3)]
    made[layer][place] = value
    return made


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 4, 3), (1, 1, 0), (2, 0, 2)])
@pytest.mark.parametrize("layer", [0, 2])
def test_the_utterance_at_fault_is_named(layer: int, place: tuple[int, int, int], value: float) -> None:
    wavs = [torch.zeros(100 + k) for k in range(3)]
    with pytest.raises(
        InputError, match=rf"^Utterance {place[0]} of the batch \({100 + place[0]} samples\): its audio is f"
    ):
        check_finite(wavs, states(layer, place, value), LENGTHS)
    wavs[place[0]][7] = math.nan
    with pytest.raises(
        InputError, match=rf"^Utterance {place[0]} of the batch .*: its audio holds NaN or infinite"
    ):
        check_finite(wavs, states(layer, place, value), LENGTHS)


def test_the_first_of_several_is_named() -> None:
    wrong = states(0, (2, 0, 0), math.nan)
    wrong[0][1, 0, 0] = math.nan
    with pytest.raises(InputError, match=r"^Utterance 1 of the batch"):
        check_finite([torch.zeros(100)] * 3, wrong, LENGTHS)


def test_padding_and_layers_between_are_not_looked_at() -> None:
    wavs = [torch.zeros(100)] * 3
    check_finite(wavs, states(0, (0, 0, 0), 0), LENGTHS)
    for layer, place in ((0, (1, 2, 0)), (2, (2, 3, 3)), (2, (1, 4, 0)), (1, (0, 0, 0))):
        check_finite(wavs, states(layer, place, math.nan), LENGTHS)


def test_entries_are_those_of_the_largest_logits() -> None:
    logits = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([part.argmax(dim=-1) for part in logits.split(4, dim=-1)], dim=-1)
    assert torch.equal(best_entries(logits, 2), expected)
    assert torch.equal(best_entries(logits.where(logits < 9, -math.inf), 2), expected)
    for place, value in (((0, 0, 0), math.nan), ((1, 2, 7), math.inf)):
        logits = logits.clone()
        logits[place] = value
        with pytest.raises(InputError, match="The logits of the codes are not finite"):
            best_entries(logits, 2)
