"""Runs whose frames all agree with the run's first frame: the published Squash-OR, without a loop."""

from __future__ import annotations

from itertools import chain, combinations

import torch
from torch import Tensor

from .batch import Batch, ranks, tuple_ids

STEPS = 8
"""Codebooks take turns in keeping a run alive; after so many turns the search goes on by bisection."""


def first_frame_runs(batch: Batch) -> Tensor:
    """Labels [B, T] of runs, which end before the frame that agrees in no codebook with their first one.

    ``following[t]`` is where the run would end if frame t began one. A frame that none of these jumps over
    begins a run; the other beginnings follow from those in log2 of the most runs between two of them, by
    pointer doubling. Positions are those of the flattened batch, [B T] and one beyond.
    """
    following = _run_ends(batch)
    at = torch.arange(len(following), device=following.device)
    begins = torch.ones_like(at, dtype=torch.bool)
    torch.le(following[:-1].cummax(0).values, at[1:], out=begins[1:])
    while True:
        # Frames that begin no run, as far as is known, point at frame 0, which does.
        more = begins.index_fill(0, following * begins, True)
        if torch.equal(more, begins):
            return begins[:-1].view(batch.mask.shape).cumsum(dim=1) - 1
        begins, following = more, following.index_select(0, following)


def _run_ends(batch: Batch) -> Tensor:
    """First frame after t that agrees with t in no codebook, or the utterance's end; for padding, itself."""
    shape = batch.mask.shape
    at = torch.arange(batch.mask.numel() + 1, device=batch.mask.device)
    place = at[:-1].view(shape)
    limit = (place[:, :1] + batch.lengths.unsqueeze(1)).expand(shape).flatten()
    codes = [code.flatten() for code in batch.codes]
    # A run of equal indices may seem to reach into the next utterance; the limit cuts it.
    ends = [_changes(code, at) for code in codes]
    reach = torch.minimum(torch.stack(ends).amax(dim=0), limit)

    begin = at[:-1]
    for _ in range(STEPS):
        stop = limit.index_select(0, begin)
        reached = reach.index_select(0, begin)
        end = torch.minimum(reached, stop - 1)
        further = reached
        for code, change in zip(codes, ends):
            agrees = code.index_select(0, end) == code.index_select(0, begin)
            further = torch.maximum(further, change.index_select(0, end) * agrees)
        further = torch.minimum(further, stop)
        reach = reach.index_copy(0, begin, further)
        begin = begin.index_select(0, ((further > reached) & (further < stop)).nonzero().squeeze(1))
        if not len(begin):
            break
    else:
        reach = _bisected(batch, reach, begin)
    return torch.cat([torch.maximum(reach, at[:-1]), at[-1:]])


def _changes(code: Tensor, at: Tensor) -> Tensor:
    """First place [N] after each of ``code`` [N] where it changes, N if it does not; ``at`` is 0 to N."""
    change = at[1:].clone()
    change[:-1] += (code[1:] == code[:-1]) * len(at)
    return change.flip(0).cummin(0).values.flip(0)


def _bisected(batch: Batch, reach: Tensor, begin: Tensor) -> Tensor:
    """Extends ``reach`` of the frames ``begin`` to the end, in log2(T) counts of agreeing frames.

    How many frames of an interval agree with one frame in some codebook follows by inclusion and exclusion
    from how many have its indices in all of a subset of the codebooks; those are found in sorted lists of
    (indices, position). All frames agree as long as that number is the interval's length.
    """
    frames = batch.mask.shape[1]
    utterance, t = begin // frames, begin % frames
    lists = []
    every = range(len(batch.entries))
    for subset in chain.from_iterable(combinations(every, n + 1) for n in every):
        ids = ranks(tuple_ids([batch.entries[g] for g in subset]))
        keys = (ids + frames * torch.arange(len(ids), device=ids.device)[:, None]) * frames  # [B, T]
        places = keys + torch.arange(frames, device=ids.device)
        lists.append((1 if len(subset) % 2 else -1, keys[utterance, t], places.flatten().sort().values))

    def agreeing(end: Tensor) -> Tensor:
        total = torch.zeros_like(end)
        for sign, key, places in lists:
            between = torch.searchsorted(places, key + end, right=True)
            total += sign * (between - torch.searchsorted(places, key + t, right=True))
        return total

    last = reach[begin] - 1 - utterance * frames
    step = 1 << frames.bit_length()
    while step := step >> 1:
        further = last + step
        inside = further < frames
        further = torch.where(inside, further, last)
        last = torch.where(inside & (agreeing(further) == further - t), further, last)
    reach[begin] = last + 1 + utterance * frames
    return reach
