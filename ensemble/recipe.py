"""The 26th place solution's own ensemble, made of a pool's models, for others to be compared with: the average of the
three best of 2 heads x 6 layers, whatever the budget.
"""

from typing import Final

import numpy as np

from ensemble.honest import ensemble_probs
from ensemble.objectives import Objective
from ensemble.pool import Pool

NUM_HEADS: Final = 2
NUM_LAYERS: Final = 6
NUM_MODELS: Final = 3
NAME: Final = f"{NUM_MODELS} of {NUM_HEADS} x {NUM_LAYERS}"


def counts(pool: Pool, objective: Objective, costs: np.ndarray) -> np.ndarray | None:
    """The three best trials of the shape, one candidate each: int64 [K]; None if the pool has fewer.

    Of a trial's precisions that score alike the smallest file is taken.
    """
    scores = objective.additions(objective.state(np.zeros(len(costs), np.int64)))
    best_first = np.lexsort((costs[:, 1], -scores))
    chosen: dict[str, int] = {}
    for k in best_first:
        candidate = pool.candidates[k]
        if (candidate.model.num_heads, candidate.model.num_layers) == (NUM_HEADS, NUM_LAYERS):
            chosen.setdefault(candidate.name, int(k))
    if len(chosen) < NUM_MODELS:
        return None
    result = np.zeros(len(costs), np.int64)
    result[list(chosen.values())[:NUM_MODELS]] = 1
    return result


def unseen_accuracy(pool: Pool, objective: Objective, costs: np.ndarray) -> float | None:
    """Accuracy on each participant of the three that are best on the others; None if there is only one."""
    participants = np.unique(pool.participants)
    if len(participants) == 1:
        return None
    right = 0
    for participant in participants:
        rows = np.flatnonzero(pool.participants == participant)
        chosen = counts(pool, objective.on(np.flatnonzero(pool.participants != participant)), costs)
        if chosen is None:
            return None
        right += int((ensemble_probs(pool.val_probs, chosen, rows).argmax(axis=1) == pool.labels[rows]).sum())
    return right / len(pool.labels)
