"""Augmentations: pure functions of packed arrays and an explicit generator.

All take ``frames`` float32 [sum of lengths, 85, 2] and ``lengths`` int64 [batch]. A missing landmark is
exactly (0, 0) before and after. Random numbers are drawn on the host, so a seed means the same on every device.
"""

from dataclasses import dataclass

import numpy as np
import torch

from trainer.landmarks import MIRROR

ALONE_WEIGHT = 0.999  # a sequence with more weight than this is not mixed


def mirror(frames: torch.Tensor, lengths: np.ndarray, probability: float, rng: np.random.Generator) -> torch.Tensor:
    """Mirror each sequence with the given probability: x is negated, left and right landmarks trade places."""
    chosen = rng.random(len(lengths)) < probability
    index = torch.from_numpy(np.flatnonzero(np.repeat(chosen, lengths))).to(frames.device)
    order = torch.from_numpy(MIRROR).to(frames.device)
    flip = torch.tensor([-1.0, 1.0], device=frames.device)
    return frames.index_copy(0, index, frames[index][:, order] * flip)


@dataclass(frozen=True)
class Mixed:
    """What mixup made of a batch. Sequence i keeps its place; a share of its partner is mixed in."""

    frames: torch.Tensor
    """float32 [sum of lengths, 85, 2]"""
    lengths: np.ndarray
    """int64 [batch]: the shorter of the two sequences' lengths, or the own length where nothing was mixed in"""
    partners: np.ndarray
    """int64 [batch], index of the sequence mixed in"""
    weights: np.ndarray
    """float32 [batch], share of the sequence itself: 0.5 to 1"""


def mixup(frames: torch.Tensor, lengths: np.ndarray, alpha: float, rng: np.random.Generator) -> Mixed:
    """Mix each sequence with another of the batch (Zhang et al. 2018, arXiv:1710.09412; lengths as in the seed).

    The weight is max(l, 1 - l) with l ~ Beta(alpha, alpha), the partner comes from a permutation of the batch. Of
    two sequences of different lengths a random window of the longer one is used. A weight above 0.999 leaves the
    sequence as it is.
    """
    weights = rng.beta(alpha, alpha, len(lengths))
    weights = np.maximum(weights, 1 - weights).astype(np.float32)
    partners = rng.permutation(len(lengths))
    alone = (weights > ALONE_WEIGHT) | (partners == np.arange(len(lengths)))
    partners = np.where(alone, np.arange(len(lengths)), partners)
    weights = np.where(alone, np.float32(1), weights)

    mixed_lengths = np.minimum(lengths, lengths[partners])
    own = _windows(lengths, np.arange(len(lengths)), mixed_lengths, rng)
    other = _windows(lengths, partners, mixed_lengths, rng)
    share = torch.from_numpy(np.repeat(weights, mixed_lengths)).to(frames.device)[:, None, None]
    mixed = torch.lerp(frames[other.to(frames.device)], frames[own.to(frames.device)], share)
    return Mixed(mixed, mixed_lengths, partners, weights)


def _windows(lengths: np.ndarray, chosen: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Frame indices of a random window of sizes[i] frames of sequence chosen[i], end to end: int64 [sum of sizes]."""
    offsets = rng.integers(0, lengths[chosen] - sizes + 1)
    return torch.from_numpy(ranges((np.cumsum(lengths) - lengths)[chosen] + offsets, sizes))


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """starts[i], starts[i] + 1, ... (sizes[i] of them), end to end: int64 [sum of sizes]."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(sizes.sum())
