"""Attention over packed sequences: each token sees the tokens of its own sequence, and nothing is wasted on the rest.

On CPU the batch is cut into groups of sequences of similar length; a group is gathered into one rectangular
array, so that the whole of its attention is a few large matrix products, with at most a quarter of padding
to a side. Padding exists only inside this file.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from trainer.dropout import Dropout

GROUP_RATIO = 1.25  # longest to shortest sequence of a group


@dataclass(frozen=True)
class Group:
    """Sequences of similar length as one rectangle of the padded layout."""

    start: int
    """first slot of the rectangle"""
    size: int
    """sequences"""
    length: int
    """tokens of the longest"""
    bias: torch.Tensor | None
    """float32 [size, 1, 1, length], -inf on padding; None if all are equally long"""


class Packing:
    """Where the tokens of every sequence are, in the packed and in the padded layout.

    ``lengths`` int64 [batch] counts tokens. Packed: sequences end to end, ``num_tokens`` in all. Padded:
    groups end to end, each a rectangle [size, length], ``num_slots`` in all.
    """

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        if len(lengths) == 0 or lengths.min() < 1:
            raise ValueError("a batch needs at least one sequence and every sequence at least one token")
        self.lengths = lengths
        self.device = device
        self.num_tokens = int(lengths.sum())
        self.starts = np.cumsum(lengths) - lengths

    @cached_property
    def positions(self) -> torch.Tensor:
        """int64 [num_tokens], place of each token in its sequence."""
        return torch.from_numpy(np.arange(self.num_tokens) - np.repeat(self.starts, self.lengths)).to(self.device)

    @cached_property
    def first(self) -> torch.Tensor:
        """int64 [batch], each sequence's first token in the packed layout."""
        return torch.from_numpy(self.starts).to(self.device)

    @cached_property
    def groups(self) -> list[Group]:
        """Groups of similar length, longest first."""
        return self._layout[0]

    @cached_property
    def slots(self) -> torch.Tensor:
        """int64 [num_tokens], slot of each token in the padded layout."""
        return self._layout[1]

    @cached_property
    def num_slots(self) -> int:
        return sum(group.size * group.length for group in self.groups)

    @cached_property
    def _layout(self) -> tuple[list[Group], torch.Tensor]:
        order = np.argsort(-self.lengths, kind="stable")
        ordered = self.lengths[order]
        groups: list[Group] = []
        first_slots = np.empty(len(order), dtype=np.int64)
        begin = slot = 0
        while begin < len(order):
            longest = int(ordered[begin])
            end = int(np.searchsorted(-ordered, -longest / GROUP_RATIO, side="right"))
            lengths = ordered[begin:end]
            bias = None
            if lengths[-1] < longest:
                outside = np.arange(longest) >= lengths[:, None]
                bias = torch.from_numpy(np.where(outside, -np.inf, 0).astype(np.float32)).to(self.device)[:, None, None]
            first_slots[order[begin:end]] = slot + longest * np.arange(end - begin)
            groups.append(Group(slot, end - begin, longest, bias))
            slot += longest * (end - begin)
            begin = end
        slots = np.repeat(first_slots - self.starts, self.lengths) + np.arange(self.num_tokens)
        return groups, torch.from_numpy(slots).to(self.device)


def attend(qkv: torch.Tensor, packing: Packing, num_heads: int, dropout: Dropout) -> torch.Tensor:
    """Scaled dot-product attention of every token over its own sequence.

    qkv [num_tokens, 3 * width] holds queries, keys and values, each head-major. Returns [num_tokens, width].
    """
    width = qkv.shape[1] // 3
    head_dim = width // num_heads
    padded = qkv.new_zeros(packing.num_slots, 3 * width).index_copy(0, packing.slots, qkv)
    outputs = []
    for group in packing.groups:
        rows = padded[group.start : group.start + group.size * group.length]
        q, k, v = rows.view(group.size, group.length, 3, num_heads, head_dim).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)).float() * head_dim**-0.5
        if group.bias is not None:
            scores = scores + group.bias
        weights = dropout(torch.softmax(scores, dim=-1).to(v.dtype))
        outputs.append((weights @ v).transpose(1, 2).reshape(-1, width))
    return torch.cat(outputs).index_select(0, packing.slots)
