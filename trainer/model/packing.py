"""Where the tokens of every sequence of a batch are: end to end, and in slots of rectangular groups."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from trainer.config import HEAD_DIM, ROTARY_THETA

GROUP_RATIO, GROUP_SLACK = 1.25, 4  # a group's longest sequence: at most ratio * shortest + slack tokens


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


_INDICES = {"positions", "first", "frames", "frame_positions", "moving", "sequences", "ends"}
_OF_GROUPS = {"groups", "num_slots", "_order"}


class Packing:
    """Where the tokens of every sequence are: packed end to end, and in slots of rectangular groups."""

    def __init__(self, lengths: np.ndarray, device: torch.device, lead: int = 0, longest: int | None = None) -> None:
        """lengths int64 [batch], frames of each sequence; before them it has ``lead`` tokens more, such as CLS.

        ``longest`` is the most frames that a sequence will have after ``take`` (default: the most here).

        Raises ValueError if there is no sequence or one is without tokens.
        """
        self.lengths = lengths + lead
        """int64 [batch], tokens of each sequence"""
        if len(lengths) == 0 or self.lengths.min() < 1:
            raise ValueError("a batch needs at least one sequence and every sequence at least one token")
        self.device = device
        self.lead = lead
        self.num_tokens = int(self.lengths.sum())
        self.longest = int(self.lengths.max()) if longest is None else longest + lead
        """Tokens of the longest sequence, or more"""
        starts = np.cumsum(self.lengths) - self.lengths
        self._positions = np.arange(self.num_tokens) - np.repeat(starts, self.lengths)
        self.positions = self._on_device(self._positions)
        """int64 [num_tokens], place of each token in its sequence"""
        self.first = self._on_device(starts)
        """int64 [batch], each sequence's first token"""
        self._spread: dict[int, torch.Tensor] = {}
        self._places: dict[tuple[int, bool], torch.Tensor] = {}
        self._sources: dict[tuple[int, bool], tuple[torch.Tensor, torch.Tensor]] = {}

    def take(self, other: "Packing") -> None:
        """Become another batch, of as many sequences and tokens, whose indices on the device are where these were.

        Raises ValueError for one of other sizes.
        """
        if (len(other.lengths), other.num_tokens) != (len(self.lengths), self.num_tokens):
            raise ValueError(f"another batch must have {len(self.lengths)} sequences and {self.num_tokens} tokens")
        for name in _INDICES & self.__dict__.keys():
            self.__dict__[name].copy_(getattr(other, name))
        for gap, places in self._spread.items():
            places.copy_(other.spread(gap))
        self.lengths, self._positions = other.lengths, other._positions
        self._places, self._sources = {}, {}
        for name in _OF_GROUPS & self.__dict__.keys():
            del self.__dict__[name]

    def _on_device(self, indices: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(indices).to(self.device, non_blocking=True)

    @cached_property
    def frames(self) -> torch.Tensor:
        """int64 [sum of frames], the token that each frame is."""
        sizes = self.lengths - self.lead
        return self._on_device(np.arange(sizes.sum()) + np.repeat(self.lead * np.arange(1, len(sizes) + 1), sizes))

    @cached_property
    def frame_positions(self) -> torch.Tensor:
        """int64 [sum of frames], place of each frame among those of its sequence."""
        return self.positions.index_select(0, self.frames) - self.lead

    @cached_property
    def moving(self) -> torch.Tensor:
        """int64 [sum of frames - batch], the frames that another follows in their sequence."""
        sizes = self.lengths - self.lead
        follows = np.ones(sizes.sum(), np.bool_)
        follows[np.cumsum(sizes) - 1] = False
        return self._on_device(np.flatnonzero(follows))

    @cached_property
    def sequences(self) -> torch.Tensor:
        """int64 [num_tokens], the sequence that each token belongs to."""
        return self._on_device(np.repeat(np.arange(len(self.lengths)), self.lengths))

    @cached_property
    def ends(self) -> torch.Tensor:
        """int32 [batch + 1], 0 and then where each sequence ends."""
        return self._on_device(np.concatenate(([0], np.cumsum(self.lengths))).astype(np.int32))

    def spread(self, gap: int) -> torch.Tensor:
        """int64 [num_tokens], where each token goes if there are ``gap`` empty places between sequences."""
        if gap not in self._spread:
            before = np.repeat(gap * np.arange(len(self.lengths)), self.lengths)
            self._spread[gap] = self._on_device(np.arange(self.num_tokens) + before)
        return self._spread[gap]

    @cached_property
    def rotary(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of the rotary angles, position * theta^(-j / 32): float32 [longest sequence, 32] each."""
        half = HEAD_DIM // 2
        frequencies = ROTARY_THETA ** (-torch.arange(half, device=self.device, dtype=torch.float32) / half)
        angles = torch.arange(self.longest, device=self.device)[:, None] * frequencies
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


def _rotate_(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary embedding in place (Su et al. 2021, arXiv:2104.09864): vectors [..., n, 64], angles [n, 32].

    Channel j of a head's first half and channel j of its second are a pair: LLaMA's up to an order of channels.
    """
    first, second = vectors.chunk(2, dim=-1)
    rotated = torch.mul(first, cos).addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(rotated)
