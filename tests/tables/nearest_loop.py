"""Nearest neighbours by angle, number by number."""

from __future__ import annotations

import math

from torch import Tensor


def loop(index: Tensor, queries: Tensor) -> list[int]:
    """Lowest row with the highest cosine."""

    def cosine(x: list[float], y: list[float]) -> float:
        length = math.sqrt(math.fsum(a * a for a in x)) * math.sqrt(math.fsum(b * b for b in y))
        return math.fsum(a * b for a, b in zip(x, y)) / length if length else 0.0

    found = []
    for query in queries.double().tolist():
        cosines = [cosine(query, row) for row in index.double().tolist()]
        found.append(cosines.index(max(cosines)))
    return found
