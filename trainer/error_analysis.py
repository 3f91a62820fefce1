"""Error analysis on arrays: which signs and people a model gets wrong, what it takes them for, and how sure it is.

probs are [N, signs], labels and groups int64 [N], with N >= 1. A sequence is named by its likeliest sign, the first of
equal ones. Ill-shaped arrays raise ValueError.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BINS: Final = 15  # of Guo et al. 2017


@dataclass(frozen=True)
class Group:
    """Sequences of one sign, or of one person."""

    key: int
    count: int
    right: int

    @property
    def accuracy(self) -> float:
        return self.right / self.count


@dataclass(frozen=True)
class Confusion:
    """How many sequences of a sign were named as another."""

    true: int
    named: int
    count: int


@dataclass(frozen=True)
class Calibration:
    """How often what is named with some confidence is right, in bins of equal width from 0 to 1.

    Guo et al. 2017, "On Calibration of Modern Neural Networks"."""

    counts: np.ndarray
    """int64 [bins]"""
    confidence: np.ndarray
    """Mean probability of the named sign, float64 [bins]; NaN where a bin is empty"""
    accuracy: np.ndarray
    """Share that is right, float64 [bins]; NaN where a bin is empty"""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence|, weighted by counts."""
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())

    @property
    def mean_confidence(self) -> float:
        return float(np.nansum(self.counts * self.confidence) / self.counts.sum())


def mixed(members: Sequence[np.ndarray], counts: Sequence[int]) -> np.ndarray:
    """The weighted mean of the members' probs: float64 [N, signs]."""
    if not members or len(members) != len(counts) or min(counts) < 1 or len({probs.shape for probs in members}) > 1:
        raise ValueError("probs of one shape [N, signs] and a count of at least 1 for each member expected")
    total = np.zeros(members[0].shape)
    for probs, count in zip(members, counts, strict=True):
        total += np.multiply(probs, count, dtype=np.float64)
    return total / sum(counts)


def by_group(right: np.ndarray, groups: np.ndarray) -> list[Group]:
    """Each group's sequences and how many are right, bool [N]: the least accurate first, of equal ones the largest."""
    if right.ndim != 1 or right.shape != groups.shape:
        raise ValueError(f"right [N] and groups [N] expected, not {right.shape} and {groups.shape}")
    keys, places = np.unique(groups, return_inverse=True)
    counts, hits = np.bincount(places), np.bincount(places, weights=right)
    found = [Group(int(key), int(count), int(hit)) for key, count, hit in zip(keys, counts, hits, strict=True)]
    return sorted(found, key=lambda group: (group.accuracy, -group.count, group.key))


def confusions(labels: np.ndarray, named: np.ndarray) -> list[Confusion]:
    """Pairs of a true and another named sign, int64 [N] each, that occur: the most frequent first."""
    if labels.ndim != 1 or labels.shape != named.shape:
        raise ValueError(f"labels [N] and named [N] expected, not {labels.shape} and {named.shape}")
    wrong = labels != named
    pairs, counts = np.unique(np.stack([labels[wrong], named[wrong]], axis=1), axis=0, return_counts=True)
    found = [Confusion(int(true), int(other), int(count)) for (true, other), count in zip(pairs, counts, strict=True)]
    return sorted(found, key=lambda item: (-item.count, item.true, item.named))


def taken_for(pairs: Iterable[Confusion]) -> dict[int, list[Confusion]]:
    """What each sign is taken for, by its label, in the order of ``pairs``; signs without an error are not in it."""
    found = defaultdict(list)
    for pair in pairs:
        found[pair.true].append(pair)
    return dict(found)


def missed_by_all(members: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Places of the sequences that every member's probs name wrongly: int64, ascending."""
    wrong = np.ones(len(labels), np.bool_)
    for probs in members:
        wrong &= probs.argmax(axis=1) != labels
    return np.flatnonzero(wrong)


def calibration(probs: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Calibration:
    """The reliability of the named signs' probabilities; a bin holds its upper edge, and the first 0 too."""
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or len(labels) == 0:
        raise ValueError(f"probs [N, signs] and labels [N] with N >= 1 expected, not {probs.shape} and {labels.shape}")
    confidence = probs.max(axis=1).astype(np.float64)
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    right = probs.argmax(axis=1) == labels
    with np.errstate(invalid="ignore"):  # 0 / 0 of empty bins
        means = [np.bincount(places, values, bins) / counts for values in (confidence, right)]
    return Calibration(counts, *means)
