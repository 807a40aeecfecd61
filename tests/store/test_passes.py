"""What a pass over shards counts and tells, and which rows it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from s3prl_vqpool.corpora import Utterance, audio
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import fresh, passes
from s3prl_vqpool.store.progress import Progress
from s3prl_vqpool.store.rows import Listing

SETTINGS = {"batch_seconds": 1, "threads": 1, "dtype": "float16"}


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    """Five files of half a second and less; the last is a part of one."""
    sizes, utterances = [8000, 7000, 6000, 16000, 1600], []
    for number, size in enumerate(sizes[:4]):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.random.default_rng(number).uniform(-0.5, 0.5, size), 16000)
        utterances.append(Utterance(path, (number,), f"name {number}"))
    utterances.append(Utterance(tmp_path / "3.wav", (9,), "part", 1.0, 320, 1600))
    return Listing(utterances, sizes, 0.0, 0)


def test_every_row_is_encoded_in_its_batch_and_told(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Any] = []

    class Noted(Progress):
        def __init__(self, *given: Any, **bar: Any) -> None:
            super().__init__(*given, **bar)
            self.given, self.parts = given, []
            bars.append(self)

        def advance(self, amount: float = 1, note: str = "") -> None:
            super().advance(amount, note)
            self.parts.append((amount, note))

    monkeypatch.setattr(passes, "Progress", Noted)
    seen, written = [], []

    def encode(batch: passes.Batch) -> list[dict[str, torch.Tensor]]:
        seen.append(batch.rows)
        for row, wav, sha256 in zip(batch.rows, batch.wavs, batch.hashes, strict=True):
            expected = audio.read(listing.utterances[row].path)
            if row == 4:
                expected = expected[320 : 320 + 1600]
            np.testing.assert_array_equal(wav.numpy(), expected)
            assert sha256 == fresh.digest(expected)
        return [{"codes": torch.zeros(row + 1, 1)} for row in batch.rows]

    shards = {7: [3, 0], 9: [1, 2, 4]}
    cpu = torch.device("cpu")
    with passes.progress(listing, shards.values(), "extracting", False) as progress:
        given = listing, shards.items(), SETTINGS, cpu, progress, encode
        passes.go_through(*given, lambda *shard: written.append(shard))
    assert seen == [[3], [0], [1, 2], [4]]
    assert [number for number, _, _ in written] == [7, 9]
    for number, encoded, rows in written:
        assert [len(one["codes"]) for one in encoded] == [row + 1 for row in shards[number]]
        for row, made in zip(shards[number], rows, strict=True):
            utterance = listing.utterances[row]
            assert (made.id, made.path, made.label) == (utterance.id, utterance.path, utterance.label)
            assert (made.start, made.frames) == ((320, 1600) if row == 4 else (None, None))
            assert (made.samples, made.length) == (listing.samples[row], row + 1)
            assert (made.bytes, made.modified) == fresh.stamp(utterance.path)
    (bar,) = bars
    assert bar.given == ("extracting", 38600 / 16000 / 3600, "h of speech", False)
    assert [amount * 3600 * 16000 for amount, _ in bar.parts] == pytest.approx([16000, 8000, 13000, 1600])
    assert all(note.endswith(" h of speech per hour") for _, note in bar.parts)


@pytest.mark.parametrize(
    ("dtype", "advice"), [("float16", "give --dtype float32"), ("float32", "the upstream is at")]
)
def test_numbers_that_are_not_finite_name_the_file(listing: Listing, dtype: str, advice: str) -> None:
    def encode(batch: passes.Batch) -> list[dict[str, torch.Tensor]]:
        return [
            {"codes": torch.zeros(1, 1), "x": torch.tensor([1, torch.inf ** (row == 2)])}
            for row in batch.rows
        ]

    settings, cpu = {**SETTINGS, "dtype": dtype}, torch.device("cpu")
    with pytest.raises(InputError, match=rf"2\.wav: x is not finite in {dtype}: {advice}"):
        passes.go_through(
            listing, [(0, [1, 2])], settings, cpu, Progress("x", 1, "h", False), encode, lambda *_: None
        )
