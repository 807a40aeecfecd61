"""Attention over time: in torch's operations on whole batches, and block by block on a CPU.

Each of the two attentions stands here three times: batched, and forward and backward of blocks. The blocks give the
same but for rounding. They keep the output of the tanh for the backward pass, and compute the rest again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, mse_loss

from s3prl_vqpool.pooling.batch import frame_mask
from s3prl_vqpool.pooling.rows import Block, add_product, blocks, product, usable

Moments = tuple[Tensor, ...]
"""Mean and, where it is asked for, variance, [B, D] each."""
_tanh_backward = torch.ops.aten.tanh_backward


class Attention(NamedTuple):
    """One of the two attentions.

    ``batched``: ``(frames, lengths, parameters, both) -> Moments``.
    ``forward``: ``(blocks, parameters, moments)``; fills ``moments``, and gives the output of each block's tanh.
    ``backward``: ``(blocks, parameters, moments, hidden, by_moments, by_frames)``; fills ``by_frames`` if there is
    one, and gives the gradients of the parameters.
    """

    batched: Callable[[Tensor, Tensor, Sequence[Tensor], bool], Moments]
    forward: Callable[[Iterable[Block], Sequence[Tensor], Moments], Iterator[Tensor]]
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
        hidden = attention.forward(blocks(frames, lengths.tolist()), inputs[1:], found)
        kept = [each for each in hidden if keep]
        ctx.attention, ctx.both, ctx.count = attention, both, len(inputs)
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
        found, hidden = rest[: len(by_moments)], rest[len(by_moments) :]
        by_frames = torch.empty_like(inputs[0]) if needed[0] else None
        by_parameters = ctx.attention.backward(
            blocks(inputs[0], lengths.tolist()), inputs[1:], found, hidden, by_moments, by_frames
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


def _self_forward(blocks: Iterable[Block], parameters: Sequence[Tensor], found: Moments) -> Iterator[Tensor]:
    weight, bias, attention = parameters
    for rows, parts in blocks:
        hidden = product(rows, weight, bias, tanh=True)
        scores = hidden @ attention
        for b, own in parts:
            w, h, (mean, *variance) = (
                scores[own].softmax(0).t(),
                rows[own],
                (each[b : b + 1] for each in found),
            )
            torch.mm(w, h, out=mean)
            for each in variance:
                torch.mm(w, _squares(h, mean), out=each)
        yield hidden


def _self_backward(
    blocks: Iterable[Block],
    parameters: Sequence[Tensor],
    found: Moments,
    kept: Iterable[Tensor],
    by_moments: Moments,
    by_frames: Tensor | None,
) -> tuple[Tensor, ...]:
    weight, _, attention = parameters
    by_weight, by_bias, by_attention = map(torch.zeros_like, parameters)
    scaled = (attention * weight).t()
    for block, hidden in zip(blocks, kept):
        scores = hidden @ attention
        by_scores, direct = torch.zeros_like(scores), []
        for b, own in block.parts:
            w, h, add = scores[own].softmax(0), block.rows[own], by_moments[0][b]
            if len(found) == 1:
                by_w = h @ add.unsqueeze(1)
            else:
                factor, offset = by_moments[1][b], h - found[0][b]
                add = torch.addcmul(add, offset, factor)
                by_w = (offset * add).sum(1, keepdim=True)  # but for a number that is the same for all frames
                add.addcmul_(offset, factor)
            by_scores[own] = w * (by_w - w.t() @ by_w)
            direct.append((w, add))
        by_hidden = _tanh_backward(by_scores, hidden)  # its columns lack the factor `attention`
        add_product(by_weight, by_hidden, block.rows)
        by_bias += by_hidden.sum(0)
        by_attention += hidden.t() @ by_scores
        if by_frames is not None:
            by_rows = product(by_hidden, scaled)
            for (_, own), (w, add) in zip(block.parts, direct):
                by_rows[own].addcmul_(w, add)
            block.write(by_rows, by_frames)
    return by_weight.mul_(attention), by_bias.mul_(attention.squeeze(1)), by_attention


def _vector_batched(frames: Tensor, lengths: Tensor, parameters: Sequence[Tensor], both: bool) -> Moments:
    weight_1, bias_1, weight_2, bias_2 = parameters
    frames, mask = _masked(frames, lengths)
    hidden = torch.tanh(linear(frames, weight_1, bias_1))  # [B, T, hidden]
    return _weighted(frames, _softmax(linear(hidden, weight_2, bias_2), mask))


def _vector_forward(
    blocks: Iterable[Block], parameters: Sequence[Tensor], found: Moments
) -> Iterator[Tensor]:
    weight_1, bias_1, weight_2, bias_2 = parameters
    for rows, parts in blocks:
        hidden = product(rows, weight_1, bias_1, tanh=True)
        scores = product(hidden, weight_2, bias_2)
        for b, own in parts:
            w, h, (mean, variance) = scores[own].softmax(0), rows[own], (each[b] for each in found)
            torch.sum(w * h, 0, out=mean)
            torch.sum(_squares(h, mean).mul_(w), 0, out=variance)
        yield hidden


def _vector_backward(
    blocks: Iterable[Block],
    parameters: Sequence[Tensor],
    found: Moments,
    kept: Iterable[Tensor],
    by_moments: Moments,
    by_frames: Tensor | None,
) -> tuple[Tensor, ...]:
    weight_1, _, weight_2, bias_2 = parameters
    by_weight_1, by_bias_1, by_weight_2, by_bias_2 = gradients = tuple(map(torch.zeros_like, parameters))
    by_mean, by_variance = by_moments
    less = -by_variance * found[1]
    for block, hidden in zip(blocks, kept):
        by_scores, direct = product(hidden, weight_2, bias_2), []
        for b, own in block.parts:
            w, offset = by_scores[own].softmax(0), block.rows[own] - found[0][b]
            add = torch.addcmul(by_mean[b], offset, by_variance[b])
            torch.addcmul(less[b], offset, add, out=by_scores[own]).mul_(w)
            direct.append(add.addcmul_(offset, by_variance[b]).mul_(w))
        by_scores[block.parts[-1].own.stop :] = 0
        by_hidden = _tanh_backward(product(by_scores, weight_2.t()), hidden)
        add_product(by_weight_1, by_hidden, block.rows)
        add_product(by_weight_2, by_scores, hidden)
        by_bias_1 += by_hidden.sum(0)
        by_bias_2 += by_scores.sum(0)
        if by_frames is not None:
            by_rows = product(by_hidden, weight_1.t())
            for (_, own), add in zip(block.parts, direct):
                by_rows[own] += add
            block.write(by_rows, by_frames)
    return gradients


SELF = Attention(_self_batched, _self_forward, _self_backward)
"""One weight per frame: ``softmax(tanh(H W.T + b) a)``."""
VECTOR = Attention(_vector_batched, _vector_forward, _vector_backward)
"""One per frame and channel: ``softmax_t(W_2 tanh(W_1 h + b_1) + b_2)``."""
