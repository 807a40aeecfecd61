"""Nearest neighbours by angle: exact, though nearly all of the work is done in float32.

A float32 product of blocks gives approximate cosines. A row whose approximate cosine lies further below the highest
than rounding can explain is dropped; the others are compared in float64.

The bound. Let u = 2^-24; x and y the directions (float64) of a row and of a query, D numbers each; m any centre. With
p = (x - m, m . (x - m)) and q = (y - m, 1), D + 1 numbers each,

    p . q = x . y - m . y,

the cosine less a number that all rows share. A float32 sum of n products is within gamma_n sum_i |p_i| |q_i| of the
exact one, gamma_n = n u / (1 - n u), in whatever order it is added, with or without fused multiply-add: no product
passes through more than n roundings (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1).
Rounding p and q to float32 are two more roundings of each product; x - m, y - m and the norms, in float64, are together
less than two. By Cauchy and Schwarz sum_i |p_i| |q_i| <= |x - m| |y - m| + |m . (x - m)|. So an approximate cosine is
wrong by at most

    E(x, y) = gamma_{D+5} (|x - m| |y - m| + |m . (x - m)|),

and a row x is not the answer if another, z, has an approximate cosine higher by more than E(x, y) + E(z, y) + S.
S = `TIE` + 16 (D + 2) 2^-53 + 1e-30: cosines that are `TIE` apart are equal; those of the second stage, and
m . (x - m), are float64 sums; numbers below 2^-126 may be flushed to zero. Nothing overflows, as all directions are of
length 1 or 0.

Where vectors have much in common, |x - m| and |y - m| are small, and so is E. Rows are sorted by their angle to the
centre, and each block has the largest E of its own rows, so that a few rows far from all others do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

#: Cosines (float64) this close are equal, so that rounding in a matrix product cannot choose between equal vectors.
TIE = 1e-12
#: Queries and rows whose approximate cosines are computed at once: 4 MB, which stay in the CPU's cache.
_QUERIES, _ROWS = 512, 2048
#: Vectors that are in float64 at once.
_PART = 256
#: Numbers in float64 that are held at once: of vectors, and of cosines of some queries with all rows.
_NUMBERS, _COSINES = 2**21, 2**24
#: A query with more candidates than this, and than this share of the rows, is compared with all rows in float64.
_MANY, _SHARE = 64, 1 / 32
#: Rows that the centre is the mean of, about.
_SAMPLE = 4096


def nearest(index: Tensor, queries: Tensor) -> Tensor:
    """Row of ``index`` [N, D] at the smallest angle to each of ``queries`` [M, D], int64 [M]; ties to the lowest row.

    Exact, of any floating dtype: cosines in float64, and those within `TIE` of the highest are ties. A vector of zeros
    has the cosine 0 with every other. Takes the memory of ``index`` in float32, and 200 MB. Where torch may compute
    float32 products with fewer bits (`torch.set_float32_matmul_precision`), all is done in float64.

    Raises:
        InputError: vectors that are not finite.

    Examples:
        >>> import torch
        >>> index = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nearest(index, queries=torch.tensor([[3.0, 1.0], [-1.0, 2.0]]))
        tensor([0, 1])
    """
    if not _float32_is_plain():
        return _among_all(index, queries)
    found = torch.empty(len(queries), dtype=torch.int64)
    approximate, crowded = _Approximate.of(index), [found[:0]]
    for first, directions in _blocks(queries, _QUERIES):
        query, row, many = approximate.candidates(directions)
        found[first : first + len(directions)] = _best(index, directions, query, row)
        crowded.append(first + many)
    rest = torch.cat(crowded)
    found[rest] = _among_all(index, queries[rest])
    return found


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows of an index by their places, int64 [n]: p in float32, and the two parts of E, float64 [n]."""

    rows: Tensor
    less: Tensor  # x - m, [n, D]
    bias: Tensor  # m . (x - m), [n]
    radius: Tensor  # |x - m|
    offset: Tensor  # |m . (x - m)|

    @classmethod
    def of(cls, index: Tensor, rows: Tensor, centre: Tensor, memory: Tensor) -> _Block:
        """Of some rows of ``index``; ``memory`` float32 [at least n, D] is written over."""
        bias, radius = torch.empty(2, len(rows), dtype=torch.float64)
        for start in range(0, len(rows), _PART):
            part = slice(start, start + _PART)
            less = _directions(index[rows[part]]) - centre
            memory[: len(rows)][part] = less
            bias[part], radius[part] = less @ centre, torch.linalg.vector_norm(less, dim=1)
        return cls(rows, _quick(memory[: len(rows)]), _quick(bias.float()), radius, bias.abs())


@dataclass(frozen=True, eq=False)
class _Approximate:
    """An index in float32, its centre float64 [D], and the gamma and S of the bound."""

    blocks: list[_Block]
    centre: Tensor
    gamma: float
    slack: float

    @classmethod
    def of(cls, index: Tensor) -> _Approximate:
        """Of vectors [N, D]."""
        count, size = index.shape
        sample = index[:: -(-count // _SAMPLE)]
        centre = torch.cat([directions for _, directions in _blocks(sample, _PART)]).mean(dim=0)
        near = torch.empty(count, dtype=torch.float64)
        for first, directions in _blocks(index, _PART):
            near[first : first + _PART] = directions @ centre
        # memory that is used again: glibc leaves holes between large tensors that stay
        memory = torch.empty(min(count, _ROWS), size, dtype=torch.float32)
        order = near.argsort(descending=True)
        blocks = [_Block.of(index, rows, centre, memory) for rows in order.split(_ROWS)]
        roundings = (size + 5) * 2**-24
        return cls(blocks, centre, roundings / (1 - roundings), TIE + 16 * (size + 2) * 2**-53 + 1e-30)

    def candidates(self, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of a query and a row that may be its nearest, int64 [pairs] each, and the queries with too many.

        A query has at least one row, or is among those with too many, and then has none.
        """
        less = directions - self.centre
        norms = torch.linalg.vector_norm(less, dim=1)
        less = _quick(less.float())
        most = max(_MANY, int(sum(len(block.rows) for block in self.blocks) * _SHARE))
        count = torch.zeros(len(directions), dtype=torch.int64)
        highest = torch.full_like(norms, -torch.inf)  # that a row's cosine surely has
        pairs = []
        for block in self.blocks:
            error = self.gamma * (norms * block.radius.max() + block.offset.max())
            cosines = _product(less, block)  # [M, n]
            best = cosines.amax(dim=1).double()
            highest = torch.maximum(highest, best - error)
            lowest = highest - error - self.slack
            some = (best >= lowest).nonzero().squeeze(1)
            at_least = lowest[some].float().nextafter(torch.tensor(-torch.inf))
            query, place = (cosines[some] >= at_least.unsqueeze(1)).nonzero(as_tuple=True)
            query = some[query]
            count += query.bincount(minlength=len(count))
            highest[count > most] = torch.inf  # no row reaches it
            own = self.gamma * (norms[query] * block.radius[place] + block.offset[place])
            pairs.append((query, block.rows[place], cosines[query, place].double(), own))
        query, row, cosine, error = (torch.cat(each) for each in zip(*pairs))
        highest = highest.scatter_reduce(0, query, cosine - error, "amax")
        kept = cosine + error >= highest[query] - self.slack
        return query[kept], row[kept], (count > most).nonzero().squeeze(1)


def _best(index: Tensor, directions: Tensor, query: Tensor, row: Tensor) -> Tensor:
    """The nearest row of each query, of pairs of a query and a row; N where a query has none."""
    cosines = torch.zeros(len(query), dtype=torch.float64)
    several = query.bincount(minlength=len(directions))[query] > 1
    for part in several.nonzero().squeeze(1).split(max(1, _NUMBERS // index.shape[1])):
        cosines[part] = (_directions(index[row[part]]) * directions[query[part]]).sum(dim=1)
    highest = directions.new_full((len(directions),), -torch.inf).scatter_reduce(0, query, cosines, "amax")
    close = cosines >= highest[query] - TIE
    nobody = torch.full((len(directions),), len(index))
    return nobody.scatter_reduce(0, query[close], row[close], "amin")


def _among_all(index: Tensor, queries: Tensor) -> Tensor:
    """As `nearest`, all in float64."""
    found = torch.empty(len(queries), dtype=torch.int64)
    step = min(max(1, _COSINES // len(index)), max(1, len(queries)))
    memory = torch.empty(step, len(index), dtype=torch.float64)
    for first, directions in _blocks(queries, step):
        cosines = memory[: len(directions)]
        for start, rows in _blocks(index, _ROWS):
            cosines[:, start : start + len(rows)] = directions @ rows.T
        close = cosines >= cosines.amax(dim=1, keepdim=True) - TIE
        found[first : first + step] = close.to(torch.uint8).argmax(dim=1)  # the first of equals
    return found


def _blocks(vectors: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    """The first row and the directions of ``size`` vectors at a time."""
    for first in range(0, len(vectors), size):
        yield first, _directions(vectors[first : first + size], first)


def _directions(vectors: Tensor, first: int = 0) -> Tensor:
    """``vectors`` in float64 and of length 1, or 0; ``first`` is the number of the first, for an error."""
    vectors = vectors.double()
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    odd = ~((lengths > 1e-100) & (lengths < 1e100)).squeeze(1)
    if odd.any():
        bad = ~vectors.isfinite().all(dim=1)
        if bad.any():
            raise InputError(
                f"Expected finite vectors, but the one at index {first + int(bad.nonzero()[0])} is not."
            )
        # squares of such numbers may be 0 or inf
        largest = vectors.abs().amax(dim=1, keepdim=True).masked_fill(~odd.unsqueeze(1), 1)
        vectors = vectors / largest.masked_fill(largest == 0, 1)
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, 1)


def _float32_is_plain() -> bool:
    """Whether torch computes float32 products in float32, by its settings and oneDNN's."""
    backends = torch.backends, torch.backends.mkldnn, getattr(torch.backends.mkldnn, "matmul", None)
    modes = [os.environ.get(f"{name}_DEFAULT_FPMATH_MODE", "strict").lower() for name in ("DNNL", "ONEDNN")]
    try:
        plain = torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set by both of torch's ways at once
        return False
    each = {getattr(backend, "fp32_precision", "ieee") for backend in backends}
    return plain and each <= {"none", "ieee"} and set(modes) == {"strict"}


def _quick(values: Tensor) -> Tensor:
    """A copy of float32 values, as oneDNN has them where it is: on AMD's CPUs its products take half of MKL's time."""
    return values.to_mkldnn() if torch.backends.mkldnn.is_available() else values.clone()


def _product(less: Tensor, block: _Block) -> Tensor:
    """Approximate cosines float32 [M, n], less what all rows share."""
    with torch.autocast("cpu", enabled=False):
        found = F.linear(less, block.less, block.bias)
    return found.to_dense() if found.is_mkldnn else found
