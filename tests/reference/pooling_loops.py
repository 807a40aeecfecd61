"""The poolings of paper.md as plain loops over one utterance, written from the definitions.

An utterance's codes are a list of index tuples, one per frame; its frames are a list of lists of floats.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

Codes = Sequence[tuple[int, ...]]


def agree(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return any(x == y for x, y in zip(a, b))


def group_weights(groups: list[list[int]], frames: int) -> list[float]:
    weights = [0.0] * frames
    for group in groups:
        for t in group:
            weights[t] = 1 / (len(groups) * len(group))
    return weights


def squash(codes: Codes, same: Callable[[Codes, list[int], int], bool]) -> list[list[int]]:
    groups = [[0]]
    for t in range(1, len(codes)):
        if same(codes, groups[-1], t):
            groups[-1].append(t)
        else:
            groups.append([t])
    return groups


def squash_and(codes: Codes) -> list[list[int]]:
    return squash(codes, lambda q, run, t: q[t] == q[t - 1])


def squash_or(codes: Codes) -> list[list[int]]:
    return squash(codes, lambda q, run, t: agree(q[t], q[t - 1]))


def squash_or_code(codes: Codes) -> list[list[int]]:
    return squash(codes, lambda q, run, t: agree(q[t], q[run[0]]))


def all_squash_and(codes: Codes) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for t, q in enumerate(codes):
        groups.setdefault(tuple(q), []).append(t)
    return list(groups.values())


def all_squash_or(codes: Codes) -> list[list[int]]:
    groups = []
    left = set(range(len(codes)))
    while left:
        waiting = [min(left)]
        left.remove(waiting[0])
        group = []
        while waiting:
            t = waiting.pop()
            group.append(t)
            linked = [u for u in left if agree(codes[t], codes[u])]
            left.difference_update(linked)
            waiting.extend(linked)
        groups.append(sorted(group))
    return groups


PARTITIONS: dict[str, Callable[[Codes], list[list[int]]]] = {
    "VQ-Squash-AND": squash_and,
    "VQ-Squash-OR": squash_or,
    "VQ-Squash-OR@code": squash_or_code,
    "VQ-AllSquash-AND": all_squash_and,
    "VQ-AllSquash-OR": all_squash_or,
}


def normalised(weights: list[float]) -> list[float]:
    total = math.fsum(weights)
    return [w / total for w in weights]


def local_probability(codes: Codes) -> list[float]:
    weights = []
    for q in codes:
        total = 0
        for g, v in enumerate(q):
            total += sum(1 for other in codes if other[g] == v)
        weights.append(1 / total)
    return weights


def global_probability(codes: Codes, training: Codes) -> list[float]:
    weights = []
    for q in codes:
        total = 0
        for g, v in enumerate(q):
            total += max(1, sum(1 for other in training if other[g] == v))
        weights.append(1 / total)
    return weights


def sif(codes: Codes, training: Codes, a: float) -> list[float]:
    joint = Counter(training)
    return [a / (a + joint[q] / len(training)) for q in codes]


WEIGHTS = ("mean", "AP", *PARTITIONS, "VQ-SIF", "VQ-LP", "VQ-GP", "VQ-BP")
"""Names that `weights` takes."""


def weights(name: str, codes: Codes, training: Codes = (), a: float = 1e-3) -> list[float]:
    """Weight of each frame of one utterance; ``training`` is the index tuples of all training frames."""
    if name in ("mean", "AP"):
        return [1 / len(codes)] * len(codes)
    if name in PARTITIONS:
        return group_weights(PARTITIONS[name](codes), len(codes))
    if name == "VQ-SIF":
        return normalised(sif(codes, training, a))
    if name == "VQ-LP":
        return normalised(local_probability(codes))
    if name == "VQ-GP":
        return normalised(global_probability(codes, training))
    if name == "VQ-BP":
        pairs = zip(local_probability(codes), global_probability(codes, training))
        return normalised([x * y for x, y in pairs])
    raise KeyError(name)


def mean_and_deviation(frames: list[list[float]]) -> list[float]:
    means, deviations = [], []
    for channel in zip(*frames):
        mean = math.fsum(channel) / len(channel)
        squares = math.fsum((x - mean) ** 2 for x in channel)
        means.append(mean)
        deviations.append((math.sqrt(squares / (len(channel) - 1)) if len(channel) > 1 else 0.0) + 1e-5)
    return means + deviations


def self_attention(
    frames: list[list[float]], weight: list[list[float]], bias: list[float], attention: list[float]
) -> list[float]:
    """SAP's and ASP's weights: ``softmax(tanh(H W + b) a)``; ``weight`` is [out][in]."""
    scores = []
    for h in frames:
        hidden = [math.tanh(b + sum(w * x for w, x in zip(row, h))) for row, b in zip(weight, bias)]
        scores.append(sum(z * a for z, a in zip(hidden, attention)))
    highest = max(scores)
    return normalised([math.exp(s - highest) for s in scores])


def weighted_moments(frames: list[list[float]], weights: list[list[float]], floor: float) -> list[float]:
    """Mean and ``sqrt(max(w @ H^2 - mean^2, floor))`` under weights [T][D]."""
    means, deviations = [], []
    for channel, w in zip(zip(*frames), zip(*weights)):
        mean = math.fsum(a * x for a, x in zip(w, channel))
        square = math.fsum(a * x * x for a, x in zip(w, channel))
        means.append(mean)
        deviations.append(math.sqrt(max(square - mean**2, floor)))
    return means + deviations


def channel_attention(
    frames: list[list[float]],
    weight_1: list[list[float]],
    bias_1: list[float],
    weight_2: list[list[float]],
    bias_2: list[float],
) -> list[list[float]]:
    """VAP's weights [T][D]: two 1x1 convolutions with a tanh between, softmax over time."""
    scores = []
    for h in frames:
        hidden = [math.tanh(b + sum(w * x for w, x in zip(row, h))) for row, b in zip(weight_1, bias_1)]
        scores.append([b + sum(w * x for w, x in zip(row, hidden)) for row, b in zip(weight_2, bias_2)])
    columns = []
    for column in zip(*scores):
        highest = max(column)
        columns.append(normalised([math.exp(s - highest) for s in column]))
    return [list(row) for row in zip(*columns)]


def weighted_deviation(frames: list[list[float]], weights: list[float]) -> list[float]:
    """``sqrt(sum_t w (x - mean)^2 / (1 - sum_t w^2)) + 1e-5``; 1e-5 where one frame has all the weight."""
    deviations = []
    total = math.fsum(weights)
    freedom = total - math.fsum(w * w for w in weights) / total
    for channel in zip(*frames):
        mean = math.fsum(w * x for w, x in zip(weights, channel)) / total
        squares = math.fsum(w * (x - mean) ** 2 for w, x in zip(weights, channel))
        alone = sum(w > 0 for w in weights) < 2
        deviations.append((0.0 if alone else math.sqrt(squares / freedom)) + 1e-5)
    return deviations
