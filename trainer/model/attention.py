"""Attention over packed sequences: each token sees the tokens of its own sequence, and nothing is wasted on the rest.

On CUDA in bfloat16 the variable-length flash attention kernel does it. Elsewhere the batch is cut into groups of
sequences of similar length, and a group's queries, keys and values are laid out as one rectangle [heads, sequences,
length, 64], so that its attention is a few large matrix products. Padding exists only inside this file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from trainer.config import HEAD_DIM, ROTARY_THETA
from trainer.model.dropout import Dropout
from trainer.model.ops import arrays, in_loops

GROUP_RATIO, GROUP_SLACK = 1.25, 4  # a group's longest sequence: at most ratio * shortest + slack tokens
SCALE = HEAD_DIM**-0.5


@dataclass(frozen=True)
class AttentionMode:
    """Which attention is computed."""

    rotary: bool = True
    """rotate queries and keys by their positions"""
    causal: bool = False
    """each token sees only itself and the tokens before it"""
    first_only: bool = False
    """only the first token of every sequence asks; with ``causal`` it would see nothing but itself"""


@dataclass(frozen=True)
class Group:
    """Sequences of similar length, laid out as a rectangle of ``size`` x ``length`` slots."""

    begin: int
    """sequences before this group"""
    size: int
    """sequences"""
    start: int
    """slots before this group"""
    length: int
    """tokens of the longest"""
    bias: torch.Tensor | None
    """float32 [size, 1, length], -inf on padding; None if all are equally long"""

    def queries_keys_values(
        self, padded: torch.Tensor, heads: int, mode: AttentionMode
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Views of an array of 3 * heads vectors a slot: three [heads * size, length, 64], or one query each."""
        rows = slice(self.start * 3 * heads, (self.start + self.size * self.length) * 3 * heads)
        q, k, v = padded[rows].view(3, heads * self.size, self.length, HEAD_DIM)
        return (q[:, :1] if mode.first_only else q), k, v

    def rotate_(self, padded: torch.Tensor, heads: int, cos: torch.Tensor, sin: torch.Tensor) -> None:
        """Turn queries and keys of such an array by their positions, in place; cos and sin [longest or more, 32]."""
        rows = slice(self.start * 3 * heads, (self.start * 3 + 2 * self.size * self.length) * heads)
        _rotate_(padded[rows].view(-1, self.length, HEAD_DIM), cos[: self.length], sin[: self.length])

    def outputs(self, padded_out: torch.Tensor, heads: int, mode: AttentionMode) -> torch.Tensor:
        """View of an array of ``heads`` vectors a query: [heads * size, length or 1, 64]."""
        begin, length = (self.begin, 1) if mode.first_only else (self.start, self.length)
        rows = slice(begin * heads, (begin + self.size * length) * heads)
        return padded_out[rows].view(-1, length, HEAD_DIM)


class Packing:
    """Where the tokens of every sequence are: packed end to end, and in slots of rectangular groups."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """lengths int64 [batch], tokens of each sequence. Raises ValueError if there is none or one is empty."""
        if len(lengths) == 0 or lengths.min() < 1:
            raise ValueError("a batch needs at least one sequence and every sequence at least one token")
        self.lengths = lengths
        self.device = device
        self.num_tokens = int(lengths.sum())
        starts = np.cumsum(lengths) - lengths
        self._positions = np.arange(self.num_tokens) - np.repeat(starts, lengths)
        self.positions = torch.from_numpy(self._positions).to(device)
        """int64 [num_tokens], place of each token in its sequence"""
        self.first = torch.from_numpy(starts).to(device)
        """int64 [batch], each sequence's first token"""
        self._places: dict[tuple[int, bool], torch.Tensor] = {}
        self._spread: dict[int, torch.Tensor] = {}
        self._sources: dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]] = {}

    def spread(self, gap: int) -> torch.Tensor:
        """int64 [num_tokens], where each token goes if there are ``gap`` empty places between sequences."""
        if gap not in self._spread:
            before = np.repeat(gap * np.arange(len(self.lengths)), self.lengths)
            self._spread[gap] = torch.from_numpy(np.arange(self.num_tokens) + before).to(self.device, non_blocking=True)
        return self._spread[gap]

    @cached_property
    def ends(self) -> torch.Tensor:
        """int32 [batch + 1], 0 and then where each sequence ends."""
        return torch.from_numpy(np.concatenate(([0], np.cumsum(self.lengths))).astype(np.int32)).to(self.device)

    @cached_property
    def rotary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of the rotary angles, position * theta^(-j / 32): float32 [longest sequence, 32] each."""
        half = HEAD_DIM // 2
        frequencies = ROTARY_THETA ** (-torch.arange(half, device=self.device, dtype=torch.float32) / half)
        angles = torch.arange(int(self.lengths.max()), device=self.device)[:, None] * frequencies
        return angles.cos(), angles.sin()

    @cached_property
    def groups(self) -> list[Group]:
        """Groups of similar length, longest first."""
        ordered = self.lengths[self._order]
        groups: list[Group] = []
        begin = start = 0
        while begin < len(ordered):
            longest = int(ordered[begin])
            shortest = min(longest, (longest - GROUP_SLACK) / GROUP_RATIO)
            end = int(np.searchsorted(-ordered, -shortest, side="right"))
            bias = None
            if ordered[end - 1] < longest:
                outside = np.arange(longest) >= ordered[begin:end, None]
                bias = torch.from_numpy(np.where(outside, np.float32(-np.inf), np.float32(0)))[:, None].to(self.device)
            groups.append(Group(begin, end - begin, start, longest, bias))
            start += longest * (end - begin)
            begin = end
        return groups

    @cached_property
    def num_slots(self) -> int:
        return sum(group.size * group.length for group in self.groups)

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.lengths, kind="stable")

    def places(self, vectors: int, first_only: bool = False) -> torch.Tensor:
        """Where each token's (or first token's) ``vectors`` are among the groups' vectors: int64 [tokens * vectors]."""
        key = vectors, first_only
        if key not in self._places:
            sizes, lengths = np.array([(group.size, 1 if first_only else group.length) for group in self.groups]).T
            before = np.cumsum(sizes * lengths) - sizes * lengths
            group = np.empty(len(self.lengths), dtype=np.int64)  # of each sequence
            group[self._order] = np.repeat(np.arange(len(sizes)), sizes)
            rank = np.empty(len(self.lengths), dtype=np.int64)  # of each sequence in its group
            rank[self._order] = np.arange(len(self.lengths)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
            offsets = before[group] * vectors + rank * lengths[group]
            strides = (sizes * lengths)[group]
            if not first_only:
                offsets = np.repeat(offsets, self.lengths) + self._positions
                strides = np.repeat(strides, self.lengths)
            rows = offsets[:, None] + strides[:, None] * np.arange(vectors)
            self._places[key] = torch.from_numpy(rows.ravel()).to(self.device)
        return self._places[key]

    def to_groups(self, vectors: torch.Tensor, per_token: int, first_only: bool = False) -> torch.Tensor:
        """Lay the tokens' (or first tokens') vectors [tokens * per_token, 64] out by group, zeros on padding."""
        key = per_token, first_only
        if key not in self._sources:
            places = self.places(*key)
            num_rows = (len(self.lengths) if first_only else self.num_slots) * per_token
            sources = torch.full((num_rows,), -1, device=self.device).index_copy_(
                0, places, torch.arange(len(places), device=self.device)
            )
            padding = torch.nonzero(sources < 0)[:, 0]
            self._sources[key] = sources.clamp_(min=0), padding
        sources, padding = self._sources[key]
        return vectors.index_select(0, sources).index_fill_(0, padding, 0)


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
    ends, longest = packing.ends, int(packing.lengths.max())
    q_ends, q_longest = ends, longest
    if mode.first_only:
        q, q_ends, q_longest = q[packing.first], torch.arange(len(ends), dtype=torch.int32, device=ends.device), 1
    out: torch.Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, q_ends, ends, q_longest, longest, dropout.probability, mode.causal, False, scale=SCALE
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


def _rotate_(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary embedding in place (Su et al. 2021, arXiv:2104.09864): vectors [..., n, 64], angles [n, 32].

    Channel j of a head's first half and channel j of its second are a pair: LLaMA's up to an order of channels.
    """
    first, second = vectors.chunk(2, dim=-1)
    rotated = torch.mul(first, cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(rotated)


def _rotated(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """What ``_rotate_`` does, as a differentiable copy in the dtype of ``vectors``."""
    first, second = vectors.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(vectors.dtype)
