"""The 26th place solution's own ensemble, made of a pool's models, for others to be compared with: the average of the
three best of 2 heads x 6 layers, whatever the budget.
"""

from typing import Final

import numpy as np

from ensemble.candidates.pool import Pool
from ensemble.evaluation.unseen import rotated
from ensemble.selection.scores import Objective

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
    """Accuracy on each participant of the three that are best on the others; None if there is only one, or too few
    trials of the shape."""
    participants = len(np.unique(pool.participants))
    if participants == 1 or counts(pool, objective, costs) is None:
        return None

    def rule(others: Objective, costs: np.ndarray, _: np.ndarray) -> np.ndarray:
        chosen = counts(pool, others, costs)
        assert chosen is not None  # it depends on the candidates alone
        return chosen

    return float(rotated(pool, objective, [rule], costs, [np.full(4, np.inf)], participants).sum() / len(pool.labels))
