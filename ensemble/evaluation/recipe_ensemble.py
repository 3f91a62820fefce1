"""The recipe's own ensemble, for comparison: the average of a pool's three best models of 2 heads x 6 layers.

The recipe is the 26th-place solution of the contest. Its author shipped these three, whatever the budget.
"""

from typing import Final

import numpy as np

from ensemble.budget import Budget
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation.unseen import RIGHT, rotated
from ensemble.selection.scores import Score

NUM_HEADS: Final = 2
NUM_LAYERS: Final = 6
NUM_MODELS: Final = 3
NAME: Final = f"{NUM_MODELS} of {NUM_HEADS} x {NUM_LAYERS}"


def counts(priced: PricedPool, score: Score) -> np.ndarray | None:
    """Counts int64 [K] of the three best trials of the shape, one candidate each; None if the pool has fewer.

    If a trial's precisions score alike, the smallest file is taken.
    """
    scores = score.additions(score.state(np.zeros(len(priced.costs), np.int64)))
    best_first = np.lexsort((priced.costs_of("size"), -scores))
    chosen: dict[str, int] = {}
    for k in best_first:
        candidate = priced.pool.candidates[k]
        if (candidate.model.num_heads, candidate.model.num_layers) == (NUM_HEADS, NUM_LAYERS):
            chosen.setdefault(candidate.name, int(k))
    if len(chosen) < NUM_MODELS:
        return None
    result = np.zeros(len(priced.costs), np.int64)
    result[list(chosen.values())[:NUM_MODELS]] = 1
    return result


def unseen_accuracy(priced: PricedPool, score: Score) -> float | None:
    """Accuracy on each participant of the three models that are best on the others.

    None if there is only one participant, or too few trials of the shape.
    """
    people = priced.pool.validation.participants
    folds = len(np.unique(people))
    if folds == 1 or counts(priced, score) is None:
        return None

    def rule(others: Score, *_: np.ndarray) -> np.ndarray:
        chosen = counts(priced, others)
        assert chosen is not None  # whether there are three depends on the candidates alone
        return chosen

    no_limit = priced.room(Budget())
    return float(rotated(priced, score, [rule], [no_limit], folds)[RIGHT].sum() / len(people))
