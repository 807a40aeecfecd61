"""Intervals, tests against AP and slots of a table, by hand; the files of a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fakes import fake, fold
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix

from s3prl_vqpool.files import sha256
from s3prl_vqpool.tables import evidence, per_class, stores, table1
from s3prl_vqpool.tables.intervals import holm, limits, resampled
from s3prl_vqpool.tables.predictions import read
from s3prl_vqpool.tables.stores import StoredTask
from s3prl_vqpool.tables.table import Row, Table, measured


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> StoredTask:
    """Two folds, of 4 and 8 test utterances of three classes, by four speakers."""
    store, corpus = fake("er")
    monkeypatch.setattr(stores, "divisions", lambda manifest: [("", corpus)])
    (made,) = stores.tasks({Path("er"): store})  # type: ignore[dict-item]
    object.__setattr__(
        made, "folds", (fold([0], [1], range(24, 28), "a"), fold([0], [1], range(28, 36), "b"))
    )
    object.__setattr__(made, "speakers", tuple("wxyz"[row % 4] for row in range(36)))
    return made


def predicted(task: StoredTask, right: list[list[list[int]]]) -> dict[str, list[torch.Tensor]]:
    """``right`` by fold and seed: 1 for the label, 0 for another class."""
    folds = []
    for each, seeds in zip(task.folds, right):
        labels = task.labels[each.test]
        folds.append(torch.stack([(labels + 1 - torch.tensor(seed)[:, None]) % 3 for seed in seeds]))
    return {task.name: folds}


SEED0 = [[1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 0, 0]]
SEED1 = [[1, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]]


def test_interval_is_of_the_mean_of_folds_and_seeds_by_speaker(task: StoredTask) -> None:
    found = predicted(task, [[SEED0[0], SEED1[0]], [SEED0[1], SEED1[1]]])
    row = evidence.beside(measured("s", "VQ-LP", {"ER": 50.0}), [task], found)
    share = np.array([1, 0.5, 0, 0, 1, 1, 1, 1, 0.5, 0.5, 0, 0])
    weights = np.array([1 / 4] * 4 + [1 / 8] * 8)
    assert 100 * np.average(share, weights=weights) == 100 * (3 / 8 + 5 / 8) / 2
    expected = resampled(share, weights, list("wxyz") * 3, seed=list(b"ER"))
    assert row.interval["ER"] == limits(expected)
    assert expected.mean() == pytest.approx(50, abs=0.5)
    assert row.interval.keys() == {"ER"}
    assert not row.slots


def test_average_resamples_tasks_apart(task: StoredTask) -> None:
    found = predicted(task, [[SEED0[0]], [SEED0[1]]])
    tasks = []
    for name in ("ks", "sid", "ic", "er"):
        kind = type(task.kind)(**{**vars(task.kind), "name": name})
        tasks.append(type(task)(**{**vars(task), "kind": kind}))
    row = measured("s", "AP", {each.name: 62.5 for each in tasks})
    row = evidence.beside(row, tasks, {each.name: found["ER"] for each in tasks})
    widths = {name: high - low for name, (low, high) in row.interval.items()}
    assert widths["AVG"] == pytest.approx(widths["ER"] / 2, rel=0.15)  # of four that are independent


def test_tests_are_mcnemar_on_the_first_seed_with_holm(task: StoredTask) -> None:
    none = [[[0] * 4, SEED0[0]], [[0] * 8, SEED0[1]]]
    full = [[[1] * 4, SEED0[0]], [[1] * 8, SEED0[1]]]
    half = [[SEED0[0], SEED0[0]], [SEED0[1], SEED0[1]]]
    by_name = {"VQ-LP": predicted(task, full), "AP": predicted(task, none), "SP": predicted(task, half)}
    found = evidence.compared([task], by_name)
    corrected = holm([binomtest(12, 12).pvalue, binomtest(8, 8).pvalue])
    assert found == {"VQ-LP": {"ER": corrected[0]}, "SP": {"ER": corrected[1]}}
    assert corrected[0] == pytest.approx(2 * 2 / 2**12)
    rows = evidence.with_tests([measured("s", name, {"ER": 1.0}) for name in by_name], [task], by_name)
    assert [row.differs("ER") for row in rows] == [True, False, True]
    assert evidence.compared([task], {"VQ-LP": by_name["VQ-LP"]}) == {"VQ-LP": {}}


def test_notes_say_how(task: StoredTask) -> None:
    said = " ".join(evidence.notes([task], ["AP", "SP", "VQ-LP"], 2))
    assert "ER by speaker: 4" in said
    assert "first seed; Holm's correction, comparisons of a task: 2" in said
    assert "no test against AP" in " ".join(evidence.notes([task], ["SP"], 1))
    object.__setattr__(task, "speakers", ("",) * 36)
    assert "ER by utterance" in " ".join(evidence.notes([task], ["AP"], 1))


def test_slots_are_right_on_their_own(task: StoredTask) -> None:
    object.__setattr__(task, "labels", task.labels.repeat(1, 2))
    object.__setattr__(task, "slots", ("action", "object"))
    labels = [task.labels[each.test] for each in task.folds]
    wrong = [torch.stack([each[:, 0], (each[:, 1] + 1) % 3], 1) for each in labels]
    found = {"ER": [torch.stack([labels[0], wrong[0]]), torch.stack([wrong[1], wrong[1]])]}
    row = evidence.beside(measured("s", "AP", {"ER": 25.0}), [task], found)
    assert row.slots == {"ER": {"action": 100, "object": 25}}
    table = Table("t", ("ER",), [row], [], {}, pd.DataFrame())
    assert "## ER by slot\n\n| source | pooling | action | object |" in table.markdown()
    assert table.csv().splitlines()[1].endswith(",100.00,25.00")


def test_cells_have_interval_and_mark() -> None:
    row = Row("s", "VQ-LP", {"KS": 50.0}, None, interval={"KS": (48.13, 52.3)}, p={"KS": 0.01})
    table = Table("t", ("KS",), [row], [], {}, pd.DataFrame())
    assert "| s | VQ-LP | 50.00† \\[48.1, 52.3\\] |" in table.markdown()
    assert table.csv() == "source,pooling,layer,KS,KS low,KS high,KS p\ns,VQ-LP,mean,50.00,48.13,52.30,0.01\n"
    assert json.loads(table.json())["rows"][0]["interval"] == {"KS": [48.13, 52.3]}


def test_files_say_where_they_come_from_and_are_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, corpus = fake("sid", poolings=["AP"])
    store._frames[30:] = [torch.eye(3)[[0]].expand(len(x), -1) for x in store._frames[30:]]
    monkeypatch.setattr(stores, "divisions", lambda manifest: [("", corpus)])
    for folder in ("one", "two"):
        tasks = stores.tasks({Path("sid"): store})  # type: ignore[dict-item]
        table = table1.make(tasks, ["AP", "VQ-LP"], {}, True, False, lambda _: None)
        paths = table.write(tmp_path / folder, "nearest")
    *made, origin = paths
    for path in made:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()
    said = json.loads(origin.read_text())
    assert said["files"] == {path.name: sha256(path) for path in made}
    assert {"date", "command", "machine", "versions"} <= said.keys()
    content = json.loads((tmp_path / "two" / "nearest.json").read_text())
    assert len(content["stores"]["SID"]["manifest_sha256"]) == 64
    assert content["versions"] == said["versions"]
    assert [row["interval"].keys() for row in content["rows"]] == [{"SID"}] * 4
    found = read(tmp_path / "two" / "nearest.predictions.csv")
    classes = pd.read_csv(tmp_path / "two" / "nearest.classes.csv", keep_default_na=False)
    one = found[found["pooling"] == "AP"]
    expected = classification_report(one["label"], one["predicted"], output_dict=True, zero_division=0)
    for row in classes[classes["pooling"] == "AP"].itertuples():
        assert row.precision == pytest.approx(100 * expected[row[6]]["precision"], abs=0.005)
        assert row.f1 == pytest.approx(100 * expected[row[6]]["f1-score"], abs=0.005)
        assert row.support == expected[row[6]]["support"]
    assert (
        per_class.confusion(one).to_numpy().tolist()
        == confusion_matrix(one["label"], one["predicted"]).tolist()
    )
    with pytest.raises(ValueError, match="one pooling"):
        per_class.confusion(found)


def test_classes_of_slots_and_seeds_by_hand() -> None:
    cells = {"source": "s", "task": "IC", "pooling": "AP", "layer": "mean", "slots": "action | object"}
    runs = {"0": ["on | lamp", "on | lamp"], "1": ["on | lamp", "off | lamp"]}
    labels = ["on | lamp", "off | tv"]
    frame = pd.DataFrame(
        [
            {**cells, "seed": seed, "label": label, "predicted": found}
            for seed, predicted in runs.items()
            for label, found in zip(labels, predicted)
        ]
    )
    made = per_class.classes(frame).set_index(["slot", "class"])
    assert made.loc[("action", "on"), per_class.MEASURES].tolist() == pytest.approx([75, 100, 250 / 3, 1])
    assert made.loc[("action", "off"), per_class.MEASURES].tolist() == [50, 50, 50, 1]
    assert made.loc[("object", "tv"), per_class.MEASURES].tolist() == [0, 0, 0, 1]
    assert made.loc[("", "off | tv"), "support"] == 1
    assert per_class.confusion(frame, "action").to_numpy().tolist() == [[1, 1], [0, 2]]
    with pytest.raises(ValueError, match="slots"):
        per_class.confusion(frame, "place")
