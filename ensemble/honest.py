"""Accuracy on people whom the selection never saw: chosen on all validation participants but one, reported on that one,
for each in turn. What was selected on the same labels that it is reported on looks better than it is.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ensemble import greedy
from ensemble.pool import Pool, ValProbs


@dataclass(frozen=True)
class Accuracies:
    """Share of sequences that are right."""

    ensemble: float
    single: float
    """The best single candidate that fits the budget"""


def seen_accuracies(
    pool: Pool, objective: greedy.Objective, costs: np.ndarray, capacity: np.ndarray, counts: np.ndarray
) -> Accuracies:
    """Accuracies on all labels, of the ensemble with these counts and of the best single candidate."""
    everyone = np.arange(len(pool.labels))
    best = _best_single(objective, costs, capacity)
    return Accuracies(
        ensemble=float(_right(pool, counts, everyone).mean()), single=float(_right(pool, best, everyone).mean())
    )


def unseen_accuracies(
    pool: Pool, objective: greedy.Objective, costs: np.ndarray, capacity: np.ndarray
) -> Accuracies | None:
    """Accuracies of selections made without each participant on that participant; None if there is only one."""
    participants = np.unique(pool.participants)
    if len(participants) == 1:
        return None
    right = {"ensemble": 0, "single": 0}
    for participant in participants:
        unseen = pool.participants == participant
        others = objective.on(np.flatnonzero(~unseen))
        rows = np.flatnonzero(unseen)
        right["ensemble"] += _right(pool, greedy.select(others, costs, capacity).counts, rows).sum()
        right["single"] += _right(pool, _best_single(others, costs, capacity), rows).sum()
    return Accuracies(**{name: int(count) / len(pool.labels) for name, count in right.items()})


def _best_single(objective: greedy.Objective, costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    counts = np.zeros(len(costs), np.int64)
    scores = objective.additions(objective.state(counts))
    counts[np.argmax(np.where((costs <= capacity).all(axis=1), scores, -np.inf))] = 1
    return counts


def ensemble_probs(val_probs: ValProbs, counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average probabilities by counts: float32 [len(rows), signs]."""
    shares = counts / counts.sum()
    parts = (np.float32(shares[k]) * val_probs[int(k)][rows].astype(np.float32) for k in np.flatnonzero(counts))
    return functools.reduce(np.add, parts)


def _right(pool: Pool, counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the sequences an ensemble names rightly: bool [len(rows)]."""
    right: np.ndarray = ensemble_probs(pool.val_probs, counts, rows).argmax(axis=1) == pool.labels[rows]
    return right
