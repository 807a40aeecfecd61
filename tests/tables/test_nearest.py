"""Scores of poolings by nearest neighbour, against loops."""

from __future__ import annotations

import pytest
import torch
from fakes import SIZES, features, fold, random_codes, random_frames
from nearest_loop import loop
from torch import Tensor

from s3prl_vqpool import pooling
from s3prl_vqpool.tables.nearest import accuracy, evaluate
from s3prl_vqpool.tables.table1 import unsupervised


def test_accuracy_needs_all_slots_right() -> None:
    vectors = torch.eye(2).repeat(3, 1)
    labels = torch.tensor([[0, 0], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1]])
    train, rows = torch.tensor([0, 1]), torch.tensor([2, 3, 4, 5])
    assert accuracy(vectors, labels, train, rows) == 50
    weights = torch.tensor([3.0, 1, 1, 1], dtype=torch.float64)
    assert accuracy(vectors, labels, train, rows, weights) == pytest.approx(100 * 4 / 6)


LENGTHS = [1, 4, 9, 3, 7, 2, 5, 5, 8, 3, 6, 4] * 3
LABELS = torch.tensor([[k % 4] for k in range(36)])
FOLDS = [
    fold(range(20), range(20, 28), range(28, 36), "fold1"),
    fold(range(16, 36), range(8), range(8, 16), "fold2"),
]


POINTS = ["AP+std", "VQ-LP+std|standardise", "VQ-BP|whitening", "mean+std|softdecay"]


@pytest.mark.parametrize("name", [*unsupervised(), *POINTS])
def test_evaluate_perfect_encoder_scores_100(name: str) -> None:
    frames = [torch.eye(4)[label].expand(n, 4) for (label,), n in zip(LABELS.tolist(), LENGTHS)]
    scores = list(evaluate(name, features(frames, random_codes(LENGTHS)), LABELS, FOLDS))
    assert [score.accuracy for score in scores] == [100, 100]


@pytest.mark.parametrize("name", unsupervised())
def test_evaluate_constant_encoder_scores_share_of_first_class(name: str) -> None:
    frames = [torch.tensor([0.3, -2.0, 1.7]).expand(n, 3) for n in [4] * 36]
    labels = LABELS.clone()
    labels[28:31] = labels[0]  # 4 of fold1's 8 test utterances
    labels[31:36] = torch.tensor([[0], [1], [2], [3], [1]])
    (score,) = evaluate(name, features(frames, random_codes([4] * 36)), labels, FOLDS[:1])
    assert score.accuracy == 50


def one_by_one(name: str, frames: list[Tensor], codes: list[Tensor], train: list[int]) -> list[Tensor]:
    """The pooled vector of each utterance alone, with the statistics of ``train``."""
    known = pooling.method(name)
    options: dict[str, object] = {}
    if known.needs_counts:
        parts = [pooling.counts(codes[k][None], torch.tensor([len(codes[k])]), SIZES) for k in train]
        options["counts"] = sum(parts[1:], parts[0])
    if known.map is not None:
        before = torch.stack(one_by_one(known.unmapped.name, frames, codes, train))[train]
        options["statistics"] = pooling.fit(name, before)
    module = pooling.build(name, frames[0].shape[1], **options)
    return [module(f[None], torch.tensor([len(f)]), q[None])[0] for f, q in zip(frames, codes)]


def tuned(name: str) -> bool:
    return any(option.grid for option in pooling.method(name).options)


@pytest.mark.parametrize("name", [name for name in [*unsupervised(), *POINTS] if not tuned(name)])
def test_evaluate_equals_loop(name: str) -> None:
    frames, codes = random_frames(LENGTHS), random_codes(LENGTHS)
    scores = list(evaluate(name, features(frames, codes), LABELS, FOLDS))
    for score, each in zip(scores, FOLDS):
        train, test = each.train.tolist(), each.test.tolist()
        vectors = torch.stack(one_by_one(name, frames, codes, train))
        found = [train[k] for k in loop(vectors[train], vectors[test])]
        right = sum(LABELS[a] == LABELS[b] for a, b in zip(found, test))
        assert (score.fold, score.accuracy) == (each.name, pytest.approx(100 * float(right) / len(test)))


@pytest.mark.parametrize("name", [*unsupervised(), *POINTS, "VQ-SIF+std|standardise"])
def test_evaluate_statistics_are_those_of_train(name: str) -> None:
    """Utterances beside a fold change nothing: neither their codes nor their frames are counted or fitted."""
    frames, codes = random_frames(LENGTHS), random_codes(LENGTHS)
    before = list(evaluate(name, features(frames, codes), LABELS, FOLDS))
    more = [9] * 30
    frames, codes = frames + random_frames(more, seed=5), codes + [torch.zeros(9, 2, dtype=torch.int64)] * 30
    labels = torch.cat([LABELS, torch.zeros(30, 1, dtype=torch.int64)])
    assert list(evaluate(name, features(frames, codes), labels, FOLDS)) == before
    half = [fold(f.train, f.dev, f.test[:4], f.name) for f in FOLDS]
    rest = [fold(f.train, f.dev, f.test[4:], f.name) for f in FOLDS]
    for whole, *parts in zip(
        before, *(evaluate(name, features(frames, codes), labels, f) for f in (half, rest))
    ):
        assert whole.accuracy == sum(part.accuracy for part in parts) / 2
        assert [part.options for part in parts] == [whole.options] * 2


SIF_A = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def sif(dev: list[int], test: list[int], weights: list[float] | None = None) -> tuple[float, float | None]:
    """Accuracy and a, where a small a finds class 1 and the largest finds class 0.

    The index has e1 (class 0) and e2 (class 1), of one tuple of codes that makes up all of training. A query has a
    frame 100 e1 of that tuple, weight a / (1 + a), and a frame e2 of a tuple never seen, weight 1.
    """
    common, unseen = torch.tensor([0, 0]), torch.tensor([3, 3])
    e1, e2 = torch.eye(2)
    frames = [e1[None], e2[None]] + [torch.stack([100 * e1, e2])] * len(dev + test)
    codes = [common[None], common[None]] + [torch.stack([common, unseen])] * len(dev + test)
    labels = torch.tensor([[0], [1], *([k] for k in dev + test)])
    rows = range(2, 2 + len(dev)), range(2 + len(dev), 2 + len(dev + test))
    (score,) = evaluate("VQ-SIF", features(frames, codes), labels, [fold([0, 1], *rows, weights=weights)])
    assert [each.options["a"] for each in score.candidates] == list(SIF_A)
    return score.accuracy, score.options["a"]


def test_sif_a_is_chosen_on_dev_where_test_disagrees() -> None:
    assert sif(dev=[1], test=[0]) == (0, 1e-5)
    assert sif(dev=[0], test=[1]) == (0, 1e-1)
    assert sif(dev=[0], test=[0]) == (100, 1e-1)
    assert sif(dev=[1], test=[1]) == (100, 1e-5)


def test_sif_a_dev_utterances_count_by_their_weight() -> None:
    assert sif(dev=[0, 1, 1], test=[0], weights=[3.0, 1.0, 1.0]) == (100, 1e-1)
    assert sif(dev=[0, 1, 1], test=[0], weights=[1.0, 1.0, 1.0]) == (0, 1e-5)


@pytest.mark.parametrize("name", unsupervised())
def test_evaluate_float16_frames(name: str) -> None:
    frames, codes = [x.half() for x in random_frames(LENGTHS)], random_codes(LENGTHS)
    scores = list(evaluate(name, features(frames, codes), LABELS, FOLDS))
    assert scores == list(evaluate(name, features([x.float() for x in frames], codes), LABELS, FOLDS))
