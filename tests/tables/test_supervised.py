"""Table 2: what dev chooses, the vectors that heads are trained on, folds, seeds, layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import SIZES, fake, random_frames
from torch import Tensor

from s3prl_vqpool import corpora, pooling
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling.options import grid
from s3prl_vqpool.tables import layers, linear, stores, table2
from s3prl_vqpool.tables.linear import Fits, Settings
from s3prl_vqpool.tables.stores import Task
from s3prl_vqpool.tables.supervised import Measured, Score, chosen, evaluate, problem, settings

QUICK = Settings(batch=8, epochs=60, rates=(1e-1,), seeds=(0, 1))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, corpora.Corpus]]]:
    """The corpora, by downstream, that `stores.divisions` gives."""
    given: dict[str, list[tuple[str, corpora.Corpus]]] = {}
    monkeypatch.setattr(stores, "divisions", lambda manifest: given[manifest["downstream"]])
    return given


def one(made: dict, task: str = "sid", frames: Sequence[Tensor] | None = None, **options: object) -> Task:
    store, corpus = fake(task, **options)
    store._frames[:] = store._frames if frames is None else frames
    made[f"vqpool_{task}"] = [("", corpus)]
    return stores.tasks({Path(task): store})[0]


def test_settings_are_the_papers_or_the_papers_at_other_rates(made: dict) -> None:
    found = {task: settings(one(made, task), None, [5]) for task in ("ks", "ic", "er", "sid")}
    assert found == {
        "ks": Settings(4096, 200, (1e-2,), (5,)),
        "ic": Settings(512, 200, (1e-3,), (5,)),
        "er": Settings(512, 200, (1e-3,), (5,)),
        "sid": Settings(128, 50, (1e-3,), (5,)),
    }
    assert settings(one(made), [1.0, 2.0], [5, 6]) == Settings(128, 50, (1.0, 2.0), (5, 6))


def test_chosen_is_the_best_on_dev_where_test_disagrees() -> None:
    dev = torch.tensor([[[50.0, 90.0], [70.0, 20.0]], [[60.0, 61.0], [60.0, 60.0]]])  # [a, seeds, rates]
    predicted = torch.arange(8).view(2, 2, 2, 1, 1)
    fits = Fits(dev.double(), 100 - dev.double(), torch.arange(8).view(2, 2, 2), predicted)
    score = chosen("fold1", fits, (1e-1, 1e-2), ({"a": 1e-5}, {"a": 1e-4}))
    assert (score.rate, score.options) == (
        1e-2,
        {"a": 1e-4},
    )  # 60.5 on dev; the first has 60, 55, and this a's other rate 60
    assert score.accuracy == (39, 40)
    assert score.best == (5, 7)
    assert score.predicted.tolist() == [[[5]], [[7]]]
    assert [(each.options["a"], each.rate, each.dev) for each in score.candidates] == [
        (1e-5, 1e-1, (50, 70)),
        (1e-5, 1e-2, (90, 20)),
        (1e-4, 1e-1, (60, 60)),
        (1e-4, 1e-2, (61, 60)),
    ]
    tie = chosen(
        "", replace(fits, dev=torch.full_like(fits.dev, 50)), (1e-1, 1e-2), ({"a": 1e-5}, {"a": 1e-4})
    )
    assert (tie.rate, tie.options) == (1e-1, {"a": 1e-5})


@pytest.mark.parametrize("name", pooling.methods())
def test_evaluate_perfect_encoder_scores_100(name: str, made: dict) -> None:
    (score,) = evaluate(name, one(made, each=8), QUICK)
    assert score.accuracy == pytest.approx((100, 100))


@pytest.mark.parametrize("name", ["SP", "Whitening", "VQ-LP", "VQ-BP", "VQ-SIF", "VQ-BP+std|standardise"])
def test_evaluate_trains_on_vectors_of_one_utterance_at_a_time(name: str, made: dict) -> None:
    """With statistics of train alone; VQ-SIF's a by dev."""
    store, _ = fake("sid", each=10)
    lengths = [len(each) for each in store._frames]
    task = one(made, frames=random_frames(lengths), each=10)
    (score,) = evaluate(name, task, QUICK)
    frames, codes = task.store._frames, task.store._codes  # type: ignore[attr-defined]
    train = task.folds[0].train.tolist()
    known = pooling.method(name)
    given: dict[str, object] = {}
    if known.needs_counts:
        each = [pooling.counts(codes[k][None], torch.tensor([lengths[k]]), SIZES) for k in train]
        given["counts"] = sum(each[1:], each[0])
    if known.map is not None:
        before = pooling.build(known.unmapped.name, 6, **given)  # type: ignore[arg-type]
        alone = [before(frames[k][None], torch.tensor([lengths[k]]), codes[k][None])[0] for k in train]
        given["statistics"] = pooling.fit(name, torch.stack(alone))
    tried, test = [], []
    for options in grid(known.options):
        module = pooling.build(name, 6, **given, **options)  # type: ignore[arg-type]
        alone = [module(f[None], torch.tensor([len(f)]), q[None]) for f, q in zip(frames, codes)]
        fits = linear.fit(torch.cat(alone)[None], problem(task, task.folds[0]), QUICK)
        tried.append((options, tuple(fits.dev.flatten().tolist())))
        test.append(tuple(fits.test.flatten().tolist()))
    assert [(each.options, each.dev) for each in score.candidates] == tried
    best = max(range(len(tried)), key=lambda k: sum(tried[k][1]))
    assert (score.options, score.accuracy) == (tried[best][0], test[best])
    assert max(score.accuracy) < 100


def test_evaluate_names_no_frames_for_learned_poolings(made: dict) -> None:
    task = one(made, frames=None, poolings=["AP"])
    assert table2.choose(None, [task]) == list(pooling.methods())
    without = stores.task(Path("sid"), replace(task.store, manifest={**task.store.manifest, "frames": False}))  # type: ignore[type-var]
    assert table2.choose(None, [without]) == ["AP", "Whitening", "SoftDecay"]
    assert table2.choose(["softdecay", "AP", "SoftDecay"], [without]) == ["SoftDecay", "AP"]
    for name in ("SAP", "VQ-LP"):
        with pytest.raises(InputError, match=f"sid: has no frames for {name}"):
            table2.choose([name], [without])


def score(fold: str, *accuracy: float, **options: float) -> Score:
    predicted = torch.zeros(len(accuracy), 12, 1, dtype=torch.int64)
    return Score(fold, accuracy, (1,) * len(accuracy), 1e-3, options, (), predicted)


def test_make_averages_folds_then_seeds_by_hand(made: dict) -> None:
    tasks = [one(made, task) for task in ("ks", "sid", "ic", "er")]
    by_task = {task: [score("", 40, 60)] for task in ("KS", "SID", "IC")}
    by_task["ER"] = [score("fold1", 50, 70, a=1e-5), score("fold2", 100, 80, a=1e-2)]
    lines = dict.fromkeys(by_task, "trained")
    measured = Measured("paper", "a title", {"VQ-LP": by_task}, lines, {})
    table = table2.make(measured, {}, tasks, [0, 1], True)
    assert table.rows[0].accuracy == {"KS": 50, "SID": 50, "IC": 50, "ER": 75}  # seeds of ER: 75, 75
    assert table.rows[0].average == 56.25  # of seeds 48.75 and 63.75
    assert table.rows[0].deviation == pytest.approx(
        {"KS": 200**0.5, "SID": 200**0.5, "IC": 200**0.5, "ER": 0, "AVG": 112.5**0.5}
    )
    assert [(row.source, row.average) for row in table.rows[1:]] == [
        ("paper: base", 79.69),
        ("paper: large", 84.70),
        ("paper: XLS-R", 82.69),
    ]


def test_layers_differ_where_one_of_them_knows(made: dict) -> None:
    task = one(made, each=8, poolings=["AP"])
    noise = torch.stack([x.mean(dim=0) for x in random_frames([3] * 72, 3)])
    known = torch.stack([x[0] for x in task.store._frames])  # type: ignore[attr-defined]
    object.__setattr__(
        task, "features", replace(task.features, stored=lambda name: torch.stack([noise, known], 1))
    )
    ticks: list[str] = []
    by_layer = layers.measure([task], ["AP"], [1e-1], [0, 1], ticks.append)["AP"]["SID"]
    assert list(by_layer) == [0, 1, "learned"]
    accuracies = {layer: folds[0].accuracy for layer, folds in by_layer.items()}
    assert accuracies[1] == accuracies["learned"] == pytest.approx((100, 100))
    assert max(accuracies[0]) < 60
    assert ticks == ["SID layers of AP"]
