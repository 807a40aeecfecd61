"""`vqpool store export`: ids and vectors of a store, or of a split, against the reader and the corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.testing import assert_close

from s3prl_vqpool import cli
from s3prl_vqpool.errors import InputError
from s3prl_vqpool.store import Store
from s3prl_vqpool.store.export import export

Stores = Callable[[str], Store]


@pytest.mark.parametrize(("layer", "options"), [(None, []), (1, ["--layer", "1"])])
def test_file_holds_every_utterance_under_its_id(
    layer: int | None, options: list[str], stores: Stores, tmp_path: Path
) -> None:
    store = stores("large")
    argv = ["store", "export", str(store.folder), "--pooling", "VQ-LP", "--output", str(tmp_path / "v.npz")]
    assert cli.main([*argv, *options]) == 0
    with np.load(tmp_path / "v.npz") as arrays:
        ids, vectors = arrays["ids"].tolist(), arrays["vectors"]
    assert ids == [utterance.path.stem for utterance in store.utterances]
    for row, vector in enumerate(vectors):
        layers = store.vectors("VQ-LP", [row])[0].numpy()
        expected = layers.mean(axis=0) if layer is None else layers[layer]
        np.testing.assert_allclose(vector, expected, rtol=1e-6, atol=1e-6)
    assert cli.main([*argv, *options]) == 2  # it is there already


@pytest.mark.parametrize(("split", "file"), [("train", "train"), ("dev", "valid"), ("test", "test")])
def test_split_is_that_of_the_corpus(split: str, file: str, stores: Stores) -> None:
    store = stores("mfcc")
    ids, vectors = export(store, "AP", split=split)
    assert ids == [f"{file}{number}" for number in range(4)]
    rows = [row for row, each in enumerate(store.utterances) if each.path.stem.startswith(file)]
    assert_close(vectors, store.vectors("AP", rows).mean(dim=1))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pooling": "VQ-GP"}, "Unknown pooling in "),
        ({"layer": 9}, "layer 9: this store's hidden states are 0 to "),
        ({"layer": -1}, "layer -1: this store's hidden states are 0 to "),
        ({"split": "tset"}, "Unknown split 'tset'. Did you mean test"),
        ({"fold": "fold1"}, "--fold fold1: says which division a split is of: give --split too."),
        ({"split": "test", "fold": "fold1"}, "-v fold1: vqpool_ic has no folds"),
    ],
)
def test_mistakes_are_one_line(options: dict, problem: str, stores: Stores) -> None:
    with pytest.raises(InputError) as caught:
        export(stores("mfcc"), **{"pooling": "VQ-LP", **options})
    assert str(caught.value).startswith(problem)


def test_an_id_of_two_files_is_refused(stores: Stores) -> None:
    store = Store.open(stores("mfcc").folder)
    store.utterances = [replace(each, id="same") for each in store.utterances]
    with pytest.raises(InputError, match=r"have the same id 'same': give --split.$"):
        export(store, "VQ-LP")
