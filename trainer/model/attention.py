"""Attention over packed sequences: each token sees the tokens of its own sequence, and nothing is wasted on the rest.

On CUDA in bfloat16 the variable-length flash attention kernel does it. Elsewhere the batch is cut into groups of
sequences of similar length, and a group's queries, keys and values are laid out as one rectangle [heads, sequences,
length, 64], so that its attention is a few large matrix products. Padding exists only inside trainer.model.packing.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from trainer.config import HEAD_DIM
from trainer.model.dropout import Dropout
from trainer.model.ops import arrays, in_loops
from trainer.model.packing import AttentionMode, Group, Packing

SCALE = HEAD_DIM**-0.5


def attend(qkv: torch.Tensor, packing: Packing, dropout: Dropout, mode: AttentionMode) -> torch.Tensor:
    """Attention of every token over its own sequence.

    qkv [num_tokens, 3 * width] holds queries, keys and values, each head-major with 64 channels a head. Scores are
    divided by 8; ``dropout`` drops attention weights. Returns [num_tokens, width], or with ``mode.first_only`` the
    rows of the first tokens alone: [batch, width].
    """
    if qkv.is_cuda and qkv.dtype == torch.bfloat16:
        return _attend_flash(qkv, packing, dropout, mode)
    out: torch.Tensor = _AttendInGroups.apply(qkv, packing, dropout, mode)
    return out


def _attend_flash(qkv: torch.Tensor, packing: Packing, dropout: Dropout, mode: AttentionMode) -> torch.Tensor:
    """The variable-length flash attention kernel (Dao 2023, arXiv:2307.08691), on CUDA in bfloat16.

    torch.nn.attention.varlen calls the same kernel, but without dropout.
    """
    q, k, v = qkv.view(len(qkv), 3, -1, HEAD_DIM).unbind(1)
    if mode.rotary:
        cos, sin = (table[packing.positions, None] for table in packing.rotary)
        q, k = (_rotated(vectors, cos, sin) for vectors in (q, k))
    ends, q_ends, q_longest = packing.ends, packing.ends, packing.longest
    if mode.first_only:
        q, q_ends, q_longest = q[packing.first], torch.arange(len(ends), dtype=torch.int32, device=ends.device), 1
    out: torch.Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, q_ends, ends, q_longest, packing.longest, dropout.probability, mode.causal, False, scale=SCALE
    )[0]
    return out.flatten(1)


class _AttendInGroups(torch.autograd.Function):
    """Attention as a few large matrix products a group, on any device.

    Saves each group's queries, keys, values, weights and dropout mask; the gradients are the textbook ones.
    Computed in float32 whatever the dtype of qkv: on CPU that is no slower than bfloat16, whose softmax is.
    """

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, packing: Packing, dropout: Dropout, mode: AttentionMode) -> torch.Tensor:
        heads = qkv.shape[1] // HEAD_DIM // 3
        padded = packing.to_groups(qkv.view(-1, HEAD_DIM), 3 * heads).float()
        padded_out = padded.new_empty(_num_queries(packing, mode) * heads, HEAD_DIM)
        weights, dropped = [], []
        for group in packing.groups:
            if mode.rotary:
                group.rotate_(padded, heads, *packing.rotary)
            q, k, v = group.queries_keys_values(padded, heads, mode)
            weight = torch.softmax(_scores(q, k, group, mode), dim=-1)
            weights.append(weight)
            dropped.append(dropout(weight))
            torch.bmm(dropped[-1], v, out=group.outputs(padded_out, heads, mode))
        ctx.save_for_backward(padded, *weights, *dropped)
        ctx.packing, ctx.dtype, ctx.mode = packing, qkv.dtype, mode
        out = padded_out.to(qkv.dtype).index_select(0, packing.places(heads, mode.first_only))
        return out.view(-1, heads * HEAD_DIM)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        packing: Packing = ctx.packing
        mode: AttentionMode = ctx.mode
        padded, *saved = ctx.saved_tensors
        heads = grad.shape[1] // HEAD_DIM
        padded_grad_out = packing.to_groups(grad.reshape(-1, HEAD_DIM), heads, mode.first_only).float()
        padded_grad = torch.zeros_like(padded) if mode.first_only else torch.empty_like(padded)
        num_groups = len(packing.groups)
        for group, weight, dropped in zip(packing.groups, saved[:num_groups], saved[num_groups:], strict=True):
            q, k, v = group.queries_keys_values(padded, heads, mode)
            grad_q, grad_k, grad_v = group.queries_keys_values(padded_grad, heads, mode)
            grad_out = group.outputs(padded_grad_out, heads, mode)
            torch.bmm(dropped.transpose(1, 2), grad_out, out=grad_v)
            grad_scores = _through_softmax_(torch.bmm(grad_out, v.transpose(1, 2)), dropped, weight)
            grad_q.copy_(torch.baddbmm(q, grad_scores, k, beta=0, alpha=SCALE))
            torch.baddbmm(k, grad_scores.transpose(1, 2), q, beta=0, alpha=SCALE, out=grad_k)
            if mode.rotary:
                cos, sin = packing.rotary
                group.rotate_(padded_grad, heads, cos, -sin)
        vectors = padded_grad.to(ctx.dtype).index_select(0, packing.places(3 * heads))
        return vectors.view(packing.num_tokens, -1), None, None, None


def _through_softmax_(grad: torch.Tensor, dropped: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The gradient of attention weights after dropout -> that of the scores, in place: three [.., queries, length].

    Through dropout and softmax at once: ``dropped`` is weight * mask, and 0 where weight is.
    """
    if in_loops(grad, dropped, weight):
        from trainer.model import loops

        loops.softmax_backward(*arrays(*(item.flatten(0, 1) for item in (grad, dropped, weight))))
        return grad
    grad.mul_(dropped)
    return grad.addcmul_(weight, grad.sum(-1, keepdim=True), value=-1)


def _scores(q: torch.Tensor, k: torch.Tensor, group: Group, mode: AttentionMode) -> torch.Tensor:
    """Before softmax: [heads * size, queries, length], -inf where a query may not look."""
    if group.bias is None:
        scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=SCALE)
    else:
        scores = torch.baddbmm(group.bias.repeat(len(q) // group.size, 1, 1), q, k.transpose(1, 2), alpha=SCALE)
    if mode.causal:
        scores += torch.full_like(scores[0], -torch.inf).triu(1)
    return scores


def _num_queries(packing: Packing, mode: AttentionMode) -> int:
    return len(packing.lengths) if mode.first_only else packing.num_slots


def _rotated(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """What ``_rotate_`` does, as a differentiable copy in the dtype of ``vectors``."""
    first, second = vectors.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(vectors.dtype)
