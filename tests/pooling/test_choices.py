"""Names, patterns, options and statistics files of poolings: what is chosen, and what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import build, counts, fit, select, weights
from s3prl_vqpool.pooling.files import read_identity
from s3prl_vqpool.pooling.options import Option, grid, positive, whole


def test_select_takes_names_and_patterns_each_once_in_their_order():
    offered = ["AP", "VQ-LP", "VQ-LP+std", "VQ-GP+std", "VQ-LP+std|whitening", "SP"]
    assert select(["sp", "vq-*+std*", "AP", "VQ_LP*"], offered) == [
        *("SP", "VQ-LP+std", "VQ-GP+std", "VQ-LP+std|whitening", "AP", "VQ-LP")
    ]
    with pytest.raises(InputError, match="matches no pooling"):
        select(["XQ-*"], offered)


@pytest.mark.parametrize(("value", "read"), [(1, 1), ("1", 1), (2.0, 2), ("12", 12)])
def test_a_whole_number_begins_at_1(value: object, read: int):
    assert whole.convert(value) == read


@pytest.mark.parametrize("value", [0, -1, 1.5, "inf", "nan", True, None])
def test_other_values_are_no_whole_number(value: object):
    with pytest.raises((TypeError, ValueError)):
        whole.convert(value)


def test_a_grid_is_every_combination_of_what_is_not_given():
    options = (
        Option("a", 1.0, positive, grid=(0.1, 1.0)),
        Option("b", 2.0, positive, grid=(2.0, 3.0)),
        Option("c", 5, whole),
    )
    assert grid(options, {"b": 7.0}) == [{"b": 7.0, "a": 0.1}, {"b": 7.0, "a": 1.0}]
    assert [tuple(each.values()) for each in grid(options[:2])] == [
        *((0.1, 2.0), (0.1, 3.0), (1.0, 2.0), (1.0, 3.0))
    ]
    assert grid(options[2:]) == [{}]


def test_a_learned_pooling_has_no_weights_of_its_own():
    with pytest.raises(InputError, match="SAP has no weight per frame"):
        weights("SAP", torch.zeros(1, 3, 1, dtype=torch.int64), torch.tensor([3]))


def test_sp_adds_its_floor_to_the_deviation():
    """Constant frames have no deviation: what is left is 1e-5, as in every point with +std."""
    frames, lengths = torch.full((1, 4, 2), 3.0), torch.tensor([4])
    codes = torch.zeros(1, 4, 1, dtype=torch.int64)
    for name in ("SP", "VQ-LP+std"):
        vector = build(name, dim=2)(frames, lengths, codes)[0].tolist()
        assert vector == pytest.approx([3, 3, 1e-5, 1e-5], rel=1e-6)


def test_shrinkage_of_one_dimension_is_none():
    """One dimension has nothing to shrink to: Ledoit and Wolf's share is 0, and the map divides by the norm."""
    vectors = torch.tensor([[1.0], [3.0], [8.0]])
    mapped = fit("AP|whitening", vectors, shrinkage="ledoit-wolf")(vectors)
    norm = (3.0**2 + 1.0**2 + 4.0**2) ** 0.5
    torch.testing.assert_close(mapped, torch.tensor([[-3.0], [-1.0], [4.0]]) / norm)


def test_an_identity_is_read_as_it_was_saved(tmp_path: Path):
    counted = counts(torch.zeros(1, 3, 1, dtype=torch.int64), torch.tensor([3]), [2])
    counted.save(tmp_path / "counts.safetensors", {"upstream": "mfcc_vq", "fold": None})
    assert read_identity(tmp_path / "counts.safetensors") == (
        "counts",
        {"upstream": "mfcc_vq", "fold": None},
    )
