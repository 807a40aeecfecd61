"""Shards, batches and bytes, from lengths alone."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import layout, rows

SECOND = 16_000


def test_shards_are_of_600_seconds_the_longest_first() -> None:
    samples = [300 * SECOND, 1, 300 * SECOND, 300 * SECOND, 300 * SECOND - 1, 700 * SECOND]
    assert list(layout.shards(samples)) == [[5], [0, 2], [3, 4, 1]]
    assert list(layout.shards([])) == []
    assert list(layout.shards([600 * SECOND + 1])) == [[0]]


def test_batches_count_padding() -> None:
    samples = [10 * SECOND, 7 * SECOND, 10 * SECOND, 1, 1]
    assert layout.batches([0, 1, 2, 3], samples, 20) == [[0, 1], [2, 3]]  # the longest is first
    assert layout.batches([0, 1, 2, 3], samples, 30) == [[0, 1, 2], [3]]
    assert layout.batches([1, 3, 4], samples, 21) == [[1, 3, 4]]
    assert layout.batches([1, 3, 4], samples, 20.9) == [[1, 3], [4]]
    assert layout.batches([0], samples, 1) == [[0]]
    assert layout.batches([], samples, 1) == []


@given(samples=st.lists(st.integers(1, 30 * SECOND), max_size=60), seconds=st.integers(1, 90))
def test_batches_are_as_full_as_they_may_be(samples: list[int], seconds: int) -> None:
    order = sorted(range(len(samples)), key=lambda row: -samples[row])
    found = layout.batches(order, samples, seconds)
    assert [row for batch in found for row in batch] == order
    for batch, after in zip(found, [*found[1:], None]):
        longest = samples[batch[0]]
        assert len(batch) == 1 or longest * len(batch) <= seconds * SECOND
        assert after is None or longest * (len(batch) + 1) > seconds * SECOND


@pytest.mark.parametrize(
    ("dtype", "frames", "expected"),
    [
        # 2 utterances of 2 poolings x 3 layers (one twice as long), a line of the index each; 9 frames of 2 codes
        ("float32", False, 2 * (3 * (8 + 16) * 4 + layout.ROW_BYTES) + 9 * 2 * 4),
        ("float16", False, 2 * (3 * (8 + 16) * 2 + layout.ROW_BYTES) + 9 * 2 * 4),
        ("float32", True, 2 * (3 * (8 + 16) * 4 + layout.ROW_BYTES) + 9 * (2 * 4 + 8 * 4)),
        ("float16", True, 2 * (3 * (8 + 16) * 2 + layout.ROW_BYTES) + 9 * (2 * 4 + 8 * 2)),
    ],
)
def test_disk_is_that_of_vectors_codes_frames_and_index(dtype: str, frames: bool, expected: int) -> None:
    manifest = {
        "dtype": dtype, "frames": frames, "layers": 3, "dim": 8, "poolings": ["AP", "VQ-LP+std"],
        "codebook_sizes": [5, 7],
    }  # fmt: skip
    assert layout.disk_bytes(manifest, [4, 5]) == expected


def test_a_full_disk_is_noticed_by_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(layout.shutil, "disk_usage", lambda _: usage(9999, 0, 1999))
    layout.check_disk(tmp_path / "new" / "folder", 1999, "do")
    with pytest.raises(InputError, match=r"needs 2 kB, but the disk has 2 kB free: make room, or do\.$"):
        layout.check_disk(tmp_path / "new" / "folder", 2000, "do")


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1234, "1.23 kB"), (999_999, "1e+03 kB"), (10**6, "1 MB"),
        (10**9, "1.0 GB"), (1_234_567_890_000, "1,234.6 GB"),
    ],
)  # fmt: skip
def test_size_in_words(size: int, words: str) -> None:
    assert layout.in_words(size) == words


@pytest.mark.parametrize(
    ("length", "starts"), [(700, [0]), (1000, [0]), (1999, [0]), (2000, [0, 1000]), (3500, [0, 1000, 2000])]
)
def test_a_random_excerpt_is_stored_as_the_windows_of_its_file(
    length: int, starts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows.audio, "length", lambda path: length)
    drawn = Utterance(Path("/a.wav"), (0,), "a", frames=1000)
    others = [
        Utterance(Path("/b.wav"), (0,), "b"),
        Utterance(Path("/c.wav"), (0,), "c", start=5, frames=1000),
    ]
    first, *windows, last = rows._windows([others[0], drawn, others[1]])
    assert [first, last] == others
    assert [(each.id, each.start, each.frames) for each in windows] == [
        (f"a#{k}", start, 1000) for k, start in enumerate(starts)
    ]


@pytest.mark.parametrize("same_hash", [False, True])
def test_an_utterance_of_several_splits_is_listed_once(
    same_hash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if same_hash:
        monkeypatch.setattr(rows, "repeated", lambda keys: [True for _ in keys])
    a, b = Utterance(Path("/a.wav"), (0,), "a"), Utterance(Path("/b.wav"), (1,), "b")
    part = Utterance(Path("/a.wav"), (0,), "c", start=5, frames=1000)
    again = Utterance(Path("/x/../a.wav"), (1,), "d")
    assert list(rows._once([[a, part], [b, again], [part]])) == [a, part, b]
