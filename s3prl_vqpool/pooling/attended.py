"""Attention over time: in torch's operations on whole batches, and block by block on a CPU.

Each of the two attentions stands here three times: batched, and forward and backward of blocks. The blocks give the
same but for rounding. They keep the output of the tanh and the weights for the backward pass, and compute the rest
again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, mse_loss

from .batch import frame_mask
from .rows import Group, add_product, blocks, groups, product, usable

Moments = tuple[Tensor, ...]
"""Mean and, where it is asked for, variance, [B, D] each."""
Blocks = Iterable[tuple[Group, Tensor]]
"""Groups of utterances and their rows, as of `blocks`."""
Kept = tuple[Tensor, Tensor]
"""What the backward pass of a block needs: the output of the tanh [R, hidden], and the weights beside the frames."""
_tanh_backward = torch.ops.aten.tanh_backward


class Attention(NamedTuple):
    """One of the two attentions.

    ``batched``: ``(frames, lengths, parameters, both) -> Moments``.
    ``forward``: ``(blocks, parameters, moments)``; fills ``moments``, and gives what to keep of each block.
    ``backward``: ``(blocks, parameters, moments, kept, by_moments, by_frames)``; fills ``by_frames`` if there is
    one, and gives the gradients of the parameters.
    """

    batched: Callable[[Tensor, Tensor, Sequence[Tensor], bool], Moments]
    forward: Callable[[Blocks, Sequence[Tensor], Moments], Iterator[Kept]]
    backward: Callable[..., tuple[Tensor, ...]]


def moments(
    attention: Attention, frames: Tensor, lengths: Tensor, parameters: Sequence[Tensor], both: bool
) -> Moments:
    """Weighted mean [B, D] and, with ``both``, variance [B, D] over real frames; padding may hold anything.

    Args:
        frames: [B, T, D], floating dtype.
        lengths: int64 [B], checked.
        parameters: of `SELF` W [D, D], b [D], a [D, 1]; of `VECTOR` W_1 [hidden, D], b_1, W_2 [D, hidden], b_2.
    """
    if not usable(frames):
        return attention.batched(frames, lengths, parameters, both)
    keep = torch.is_grad_enabled() and any(each.requires_grad for each in (frames, *parameters))
    return _InBlocks.apply(attention, lengths, both, keep, frames, *parameters)


class _InBlocks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, attention: Attention, lengths: Tensor, both: bool, keep: bool, *inputs: Tensor
    ) -> Moments:
        frames = inputs[0]
        found = tuple(frames.new_empty(frames.size(0), frames.size(2)) for _ in range(1 + both))
        ctx.attention, ctx.both, ctx.count = attention, both, len(inputs)
        ctx.groups = groups(lengths, frames)
        made = attention.forward(blocks(ctx.groups, frames), inputs[1:], found)
        kept = [each for some in made if keep for each in some]
        ctx.save_for_backward(lengths, *inputs, *found, *kept)
        return found

    @staticmethod
    def backward(ctx: Any, *by_moments: Tensor) -> tuple[Tensor | None, ...]:
        lengths, *rest = ctx.saved_tensors
        inputs, rest = rest[: ctx.count], rest[ctx.count :]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():  # a second derivative is asked for
            found = ctx.attention.batched(inputs[0], lengths, inputs[1:], ctx.both)
            wanted = [each for each, need in zip(inputs, needed) if need]
            gradients = iter(torch.autograd.grad(found, wanted, by_moments, create_graph=True))
            return (None, None, None, None, *(next(gradients) if need else None for need in needed))
        found, kept = rest[: len(by_moments)], rest[len(by_moments) :]
        by_frames = inputs[0].new_empty(inputs[0].shape) if needed[0] else None
        by_parameters = ctx.attention.backward(
            blocks(ctx.groups, inputs[0]),
            inputs[1:],
            found,
            zip(kept[::2], kept[1::2]),
            by_moments,
            by_frames,
        )
        return (None, None, None, None, by_frames, *by_parameters)


def _masked(frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [B, T, D] with 0 on padding, and the mask [B, T, 1]."""
    mask = frame_mask(lengths, frames.size(1)).unsqueeze(2)
    return frames.masked_fill(~mask, 0), mask


def _softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Over time, of scores [B, T, 1 or D]; exactly 0 on padding."""
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=1)


def _weighted(frames: Tensor, w: Tensor) -> Moments:
    """``sum_t w (h - mean)^2`` is the published ``sum_t w h^2 - mean^2`` without its cancellation."""
    mean = (w * frames).sum(dim=1)
    return mean, (w * (frames - mean.unsqueeze(1)).square()).sum(dim=1)


def _squares(h: Tensor, mean: Tensor) -> Tensor:
    """``(h - mean)^2`` in one operation."""
    return mse_loss(h, mean.expand_as(h), reduction="none")


def _self_batched(frames: Tensor, lengths: Tensor, parameters: Sequence[Tensor], both: bool) -> Moments:
    weight, bias, attention = parameters
    frames, mask = _masked(frames, lengths)
    w = _softmax(torch.tanh(linear(frames, weight, bias)) @ attention, mask)  # [B, T, 1]
    return _weighted(frames, w) if both else (torch.bmm(w.transpose(1, 2), frames).squeeze(1),)


def _self_forward(blocks: Blocks, parameters: Sequence[Tensor], found: Moments) -> Iterator[Kept]:
    weight, bias, attention = parameters
    for group, rows in blocks:
        hidden, h = product(rows, weight, bias, tanh=True), group.values(rows)
        w = group.softmax(group.values(hidden @ attention))
        found[0][group.some] = group.sums(h, w)
        for variance in found[1:]:
            variance[group.some] = group.sums(_squares(h, group.of(found[0])), w)
        yield hidden, w


def _self_backward(
    blocks: Blocks,
    parameters: Sequence[Tensor],
    found: Moments,
    kept: Iterable[Kept],
    by_moments: Moments,
    by_frames: Tensor | None,
) -> tuple[Tensor, ...]:
    weight, _, attention = parameters
    by_weight, by_bias, by_attention = map(torch.zeros_like, parameters)
    scaled = (attention * weight).t()
    for (group, rows), (hidden, w) in zip(blocks, kept):
        h, add = group.values(rows), group.of(by_moments[0])
        if len(found) == 1:
            by_w = (h * add).sum(-1, keepdim=True)
        else:
            factor, offset = group.of(by_moments[1]), h - group.of(found[0])
            add = torch.addcmul(add, offset, factor)
            by_w = (offset * add).sum(-1, keepdim=True)  # but for a number that is the same for all frames
            add.addcmul_(offset, factor)
        for _ in range(2):  # rounding leaves a mean, by which the sum of `by_scores` would not be 0
            by_w = by_w - group.spread(group.sums(by_w, w))
        by_scores = hidden.new_zeros(len(hidden), 1)
        torch.mul(w, by_w, out=group.values(by_scores))
        by_hidden = _tanh_backward(by_scores, hidden)  # its columns lack the factor `attention`
        by_attention += hidden.t() @ by_scores
        by_bias += by_hidden.sum(0)
        add_product(by_weight, by_hidden, rows)
        if by_frames is not None:
            group.write(product(by_hidden, scaled), w, add, by_frames)
    return by_weight.mul_(attention), by_bias.mul_(attention.squeeze(1)), by_attention


def _vector_batched(frames: Tensor, lengths: Tensor, parameters: Sequence[Tensor], both: bool) -> Moments:
    weight_1, bias_1, weight_2, bias_2 = parameters
    frames, mask = _masked(frames, lengths)
    hidden = torch.tanh(linear(frames, weight_1, bias_1))  # [B, T, hidden]
    return _weighted(frames, _softmax(linear(hidden, weight_2, bias_2), mask))


def _vector_forward(blocks: Blocks, parameters: Sequence[Tensor], found: Moments) -> Iterator[Kept]:
    weight_1, bias_1, weight_2, bias_2 = parameters
    mean, variance = found
    for group, rows in blocks:
        hidden, h = product(rows, weight_1, bias_1, tanh=True), group.values(rows)
        w = group.softmax(group.values(product(hidden, weight_2, bias_2)))
        mean[group.some] = group.sums(w * h)
        variance[group.some] = group.sums(_squares(h, group.of(mean)).mul_(w))
        yield hidden, w


def _vector_backward(
    blocks: Blocks,
    parameters: Sequence[Tensor],
    found: Moments,
    kept: Iterable[Kept],
    by_moments: Moments,
    by_frames: Tensor | None,
) -> tuple[Tensor, ...]:
    weight_1, _, weight_2, _ = parameters
    by_weight_1, by_bias_1, by_weight_2, by_bias_2 = gradients = tuple(map(torch.zeros_like, parameters))
    by_mean, by_variance = by_moments
    less = -by_variance * found[1]
    for (group, rows), (hidden, w) in zip(blocks, kept):
        offset, factor = group.values(rows) - group.of(found[0]), group.of(by_variance)
        add = torch.addcmul(group.of(by_mean), offset, factor)
        by_scores = torch.empty_like(rows)
        by_scores[group.count :] = 0
        torch.addcmul(group.of(less), offset, add, out=group.values(by_scores)).mul_(w)
        by_hidden = _tanh_backward(product(by_scores, weight_2.t()), hidden)
        add_product(by_weight_1, by_hidden, rows)
        add_product(by_weight_2, by_scores, hidden)
        by_bias_1 += by_hidden.sum(0)
        by_bias_2 += by_scores.sum(0)
        if by_frames is not None:
            group.write(product(by_hidden, weight_1.t()), w, add.addcmul_(offset, factor), by_frames)
    return gradients


SELF = Attention(_self_batched, _self_forward, _self_backward)
"""One weight per frame: ``softmax(tanh(H W.T + b) a)``."""
VECTOR = Attention(_vector_batched, _vector_forward, _vector_backward)
"""One per frame and channel: ``softmax_t(W_2 tanh(W_1 h + b_1) + b_2)``."""
