"""Lists in little memory hold what was put into them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3prl_vqpool.corpora import Utterance
from s3prl_vqpool.corpora.base import Utterances
from s3prl_vqpool.corpora.packed import repeated
from s3prl_vqpool.corpora.table.sources import Row, Rows

names = st.binary(max_size=9).map(os.fsdecode)  # also such that are no UTF-8
texts = st.text(max_size=9) | names
counts = st.none() | st.integers(0, 2**62)
utterances = st.builds(
    Utterance,
    names.map(Path),
    st.lists(st.integers(0, 2**62), max_size=3).map(tuple),
    texts,
    st.floats(0, exclude_min=True),
    counts,
    counts,
    texts,
)


@given(st.lists(utterances, max_size=5))
def test_utterances_come_back_as_they_were(given: list[Utterance]) -> None:
    packed = Utterances(given)
    assert packed == given
    assert list(packed) == given == packed[:]
    assert [packed[k] for k in range(-len(given), 0)] == given
    assert packed[1::2] == given[1::2]
    assert bool(packed) == bool(given)
    assert packed != [*given, Utterance(Path("a"), (0,), "a")]
    with pytest.raises(IndexError):
        packed[len(given)]


def test_utterances_differ_where_one_does() -> None:
    one, two = Utterance(Path("a"), (0,), "a"), Utterance(Path("a"), (0,), "b")
    assert Utterances([one, two]) == Utterances([one, two])
    assert Utterances([one, two]) != Utterances([one, one])
    assert Utterances([one]) != "a"
    assert repr(Utterances([one])) == repr([one])


wheres = st.sampled_from(["a.csv, line 1", "a.csv, line 2", "b, c.csv, line 1", "b, c.wav", "d.wav", ", e"])
folders = st.sampled_from([Path("/a"), Path("b")])
cells = st.fixed_dictionaries({"path": texts, "label": texts})


@given(st.lists(st.builds(Row, wheres, folders, cells), max_size=9))
def test_rows_come_back_as_they_were(given: list[Row]) -> None:
    assert list(Rows(("path", "label"), given)) == given


def test_a_row_lacks_no_column() -> None:
    (row,) = Rows(("path", "label"), [Row("a", Path("b"), {"label": "c"})])
    assert row.cells == {"path": "", "label": "c"}


@given(st.lists(st.text("abc", max_size=2), max_size=30))
def test_repeated_keys_are_those_that_come_twice(keys: list[str]) -> None:
    counted = Counter(keys)
    assert repeated(keys).tolist() == [counted[key] > 1 for key in keys]
