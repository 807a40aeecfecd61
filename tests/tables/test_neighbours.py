"""Nearest neighbours in two stages: against loops, exact numbers and scikit-learn; the bound against exact sums."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest_loop import loop
from torch import Tensor

from s3prl_vqpool.errors import InputError
from s3prl_vqpool.tables import neighbours
from s3prl_vqpool.tables.neighbours import TIE, nearest


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute(index: Tensor, queries: Tensor) -> list[int]:
    """All cosines in float64, by numpy; ties to the first row."""
    x, y = (each.double().numpy() for each in (index, queries))
    x, y = (each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-300) for each in (x, y))
    cosines = y @ x.T
    found = (cosines >= cosines.max(axis=1, keepdims=True) - TIE).argmax(axis=1)
    return [int(row) for row in found]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 7 rows and 3 queries, so that few vectors are enough to fill some."""
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    monkeypatch.setattr(neighbours, "_QUERIES", 3)
    monkeypatch.setattr(neighbours, "_PART", 3)
    monkeypatch.setattr(neighbours, "_NUMBERS", 11)
    monkeypatch.setattr(neighbours, "_COSINES", 100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nearest_equals_loop(dtype: torch.dtype) -> None:
    index, queries = randn(50, 7).to(dtype), randn(20, 7, seed=1).to(dtype)
    assert nearest(index, queries).tolist() == loop(index, queries)


def test_nearest_equals_sklearn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    index, queries = randn(300, 16, dtype=torch.float64), randn(80, 16, seed=1, dtype=torch.float64)
    known = neighbors.NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(index.numpy())
    expected = known.kneighbors(queries.numpy(), return_distance=False)[:, 0]
    assert nearest(index, queries).tolist() == expected.tolist()


@pytest.mark.usefixtures("small_blocks")
def test_nearest_blocks_change_nothing() -> None:
    once = randn(37, 5)
    index = torch.cat([once, 4 * once, once])  # every direction three times
    queries = torch.cat([once.flip(0), randn(20, 5, seed=1)])
    found = nearest(index, queries)
    assert found.tolist() == brute(index, queries)
    assert found[:37].tolist() == list(range(36, -1, -1))
    assert int(found.max()) < 37


def test_nearest_of_no_queries_is_empty() -> None:
    assert nearest(randn(3, 2), randn(0, 2)).tolist() == []


def test_nearest_scale_changes_nothing() -> None:
    index, queries = randn(30, 4), randn(9, 4, seed=1)
    scaled = index * torch.logspace(-30, 30, 30).unsqueeze(1)
    assert nearest(scaled, 1e-20 * queries).tolist() == nearest(index, queries).tolist()


def test_nearest_of_numbers_whose_squares_are_not_floats() -> None:
    index, queries = randn(30, 4, dtype=torch.float64), randn(9, 4, seed=1, dtype=torch.float64)
    scaled = index * torch.logspace(-300, 300, 30, dtype=torch.float64).unsqueeze(1)
    assert nearest(scaled, 1e-300 * queries).tolist() == nearest(index, queries).tolist()
    assert nearest(scaled, 1e300 * queries).tolist() == nearest(index, queries).tolist()


def test_nearest_zero_vectors_are_at_a_right_angle_to_all() -> None:
    index = torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    assert nearest(index, torch.tensor([[0.0, 0.0]])).tolist() == [0]
    assert nearest(index, torch.tensor([[1.0, -2.0], [1.0, 0.0]])).tolist() == [1, 2]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("which", ["index", "queries"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nearest_names_vector_that_is_not_finite(which: str, number: float) -> None:
    vectors = {"index": randn(20, 3), "queries": randn(20, 3)}
    vectors[which][16, 1] = number
    with pytest.raises(InputError, match="the one at index 16 is not"):
        nearest(**vectors)


def test_nearest_tells_cosines_apart_that_are_equal_in_float32() -> None:
    """Rows a billionth from each other: the float32 product's order among them is noise."""
    index = randn(1, 256).double() + 1e-9 * randn(60, 256, seed=1, dtype=torch.float64)
    queries = index + 1e-10 * randn(60, 256, seed=2, dtype=torch.float64)
    cosines = torch.nn.functional.normalize(queries) @ torch.nn.functional.normalize(index).T
    assert (cosines.sort(dim=1).values.diff(dim=1) < 2**-24).all()
    # angles of 1e-9 are cosines 1e-18 from 1: ties; along one direction they are not
    assert nearest(index, queries).tolist() == brute(index, queries) == [0] * 60
    side = randn(60, 256, seed=3, dtype=torch.float64)
    assert nearest(index, side).tolist() == brute(index, side)
    assert len(set(nearest(index, side).tolist())) > 5


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_nearest_of_vectors_that_cancel(noise: float, scale: float) -> None:
    """A large common part, rows that nearly agree, a few far rows, duplicates and zeros."""
    common = scale * randn(64, dtype=torch.float64)
    index = common + noise * randn(500, 64, seed=1, dtype=torch.float64)
    index = torch.cat([index, index[:100], -index[:5], torch.zeros(2, 64).double()])
    queries = torch.cat(
        [common + noise * randn(50, 64, seed=2, dtype=torch.float64), -common[None], index[:40]]
    )
    for dtype in (torch.float32, torch.float64):
        x, y = index.to(dtype), queries.to(dtype)
        assert nearest(x, y).tolist() == brute(x, y)


def test_nearest_of_many_equal_rows_is_the_first() -> None:
    index = torch.cat([randn(3, 5), torch.tensor([[1.0, 2, 3, 4, 5]]).expand(500, 5), randn(3, 5, seed=2)])
    queries = torch.cat([index[10:12], randn(4, 5, seed=3), index[:1]])
    found = nearest(index, queries).tolist()
    assert found == brute(index, queries)
    assert found[:2] == [3, 3]


def test_queries_with_many_candidates_are_not_paired() -> None:
    index = torch.tensor([[1.0, 2, 3]]).expand(500, 3)
    (_, directions), *_ = neighbours._blocks(torch.tensor([[1.0, 2, 3], [-1, 0, 1]]), 9)
    query, _, many = neighbours._Approximate.of(index).candidates(directions)
    assert many.tolist() == [0, 1]
    assert not len(query)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("far", [False, True])
def test_candidates_are_few(far: bool) -> None:
    """Also where vectors have much in common, and a few rows are far from it."""
    common = 500 * randn(64, dtype=torch.float64)
    index = common + randn(500, 64, seed=1, dtype=torch.float64)
    queries = common + randn(30, 64, seed=2, dtype=torch.float64)
    if far:
        index[::80] = -index[::80]
        index[7] = 0
    (_, directions), *_ = neighbours._blocks(queries, 30)
    query, row, many = neighbours._Approximate.of(index).candidates(directions)
    assert not len(many)
    assert len(query) < 10 * len(queries)
    expected = brute(index, queries)
    assert all(row[query == k].tolist().count(expected[k]) == 1 for k in range(30))


def test_nearest_leaves_float32_where_torch_may_use_fewer_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = randn(40, 6), randn(9, 6, seed=1)
    expected = loop(index, queries)
    monkeypatch.setattr(neighbours._Approximate, "of", None)
    for setting in ("medium", "high"):
        torch.set_float32_matmul_precision(setting)
        try:
            assert nearest(index, queries).tolist() == expected
        finally:
            torch.set_float32_matmul_precision("highest")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert nearest(index, queries).tolist() == expected


@pytest.mark.parametrize("setting", ["medium", "high"])
def test_float32_is_plain_asks_torch(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert neighbours._float32_is_plain()
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: setting)
    assert not neighbours._float32_is_plain()


@pytest.mark.parametrize("onednn", [False, True])
def test_nearest_under_autocast_is_the_same(onednn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    index, queries = randn(1, 64) + 1e-3 * randn(3000, 64, seed=1), randn(300, 64, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest(index, queries).tolist() == brute(index, queries)


# the bound


def exact(x: Tensor, y: Tensor) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), y.tolist())), Fraction(0))


@pytest.mark.parametrize("size", [1, 2, 16, 200])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
@pytest.mark.parametrize("order", ["torch", "as they come", "largest last", "largest first", "by pairs"])
def test_bound_holds_in_any_order_of_adding(size: int, scale: float, order: str) -> None:
    """What a float32 sum of the products is wrong by, in fractions, is at most E."""
    common = scale * randn(size)
    vectors = [common + randn(count, size, seed=seed) for count, seed in ((12, 1), (4, 2))]
    vectors[0][3], vectors[0][5, ::2] = 0, 1e-40
    (_, rows), (_, queries) = (next(neighbours._blocks(each, 50)) for each in vectors)
    approximate = neighbours._Approximate.of(vectors[0])
    (block,) = approximate.blocks
    less = queries - approximate.centre
    found = neighbours._product(neighbours._quick(less.float()), block)
    dense = (each.to_dense() if each.is_mkldnn else each for each in (block.less, block.bias))
    p = torch.cat([next(dense), next(dense).unsqueeze(1)], dim=1).numpy()
    worst = Fraction(0)
    for k, query in enumerate(queries):
        q = np.append(less[k].float().numpy(), np.float32(1))
        error = approximate.gamma * (less[k].norm() * block.radius + block.offset)
        for n, place in enumerate(block.rows.tolist()):
            truth = exact(rows[place], query) - exact(approximate.centre, query)
            value = float(found[k, n]) if order == "torch" else added(p[n] * q, order)
            off = abs(Fraction(value) - truth)
            assert off <= Fraction(float(error[n])) + Fraction(approximate.slack)
            worst = max(worst, off / Fraction(float(error[n])))
    assert worst > Fraction(1, 10**4)  # it is a float32 sum


def added(products: np.ndarray, order: str) -> float:
    """The float32 sum of float32 numbers."""
    if order == "by pairs":
        while len(products) > 1:
            odd = products[len(products) // 2 * 2 :]
            products = np.append(products[: len(products) - len(odd)].reshape(-1, 2).sum(axis=1), odd)
        return float(products[0])
    places = np.abs(products).argsort(kind="stable")
    chosen = {"largest last": places, "largest first": places[::-1], "as they come": slice(None)}[order]
    return float(np.cumsum(products[chosen], dtype=np.float32)[-1])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scale", [0.01, 0.3, 1, 30])
def test_nearest_bears_any_error_within_the_bound(
    seed: int, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product is wrong by all that E allows: too low for the nearest row, at random for the others."""
    index = 0.1 * scale * randn(48, seed=seed) + 1e-5 * randn(60, 48, seed=seed + 100)
    index = index * torch.linspace(1, 3, 60)[:, None] + 1e-6 * randn(60, 48, seed=seed + 200)
    index[30:] += 0.2 * randn(30, 48, seed=seed + 300)
    index = torch.cat(
        [index, -index[:1] - 1e-7 * randn(6, 48, seed=seed + 500)]
    )  # a block has near and far rows
    queries = index + 1e-4 * randn(66, 48, seed=seed + 400)
    expected, gamma = brute(index, queries), neighbours._Approximate.of(index).gamma
    generator, queue = np.random.default_rng(seed), list(range(0, 66, 3))

    def wrong(less: Tensor, block: neighbours._Block) -> Tensor:
        p, bias, q = (
            (each.to_dense() if each.is_mkldnn else each).double() for each in (block.less, block.bias, less)
        )
        error = gamma * (torch.outer(q.norm(dim=1), block.radius) + block.offset)
        sign = torch.from_numpy(generator.choice([-1.0, 1.0], error.shape))
        for row in range(len(q)):
            sign[row, block.rows == expected[first + row]] = -1
        return (q @ p.T + bias + 0.95 * sign * error).float()

    original = neighbours._Approximate.candidates

    def counting(self: neighbours._Approximate, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal first
        first = queue.pop(0)
        return original(self, directions)

    first = 0
    monkeypatch.setattr(neighbours, "_product", wrong)
    monkeypatch.setattr(neighbours._Approximate, "candidates", counting)
    assert nearest(index, queries).tolist() == expected


NUMBERS = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1, 1).map(lambda x: 1 + x * 1e-7),
    st.sampled_from([1e-45, -3e-39, 3e38, 1e30, 1e-30, 1 + 2**-23]),
)


@st.composite
def vectors(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """An index and queries, of few distinct rows so that many are equal, in float32 or float64."""
    size = draw(st.integers(1, 6))
    row = st.lists(NUMBERS, min_size=size, max_size=size)
    known = draw(st.lists(row, min_size=1, max_size=8))
    picked = [draw(st.lists(st.sampled_from(known), min_size=1, max_size=10)) for _ in range(2)]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    more = draw(st.lists(row, max_size=3))
    return torch.tensor(picked[0], dtype=dtype), torch.tensor(picked[1] + more, dtype=dtype)


@settings(max_examples=200, deadline=None)
@given(vectors())
def test_nearest_equals_exact_cosines(given_: tuple[Tensor, Tensor]) -> None:
    """Of the row that is found, the exact cosine is the highest but for `TIE`, and no row before it is as high."""
    index, queries = given_
    assert nearest(index, queries).tolist() == neighbours._among_all(index, queries).tolist()
    for query, found in zip(queries, nearest(index, queries).tolist()):
        cosines = [exact_cosine(row, query) for row in index]
        near = max(cosines) - Decimal(TIE)
        assert cosines[found] >= near - Decimal("1e-14")
        assert all(each < near + Decimal("1e-14") for each in cosines[:found])


def exact_cosine(x: Tensor, y: Tensor) -> Decimal:
    """To 60 digits."""
    with localcontext() as context:
        context.prec = 60
        lengths = exact(x, x) * exact(y, y)
        if not lengths:
            return Decimal(0)
        square = exact(x, y) ** 2 / lengths
        root = (Decimal(square.numerator) / Decimal(square.denominator)).sqrt()
        return root if exact(x, y) > 0 else -root
