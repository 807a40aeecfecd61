"""How tables are divided: by folds that they name, or drawn by speaker or at random; and what was drawn is kept."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from corpus_folders import refused, wav
from tables import HEADER, ROWS, audio, datarc_for, labels, load, text, write

from s3prl_vqpool.corpora import Corpus
from s3prl_vqpool.corpora.table.export import KEPT, keep, require_kept
from s3prl_vqpool.corpora.tasks import by_name
from s3prl_vqpool.errors import InputError

SPEAKERS, EACH = 20, 5


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 speakers with 5 utterances each: two yes, two no, one go."""
    folder = tmp_path_factory.mktemp("many")
    rows = [
        (f"s{speaker:02d}-{number}.wav", ("yes", "no", "go")[number % 3], f"s{speaker:02d}")
        for speaker in range(SPEAKERS)
        for number in range(EACH)
    ]
    wav(folder / rows[0][0])
    for name, *_ in rows[1:]:
        (folder / name).symlink_to(folder / rows[0][0])
    return write(folder, text(("path", "label", "speaker"), rows))


def speakers(corpus: Corpus) -> dict[str, set[str]]:
    return {split: {u.id.partition("-")[0] for u in us} for split, us in corpus.splits.items()}


def folds(table: Path, **datarc: Any) -> dict[str, Corpus]:
    return dict(by_name("table").divisions(datarc_for(table, **datarc)))


def test_each_fold_is_test_once_and_the_next_is_dev(tmp_path: Path) -> None:
    table = write(
        audio(tmp_path), text(("path", "label", "speaker", "fold"), [(*r[:2], *r[3:]) for r in ROWS])
    )
    found = folds(table)
    assert {fold: {s: sorted(ids) for s, ids in labels(c).items()} for fold, c in found.items()} == {
        "1": {"test": ["a/1", "b/2"], "dev": ["a/2", "c/1"], "train": ["b/1", "c/2"]},
        "2": {"test": ["a/2", "c/1"], "dev": ["b/1", "c/2"], "train": ["a/1", "b/2"]},
        "3": {"test": ["b/1", "c/2"], "dev": ["a/1", "b/2"], "train": ["a/2", "c/1"]},
    }
    assert not any(corpus.drawn for corpus in found.values())
    with refused("Unknown fold of vqpool_table: '4'. Known: 1, 2, 3."):
        by_name("table").fold(datarc_for(table), "4")


def test_folds_are_ordered_by_number(tmp_path: Path) -> None:
    rows = [(*ROWS[k % 6][:2], name, f"u{k}") for k, name in enumerate(("10", "9", "b", "1", "2", "a"))]
    table = write(audio(tmp_path), text(("path", "label", "fold", "id"), rows))
    assert by_name("table").folds_of(datarc_for(table)) == ("1", "2", "9", "10", "a", "b")


def test_drawn_splits_share_no_speaker_and_have_the_shares(many: Path) -> None:
    corpus = load(many, split={"by": "speaker", "dev": 0.1, "test": 0.2})
    found = speakers(corpus)
    assert {split: len(names) for split, names in found.items()} == {"train": 14, "dev": 2, "test": 4}
    assert len(set.union(*found.values())) == SPEAKERS
    assert sum(map(len, corpus.splits.values())) == SPEAKERS * EACH
    assert corpus.drawn


def test_drawn_at_random_each_class_has_its_share(many: Path) -> None:
    corpus = load(many, split={"by": "random", "dev": 0.1, "test": 0.25})
    counts = {split: Counter(label for (label,) in each.values()) for split, each in labels(corpus).items()}
    assert counts == {
        "train": {"yes": 26, "no": 26, "go": 13},
        "dev": {"yes": 4, "no": 4, "go": 2},
        "test": {"yes": 10, "no": 10, "go": 5},
    }


def test_the_draw_depends_on_the_seed_and_not_on_the_order(many: Path, tmp_path: Path) -> None:
    for by in ("speaker", "random"):
        first, second = (labels(load(many, split={"by": by, "seed": seed})) for seed in (0, 1))
        assert first != second
        header, *lines = many.read_text().splitlines()
        turned = write(tmp_path, "\n".join([header, *reversed(lines)]))
        assert labels(load(turned, root=str(many.parent), split={"by": by, "seed": 0})) == first


def test_the_draw_is_the_same_in_every_version(many: Path) -> None:
    """Splits of published results must not move. The order is that of `printf "0 $speaker" | sha256sum`."""
    found = speakers(load(many, split={"by": "speaker"}))
    assert found["test"] == {"s02", "s04", "s07", "s15"}
    assert found["dev"] == {"s17", "s18"}


def test_drawn_folds_hold_each_speaker_out_once(many: Path) -> None:
    found = folds(many, split={"by": "speaker", "folds": 4})
    assert list(found) == ["fold1", "fold2", "fold3", "fold4"]
    tests = [name for corpus in found.values() for name in speakers(corpus)["test"]]
    assert Counter(tests) == dict.fromkeys((f"s{k:02d}" for k in range(SPEAKERS)), 1)
    for corpus in found.values():
        one = speakers(corpus)
        assert not (one["train"] & one["dev"] | one["train"] & one["test"] | one["dev"] & one["test"])
        assert {split: len(names) for split, names in one.items()} == {"train": 10, "dev": 5, "test": 5}


def test_segments_of_a_file_are_drawn_together(tmp_path: Path) -> None:
    audio(tmp_path, 1.0)
    rows = [(r[0], r[1], f"0.{k}", f"0.{k + 2}") for r in ROWS for k in (1, 2, 4)]
    corpus = load(write(tmp_path, text(("path", "label", "start", "end"), rows)), split={"by": "random"})
    paths = {split: {u.path for u in us} for split, us in corpus.splits.items()}
    assert sum(map(len, paths.values())) == len(set.union(*paths.values())) == len(ROWS)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({}, "{table}: has no column split or fold. Say how to divide it: datarc.split={{'by': 'random'}}, or "),
        ({"by": "fold"}, "{table}: no column 'fold', but datarc.split.by names it. Add it, or name it: "),
        ({"by": "spekaer"}, "Unknown datarc.split.by 'spekaer'. Did you mean speaker?"),
        ({"by": "speaker", "sead": 1}, "Unknown key in datarc.split: 'sead'. Did you mean seed?"),
        ({"by": "speaker", "seed": "x"}, "datarc.split.seed: expected a whole number, but got 'x'."),
        ({"by": "random", "test": 1}, "datarc.split.test: expected a share between 0 and 1, but got 1."),
        ({"by": "random", "dev": 0.5, "test": 0.5}, "datarc.split: dev 0.5 and test 0.5 leave nothing for train."),
        ({"by": "random", "folds": 2}, "datarc.split.folds: expected a whole number from 3 up, but got 2."),
        ({"by": "random", "folds": 5, "dev": 0.1}, "datarc.split: folds say how large dev and test are."),
        ({"by": "speaker", "folds": 50}, "datarc.split: 20 speakers are too few for 50 parts. Divide them by hand."),
        ("speaker", "datarc.split: expected such as {{by: speaker, seed: 0, dev: 0.1, test: 0.2}}, but got "),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_followed_is_refused(split: Any, message: str, many: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(many, split=split)
    assert str(caught.value).startswith(message.format(table=many))
    assert "\n" not in str(caught.value)


def test_a_table_that_says_two_things_or_has_no_folds_is_refused(tmp_path: Path) -> None:
    table = write(audio(tmp_path), text(HEADER))
    with pytest.raises(InputError, match=r"own.csv: has columns split and fold. Say how to divide it: "):
        load(table)
    assert list(labels(load(table, split={"by": "split"}))["dev"]) == ["b/1", "b/2"]
    with refused("datarc.split.dev: nothing is drawn by split. Leave it out."):
        load(table, split={"by": "split", "dev": 0.1})
    with refused("datarc.test_fold 2: this corpus has no folds; leave it out."):
        load(table, split={"by": "split"}, test_fold=2)


def test_what_was_drawn_is_kept_and_a_changed_table_is_noticed(many: Path, tmp_path: Path) -> None:
    table = write(tmp_path, many.read_text())
    plan = {"root": str(many.parent), "split": {"by": "speaker"}}
    before = load(table, **plan)
    keep(tmp_path, {"": before})
    rows = list(csv.DictReader((tmp_path / KEPT).open()))
    assert {row["id"]: row["split"] for row in rows} == {
        i: s for s, each in labels(before).items() for i in each
    }
    assert labels(load(tmp_path / KEPT)) != {}, "what is kept is a table"
    keep(tmp_path, {"": load(table, **plan)})
    table.write_text(many.read_text().replace("s04-0.wav,yes,s04", "s04-0.wav,yes,s00"))
    for check in (keep, require_kept):
        with refused(
            tmp_path / KEPT, ": s04-0 was drawn for test, but now for train: put the table and datarc.split back, or "
            "name another folder."
        ):  # fmt: skip
            check(tmp_path, {"": load(table, **plan)})


def test_nothing_is_kept_of_what_a_table_says(tmp_path: Path) -> None:
    keep(tmp_path, {"": load(write(audio(tmp_path), text()))})
    assert not (tmp_path / KEPT).exists()
