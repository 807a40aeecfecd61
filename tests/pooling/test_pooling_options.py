"""Options of poolings: what is read of a value, and what the paper's are."""

from __future__ import annotations

import math
from typing import Any

import pytest

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.pooling import method
from s3prl_vqpool.pooling.options import Option, from_words, grid, in_short, one_of, positive, read, whole


@pytest.mark.parametrize(
    ("reader", "given", "expected"),
    [
        (positive, 1e-300, 1e-300),
        (positive, "0.5", 0.5),
        (positive, 7, 7.0),
        (whole, 1, 1),
        (whole, "12", 12),
        (whole, 3.0, 3),
        (one_of("a", "b"), "b", "b"),
    ],
)
def test_value_is_read(reader: Any, given: Any, expected: Any) -> None:
    found = reader.convert(given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("reader", "given"),
    [
        *((positive, given) for given in (0, -1, math.inf, math.nan, True, None, "x")),
        *((whole, given) for given in (0, -1, 0.5, 1.5, math.inf, math.nan, True, None, "x")),
        *((one_of("a", "b"), given) for given in ("c", "A", 1, None)),
    ],
)
def test_other_value_is_refused(reader: Any, given: Any) -> None:
    with pytest.raises(InputError, match=r"^P: n: expected "):
        read([Option("n", 1, reader)], {"n": given}, "P")


def test_grid_is_the_product_of_what_is_not_given() -> None:
    options = [Option("a", 1, whole, (1, 2)), Option("b", 1, whole), Option("c", 1, whole, (3, 4))]
    every = [{"a": a, "c": c} for a in (1, 2) for c in (3, 4)]
    assert grid(options) == grid(options, {}) == every
    assert grid(options, {"c": 9}) == [{"c": 9, "a": 1}, {"c": 9, "a": 2}]
    assert grid(options, {"a": 5, "c": 9}) == [{"a": 5, "c": 9}]


def test_sif_is_tuned_over_the_papers_range() -> None:
    (a,) = method("VQ-SIF").options
    assert (a.name, a.default, a.grid) == ("a", 1e-3, (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))


def test_words_are_name_and_value() -> None:
    assert from_words(["a=1e-3", "b=x=y"]) == {"a": "1e-3", "b": "x=y"}
    for word in ("a", "a=", "=1", "="):
        with pytest.raises(InputError, match=r"expected NAME=VALUE"):
            from_words([word])
    assert (in_short(1e-3), in_short(1e-5), in_short("none"), in_short(3)) == ("0.001", "1e-05", "none", "3")
