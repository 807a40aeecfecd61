"""UtteranceDataset: what is cut where, seeding in workers, preloading; describe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_folders import fluent_commands_folder, refused, wav
from torch.utils.data import DataLoader

from s3prl_vqpool.corpora import Utterance, UtteranceDataset, collate, describe
from s3prl_vqpool.corpora.fluent_commands import fluent_commands
from s3prl_vqpool.corpora.sampling import TrainingSampler

RAMP = np.arange(16000, dtype=np.float32) / 16000


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Sample t is t / 16000, so a piece tells where it was cut."""
    return wav(tmp_path / "ramp.wav", RAMP, subtype="FLOAT")


def starts(pieces: list[np.ndarray]) -> list[int]:
    return [round(float(piece[0]) * 16000) for piece in pieces]


def test_max_samples_cuts_contiguous_pieces_anywhere(ramp: Path) -> None:
    dataset = UtteranceDataset([Utterance(ramp, (0,), "a")], max_samples=15998)
    pieces = [dataset[0][0] for _ in range(60)]
    assert set(starts(pieces)) == {0, 1, 2}
    for piece, start in zip(pieces, starts(pieces)):
        np.testing.assert_array_equal(piece, RAMP[start : start + 15998])


def test_shorter_utterances_are_left_whole(ramp: Path) -> None:
    samples, label, name, weight = UtteranceDataset([Utterance(ramp, (3, 1), "a", 2.5)], max_samples=16000)[0]
    np.testing.assert_array_equal(samples, RAMP)
    assert (label, name, weight) == ((3, 1), "a", 2.5)


@pytest.mark.parametrize("preload", [False, True])
def test_fixed_excerpts_are_fixed_and_random_ones_random(ramp: Path, preload: bool) -> None:
    utterances = [
        Utterance(ramp, (0,), "a", start=5000, frames=2000),
        Utterance(ramp, (0,), "b", frames=2000),
    ]
    dataset = UtteranceDataset(utterances, preload=preload)
    np.testing.assert_array_equal(dataset[0][0], RAMP[5000:7000])
    random = [dataset[1][0] for _ in range(20)]
    assert {len(piece) for piece in random} == {2000}
    assert len(set(starts(random))) > 10


def test_pieces_repeat_with_the_seed_and_differ_between_workers(ramp: Path) -> None:
    dataset = UtteranceDataset([Utterance(ramp, (0,), "a")] * 8, max_samples=400)

    def draw() -> list[int]:
        torch.manual_seed(7)
        loader = DataLoader(dataset, batch_size=1, num_workers=2, collate_fn=collate)
        return [start for wavs, *_ in loader for start in starts(wavs)]

    first = draw()
    assert first == draw()
    assert len(set(first)) == 8


def test_training_pieces_do_not_depend_on_the_number_of_workers(ramp: Path) -> None:
    """A machine with other cores has another default number of workers."""
    dataset = UtteranceDataset(
        [Utterance(ramp, (0,), "a", frames=400), Utterance(ramp, (0,), "b", frames=400)]
    )

    def epoch(number: int, workers: int) -> list[int]:
        sampler = TrainingSampler(2, [1.0, 0.0], 3, number)
        sampler.size = 12  # the one utterance is drawn again and again, as a file of noise is
        loader = DataLoader(dataset, batch_size=5, sampler=sampler, num_workers=workers, collate_fn=collate)
        return [start for wavs, *_ in loader for start in starts(wavs)]

    first = epoch(0, workers=0)
    assert epoch(0, workers=0) == epoch(0, workers=1) == epoch(0, workers=3) == first
    assert len(set(first)) == 12
    assert not set(first) & set(epoch(1, workers=0))


def test_preload_reads_once(ramp: Path) -> None:
    dataset = UtteranceDataset([Utterance(ramp, (0,), "a")], gain_db=-3.0, preload=True)
    ramp.unlink()
    np.testing.assert_allclose(dataset[0][0], RAMP * 10**-0.15, rtol=1e-6)


def test_collate_gives_a_tuple_per_field(ramp: Path) -> None:
    dataset = UtteranceDataset([Utterance(ramp, (0,), "a", 1.5), Utterance(ramp, (1,), "b", 0.5)])
    wavs, labels, names, weights = collate([dataset[0], dataset[1]])
    np.testing.assert_array_equal(np.stack(wavs), np.stack([RAMP, RAMP]))
    assert (labels, names, weights) == (((0,), (1,)), ("a", "b"), (1.5, 0.5))


def test_max_samples_below_one_frame_is_refused(ramp: Path) -> None:
    with refused("Expected max_timestep of at least 400 (25 ms), but got 399."):
        UtteranceDataset([Utterance(ramp, (0,), "a")], max_samples=399)


def test_describe_counts_splits_and_classes(tmp_path: Path) -> None:
    corpus = fluent_commands(fluent_commands_folder(tmp_path))
    assert describe(corpus) == "fluent_commands: train 3, dev 1, test 2; classes 2 + 3 + 2"
