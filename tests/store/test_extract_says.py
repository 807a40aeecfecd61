"""What extraction says before it begins, and the dtype of its codes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import extract as filling
from s3prl_vqpool.store.rows import Listing

WANTED: dict[str, Any] = {
    "samples": 9 * 3600 * 16000, "dtype": "float32", "layers": 1, "dim": 25, "poolings": ["AP"], "frames": False,
    "codebook_sizes": [5],
}  # fmt: skip


def listing(*samples: int) -> Listing:
    return Listing(
        [Utterance(Path(f"/{k}.wav"), (0,), str(k)) for k in range(len(samples))], list(samples), 0.0, 0
    )


@pytest.mark.parametrize(
    ("there", "shards"),
    [([False] * 3, "3"), ([True, False, False], "3, 1 there already"), ([True], "1, 1 there already")],
)
def test_size_and_what_is_there_is_said(
    there: list[bool], shards: str, capsys: pytest.CaptureFixture
) -> None:
    filling._say(listing(1, 2), WANTED, [700, 1000], there, world=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"2 utterances, 9.00 h of speech; shards: {shards}; about ")


@pytest.mark.parametrize(("shards", "world", "advice"), [(79, 4, "of 3"), (5, 2, "of 1"), (80, 4, None)])
def test_processes_that_will_wait_are_said(
    shards: int, world: int, advice: str | None, capsys: pytest.CaptureFixture
) -> None:
    filling._say(listing(1, 2), WANTED, [700, 1000], [False] * shards, world)
    _, *others = capsys.readouterr().out.splitlines()
    assert [advice in line for line in others if advice] == [True] * (advice is not None)
    assert len(others) == (advice is not None)


@pytest.mark.parametrize(("sizes", "dtype"), [([5, 2**15], torch.int16), ([2**15 + 1, 5], torch.int32)])
def test_codes_take_two_bytes_where_they_fit(sizes: list[int], dtype: torch.dtype) -> None:
    codes = [torch.tensor([[max(sizes) - 1, 0]]), torch.tensor([[1, 2], [3, 4]])]
    encoded = [
        {"codes": each, "frames": torch.ones(len(each), 3) * k, "vectors.AP": torch.ones(2, 3) * k}
        for k, each in enumerate(codes)
    ]
    found = filling._joined(encoded, sizes)
    assert found["codes"].dtype == dtype
    assert found["codes"].tolist() == torch.cat(codes).tolist()
    assert found["frames"].tolist() == [[0] * 3, [1] * 3, [1] * 3]
    assert found["vectors.AP"].shape == (2, 2, 3)
    assert found["vectors.AP"][1].eq(1).all()


def test_an_utterance_that_is_too_short_is_named() -> None:
    upstream: Any = SimpleNamespace(min_frames=2, code_lengths=lambda samples: [n // 100 for n in samples])
    assert list(filling._lengths(upstream, listing(200, 399))) == [2, 3]
    with pytest.raises(InputError, match=r"^/1\.wav: too short for 2 frame\(s\)"):
        filling._lengths(upstream, listing(200, 199))
