"""Runs whose frames all agree with the run's first frame: the published Squash-OR, without its loop."""

from __future__ import annotations

from itertools import chain, combinations

import torch
from torch import Tensor

from s3prl_vqpool.pooling.batch import Batch, ranks, tuple_ids

STEPS = 8
"""Codebooks take turns in keeping a run alive; after so many turns the search goes on by bisection."""


def first_frame_runs(batch: Batch) -> Tensor:
    """Labels [B, T] of runs: a frame that disagrees in every codebook with its run's first one begins the next.

    ``next[t]`` is where the run would end if frame t began one. Beginnings are then the orbit of frame 0
    under ``next``, marked by pointer doubling in log2(T) rounds.
    """
    following = _run_ends(batch)  # [B, T + 1]
    frames = following.shape[1] - 1
    begins = torch.zeros_like(following, dtype=torch.bool)
    begins[:, 0] = True
    while bool((following[:, 0] < frames).any()):
        begins.scatter_(1, torch.where(begins, following, frames), True)
        following = following.gather(1, following)
    return torch.nn.functional.pad(begins[:, 1:frames].cumsum(dim=1), (1, 0))


def _run_ends(batch: Batch) -> Tensor:
    """First frame after t that agrees with t in no codebook, [B, T + 1] int64; T if there is none, and for T."""
    codes = batch.codes.masked_fill(~batch.mask.unsqueeze(2), -1)
    codes = torch.nn.functional.pad(codes, (0, 0, 0, 1), value=-2)  # [B, T + 1, G]
    count, frames = codes.shape[0], codes.shape[1] - 1
    at = torch.arange(frames + 1, device=codes.device)
    changes = torch.where(codes[:, 1:] != codes[:, :-1], at[1:, None], frames)
    ends = torch.nn.functional.pad(changes.flip(1).cummin(1).values.flip(1), (0, 0, 0, 1), value=frames)
    reach = ends.amax(dim=2).flatten()
    codes, ends = codes.flatten(0, 1), ends.flatten(0, 1)  # [B (T + 1), G]

    begin = torch.arange(count * (frames + 1), device=codes.device)
    row = begin - begin % (frames + 1)
    for _ in range(STEPS):
        end = row + reach[begin]
        agrees = codes[end] == codes[begin]
        goes_on = agrees.any(dim=1) & (end > begin)
        begin, row, end, agrees = begin[goes_on], row[goes_on], end[goes_on], agrees[goes_on]
        if not len(begin):
            break
        reach[begin] = torch.where(agrees, ends[end], 0).amax(dim=1)
    reach = reach.view(count, frames + 1)
    return _bisected(batch, reach, begin) if len(begin) else reach


def _bisected(batch: Batch, reach: Tensor, begin: Tensor) -> Tensor:
    """Extends ``reach`` [B, T + 1] of the frames ``begin`` to the end in log2(T) counts of agreeing frames.

    How many frames of an interval agree with one frame in some codebook follows by inclusion and exclusion
    from how many have its indices in all of a subset of the codebooks; those are found in sorted lists of
    (indices, position). All frames agree as long as that number is the interval's length.
    """
    frames = reach.shape[1] - 1
    b, t = begin // (frames + 1), begin % (frames + 1)
    lists = []
    every = range(len(batch.entries))
    for subset in chain.from_iterable(combinations(every, n + 1) for n in every):
        ids = ranks(tuple_ids([batch.entries[g] for g in subset]))
        keys = (ids + frames * torch.arange(len(ids), device=ids.device)[:, None]) * frames  # [B, T]
        places = keys + torch.arange(frames, device=ids.device)
        lists.append((1 if len(subset) % 2 else -1, keys[b, t], places.flatten().sort().values))

    def agreeing(end: Tensor) -> Tensor:
        total = torch.zeros_like(end)
        for sign, key, places in lists:
            between = torch.searchsorted(places, key + end, right=True)
            total += sign * (between - torch.searchsorted(places, key + t, right=True))
        return total

    last = reach[b, t] - 1
    step = 1 << frames.bit_length()
    while step := step >> 1:
        further = last + step
        inside = further < frames
        further = torch.where(inside, further, last)
        last = torch.where(inside & (agreeing(further) == further - t), further, last)
    reach[b, t] = last + 1
    return reach
