"""Attention over packed sequences: each token sees the tokens of its own sequence, and nothing is wasted on the rest.

On CPU the batch is cut into groups of sequences of similar length. A group's queries, keys and values are laid
out as one rectangle [heads, sequences, length, 64], so that its attention is a few large matrix products.
Padding exists only inside this file.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from trainer.config import HEAD_DIM, ROTARY_THETA
from trainer.dropout import Dropout

GROUP_RATIO, GROUP_SLACK = 1.25, 4  # a group's longest sequence: at most ratio * shortest + slack tokens
SCALE = HEAD_DIM**-0.5


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

    def vectors(self, padded: torch.Tensor, per_slot: int) -> torch.Tensor:
        """This group's part of an array with ``per_slot`` vectors a slot: a view [per_slot * size, length, 64]."""
        rows = slice(self.start * per_slot, (self.start + self.size * self.length) * per_slot)
        return padded[rows].view(-1, self.length, HEAD_DIM)

    def first_vectors(self, padded: torch.Tensor, per_sequence: int) -> torch.Tensor:
        """This group's part of an array with ``per_sequence`` vectors a sequence: [per_sequence * size, 1, 64]."""
        rows = slice(self.begin * per_sequence, (self.begin + self.size) * per_sequence)
        return padded[rows].view(-1, 1, HEAD_DIM)


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

    @cached_property
    def rotary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of the rotary angles, position * theta^(-j / 32): float32 [num_tokens, 1, 32] each."""
        half = HEAD_DIM // 2
        frequencies = ROTARY_THETA ** (-torch.arange(half, device=self.device, dtype=torch.float32) / half)
        angles = (self.positions[:, None] * frequencies)[:, None]
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


def attend(qkv: torch.Tensor, packing: Packing, dropout: Dropout, first_only: bool = False) -> torch.Tensor:
    """Attention of every token over its own sequence, queries and keys rotated by their positions.

    qkv [num_tokens, 3 * width] holds queries, keys and values, each head-major with 64 channels a head. Scores are
    divided by 8; ``dropout`` drops attention weights. Returns [num_tokens, width], or with ``first_only`` the rows
    of the first tokens alone: [batch, width]. Computed in float32 whatever the dtype of qkv: on CPU that is no
    slower than bfloat16, whose softmax is.
    """
    out: torch.Tensor = _Attend.apply(qkv, packing, dropout, first_only)
    return out


class _Attend(torch.autograd.Function):
    """Saves each group's queries, keys, values, weights and dropout mask; the gradients are the textbook ones."""

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, packing: Packing, dropout: Dropout, first_only: bool) -> torch.Tensor:
        heads = qkv.shape[1] // HEAD_DIM // 3
        vectors = qkv.view(-1, 3 * heads, HEAD_DIM).to(torch.float32, copy=True)
        _rotate_(vectors[:, : 2 * heads], *packing.rotary)
        padded = vectors.new_zeros(packing.num_slots * 3 * heads, HEAD_DIM)
        padded.index_copy_(0, packing.places(3 * heads), vectors.view(-1, HEAD_DIM))
        num_rows = len(packing.lengths) if first_only else packing.num_slots
        padded_out = padded.new_empty(num_rows * heads, HEAD_DIM)
        weights, masks = [], []
        for group in packing.groups:
            q, k, v = _queries_keys_values(group, padded, heads, first_only)
            scores = torch.bmm(q, k.transpose(1, 2)).mul_(SCALE)
            if group.bias is not None:
                scores.view(heads, group.size, -1, group.length).add_(group.bias)
            weight = torch.softmax(scores, dim=-1)
            mask = dropout.mask(weight)
            out = group.first_vectors(padded_out, heads) if first_only else group.vectors(padded_out, heads)
            torch.bmm(weight if mask is None else weight * mask, v, out=out)
            weights.append(weight)
            masks += [] if mask is None else [mask]
        ctx.save_for_backward(padded, *weights, *masks)
        ctx.packing, ctx.dtype, ctx.first_only = packing, qkv.dtype, first_only
        return padded_out.index_select(0, packing.places(heads, first_only)).view(-1, heads * HEAD_DIM).to(qkv.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        packing: Packing = ctx.packing
        first_only: bool = ctx.first_only
        padded, *saved = ctx.saved_tensors
        weights, masks = saved[: len(packing.groups)], saved[len(packing.groups) :]
        heads = grad.shape[1] // HEAD_DIM
        num_rows = len(packing.lengths) if first_only else packing.num_slots
        padded_grad_out = padded.new_zeros(num_rows * heads, HEAD_DIM)
        grad_vectors = grad.reshape(-1, HEAD_DIM).to(padded.dtype)
        padded_grad_out.index_copy_(0, packing.places(heads, first_only), grad_vectors)
        padded_grad = torch.zeros_like(padded) if first_only else torch.empty_like(padded)
        for index, (group, weight) in enumerate(zip(packing.groups, weights, strict=True)):
            mask = masks[index] if masks else None
            q, k, v = _queries_keys_values(group, padded, heads, first_only)
            grad_q, grad_k, grad_v = _queries_keys_values(group, padded_grad, heads, first_only)
            source = group.first_vectors if first_only else group.vectors
            grad_out = source(padded_grad_out, heads)
            dropped = weight if mask is None else weight * mask
            torch.bmm(dropped.transpose(1, 2), grad_out, out=grad_v)
            grad_weight = torch.bmm(grad_out, v.transpose(1, 2))
            if mask is not None:
                grad_weight *= mask
            grad_scores = torch._softmax_backward_data(grad_weight, weight, -1, weight.dtype).mul_(SCALE)
            grad_q.copy_(torch.bmm(grad_scores, k))
            torch.bmm(grad_scores.transpose(1, 2), q, out=grad_k)
        vectors = padded_grad.index_select(0, packing.places(3 * heads)).view(-1, 3 * heads, HEAD_DIM)
        cos, sin = packing.rotary
        _rotate_(vectors[:, : 2 * heads], cos, -sin)
        return vectors.view(packing.num_tokens, -1).to(ctx.dtype), None, None, None


def _queries_keys_values(
    group: Group, padded: torch.Tensor, heads: int, first_only: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views [heads * size, length, 64] of a group's vectors; with ``first_only`` queries [heads * size, 1, 64]."""
    q, k, v = group.vectors(padded, 3 * heads).view(3, heads * group.size, group.length, HEAD_DIM)
    return (q[:, :1] if first_only else q), k, v


def _rotate_(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary embedding in place (Su et al. 2021, arXiv:2104.09864): vectors [n, heads, 64], angles [n, 1, 32].

    Channel j of a head's first half and channel j of its second are a pair: LLaMA's up to an order of channels.
    """
    first, second = vectors.chunk(2, dim=-1)
    rotated = torch.mul(first, cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(rotated)
