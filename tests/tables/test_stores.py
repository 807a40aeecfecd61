"""What the benchmark takes from stores: tasks, folds, rows; and which poolings they allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import Row, fake, random_frames

from s3prl_vqpool import corpora
from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.corpora import tasks as registry
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.tables import stores, superb, supervised, table1, table2
from s3prl_vqpool.tables.linear import Settings
from s3prl_vqpool.tables.nearest import evaluate


@pytest.fixture
def divisions(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, corpora.Corpus]]]:
    """The corpora, by downstream, that `stores.divisions` gives."""
    given: dict[str, list[tuple[str, corpora.Corpus]]] = {}
    monkeypatch.setattr(stores, "divisions", lambda manifest: given[manifest["downstream"]])
    return given


def test_tasks_come_in_the_order_of_the_table(divisions: dict) -> None:
    opened = {}
    for task in ("er", "ic", "ks"):
        opened[Path(task)], corpus = fake(task)
        divisions[f"vqpool_{task}"] = [("", corpus)]
    assert [task.name for task in stores.tasks(opened)] == ["KS", "IC", "ER"]


@pytest.mark.parametrize("frames", [True, False])
def test_task_perfect_encoder_scores_100(divisions: dict, frames: bool) -> None:
    store, corpus = fake("sid", frames=frames, poolings=["mean", "AP"])
    divisions["vqpool_sid"] = [("", corpus)]
    (task,) = stores.tasks({Path("sid"): store})
    names = table1.choose(None, [task])
    assert names == (table1.unsupervised() if frames else ["mean", "AP", "Whitening", "SoftDecay"])
    assert frames or names == table1.rows_without_frames(["mean", "AP"])
    for name in names:
        (score,) = evaluate(name, task.features, task.labels, task.folds)
        assert score.accuracy == 100


def test_features_without_frames_are_the_mean_of_the_layers(divisions: dict) -> None:
    with_frames, _ = fake("sid")
    without, _ = fake("sid", frames=False, poolings=["AP"])
    averages = stores.features(with_frames).pooled("AP")
    torch.testing.assert_close(stores.features(without).pooled("AP"), averages, rtol=0, atol=1e-6)


def test_fold_takes_every_stored_window_of_drawn_silence() -> None:
    noise = Path("/noise.wav").absolute()
    windows = [Utterance(noise, (1,), f"noise#{k}", 0.5, 16000 * k, 16000) for k in range(2)]
    drawn = Utterance(noise, (1,), "noise", frames=16000)
    yes, no, up = (Utterance(Path(f"/{name}.wav").absolute(), (0,), name) for name in ("yes", "no", "up"))
    splits = {"train": [drawn, yes], "dev": [no, *windows], "test": [up]}
    corpus = corpora.Corpus("ks", splits, (("a", "b"),))
    stored = (windows[0], yes, windows[1], no, up)
    rows = [Row(u.id, u.path, u.start, u.frames, 4, u.label) for u in stored]
    made = stores.fold("", corpus, replace(fake("ks")[0], utterances=rows))
    assert made.train.tolist() == [1, 0, 2]
    assert made.dev.tolist() == [3, 0, 2]
    assert made.dev_weights.tolist() == [1, 0.5, 0.5]
    assert made.test.tolist() == [4]


def test_tasks_refuse_two_of_a_kind_and_two_upstreams(divisions: dict) -> None:
    store, _ = fake("ks")
    with pytest.raises(InputError, match="b: is of KS, as a is"):
        stores.tasks({Path("a"): store, Path("b"): store})
    other, _ = fake("ic", fingerprint="1")
    with pytest.raises(InputError, match="b: of another upstream than a"):
        stores.tasks({Path("a"): store, Path("b"): other})


def test_a_store_of_no_known_task_is_refused(divisions: dict) -> None:
    """It was left out of the table without a word; alone it ended in an IndexError."""
    known, unknown = fake("ks")[0], fake("none")[0]
    for given in ({Path("a"): unknown}, {Path("k"): known, Path("a"): unknown}):
        with pytest.raises(InputError, match=r"^a: Unknown downstream of a task: 'vqpool_none'\."):
            stores.tasks(given)


def test_a_store_of_a_registered_task_is_taken(divisions: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    protocol = registry.Protocol(batch=8, epochs=2, rate=0.5)
    registry.register(registry.Task("fifth", "sounds", "vqpool_fifth", "fifth:load", (), protocol=protocol))
    opened = {}
    for name in ("fifth", "ks"):
        opened[Path(name)], corpus = fake(name)
        divisions[f"vqpool_{name}"] = [("", corpus)]
    found = stores.tasks(opened)
    assert [task.name for task in found] == ["KS", "FIFTH"]
    assert supervised.settings(found[1], None, [0]) == Settings(8, 2, (0.5,), (0,))
    table = table1.make(found, ["AP"], {}, False, True, lambda done: None)
    assert table.rows[0].accuracy == {"KS": 100, "FIFTH": 100}
    assert "paper: has no figures of FIFTH." in table.notes


def test_tasks_refuse_a_corpus_with_other_labels(divisions: dict) -> None:
    """A speaker fewer, and the classes after it have other numbers than in the store."""
    store, corpus = fake("sid")
    moved = [replace(u, label=(u.label[0] - 1,)) for u in corpus.splits["test"] if u.label[0]]
    divisions["vqpool_sid"] = [("", replace(corpus, splits={**corpus.splits, "test": moved}))]
    with pytest.raises(
        InputError, match=r"a: its corpus .*/test/1.wav is now of class \(0,\) instead of \(1,\)"
    ):
        stores.tasks({Path("a"): store})


def test_added_poolings_count_but_for_what_dev_or_a_fold_would_have_to_say(divisions: dict) -> None:
    for task, fold in (("sid", None), ("er", "fold1")):
        store, corpus = fake(task, frames=False, poolings=["mean"])
        made = {"counts": "0", "fold": fold}
        store.added.update({"VQ-LP": {}, "VQ-GP": made, "VQ-SIF": {"a": 1e-2, **made}})
        divisions[f"vqpool_{task}"] = (
            [("", corpus)] if fold is None else [(f"fold{k}", corpus) for k in (1, 2)]
        )
        tasks = stores.tasks({Path(task): store})
        known = ["mean", "VQ-LP"] if fold else ["mean", "VQ-LP", "VQ-GP"]
        assert table1.choose(None, tasks) == table2.choose(None, tasks) == known
        assert stores.layered(["mean", "VQ-LP", "VQ-GP", "VQ-SIF"], tasks) == known
        assert superb.choose(None, tasks) == [*known, *([] if fold else ["VQ-SIF"])]
        with pytest.raises(InputError, match=f"{task}: has no frames for VQ-SIF"):
            table1.choose(["VQ-SIF"], tasks)
    with pytest.raises(InputError, match="er: VQ-GP has training statistics"):
        superb.choose(["VQ-GP"], tasks)
    with pytest.raises(InputError, match="vqpool store add-pooling er VQ-Squash-OR"):
        superb.choose(["VQ-Squash-OR"], tasks)


def test_choose_names_what_is_wrong(divisions: dict) -> None:
    store, corpus = fake("sid", frames=False, poolings=["VQ-LP"])
    divisions["vqpool_sid"] = [("", corpus)]
    tasks = stores.tasks({Path("sid"): store})
    assert table1.choose(["vq_lp", "VQ-LP"], tasks) == ["VQ-LP"]
    maps = ["VQ-LP|standardise", "VQ-LP|whitening", "VQ-LP|softdecay"]
    assert table1.choose(["vq_lp|*"], tasks) == table2.choose(["VQ-*|*"], tasks) == maps
    for names, message in (
        (["SAP"], "SAP: is learned"),
        (["VQ-LQ"], "Did you mean VQ-LP"),
        (["SP"], "sid: has no frames for SP"),
        (["VQ-LP+std|whitening"], r"sid: has no frames for VQ-LP\+std\|whitening"),
        (["VQ-*+std|*"], "matches no pooling"),
        (["Whitening"], "sid: has no frames for Whitening"),
        (["VQ-GP"], "--frames"),
    ):
        with pytest.raises(InputError, match=message):
            table1.choose(names, tasks)


def test_make_er_is_the_mean_of_its_folds_by_hand(divisions: dict) -> None:
    store, corpus = fake("er", classes=2, each=3, poolings=["AP"])
    for row in (12, 13, 14):  # three test utterances look like class 0: rows 12 and 14 are of it, 13 is not
        store._frames[row] = torch.eye(2)[0].expand(4, -1)
    halves = [
        replace(corpus, splits={**corpus.splits, "test": corpus.splits["test"][part]})
        for part in (slice(0, 2), slice(2, 6))
    ]
    divisions["vqpool_er"] = [("fold1", halves[0]), ("fold2", halves[1])]
    ticks: list[str] = []
    table = table1.make(stores.tasks({Path("er"): store}), ["AP", "VQ-LP"], {}, True, False, ticks.append)
    assert table.rows[0].accuracy == {"ER": (50 + 100) / 2}
    assert table.rows[0].average is None
    assert [(row.pooling, row.layer) for row in table.rows] == [
        ("AP", None),
        ("VQ-LP", None),
        ("AP", 0),
        ("AP", 1),
    ]
    assert [row.accuracy["ER"] for row in table.rows[2:]] == [75, 75]
    assert ticks == ["ER AP", "ER VQ-LP", "layers of AP"]
    assert [score["accuracy"] for score in table.configuration["scores"]["AP"]["ER"]] == [50, 100]


def test_make_layers_differ_where_one_of_them_knows(divisions: dict) -> None:
    store, corpus = fake("ks", poolings=["AP"])
    divisions["vqpool_ks"] = [("", corpus)]
    noise = torch.stack([x.mean(dim=0) for x in random_frames([3] * len(store.utterances), 3)])
    store.vectors = lambda name: torch.stack([noise, torch.stack([x[0] for x in store._frames])], 1)  # type: ignore
    table = table1.make(stores.tasks({Path("ks"): store}), ["AP"], {}, True, False, lambda done: None)
    known = {row.layer: row.accuracy["KS"] for row in table.rows}
    assert known[1] == 100
    assert known[0] < 100


def test_make_all_four_tasks_have_an_average(divisions: dict) -> None:
    opened = {}
    for task in ("ks", "sid", "ic", "er"):
        opened[Path(task)], corpus = fake(task)
        divisions[f"vqpool_{task}"] = [("", corpus)]
    opened[Path("ks")]._frames[24:] = [x.flip(1) for x in opened[Path("ks")]._frames[24:]]
    table = table1.make(stores.tasks(opened), ["AP", "VQ-SIF"], {}, False, True, lambda done: None)
    ap, _, *paper = table.rows
    assert ap.average == sum(ap.accuracy.values()) / 4 < 100
    assert [(row.source, row.pooling) for row in paper[:2]] == [
        ("paper: base", "AP"),
        ("paper: base", "VQ-SIF"),
    ]
    assert len(paper) == 6
    assert any("VQ-SIF, KS: a = " in note for note in table.notes)
    assert any("other corpora" in note for note in table.notes)
