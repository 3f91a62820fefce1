"""Other selection rules, for comparison: ``greedy.select`` must not lose to any of them.

Each rule takes what ``greedy.select`` takes, returns counts int64 [K] within the capacity, and raises UnaffordableError
if no candidate fits. Among the ensembles that a rule builds on its way, the best one that fits is returned.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Self

import numpy as np

from ensemble.selection import greedy
from ensemble.selection.greedy import require_affordable, shares_of
from ensemble.selection.scores import Score, State

ROUNDS: Final = 25  # AutoGluon's
WEIGHTS: Final = 20  # of cost against loss, from 0 to 1; MULTI_GES's
STEPS: Final = 50  # MULTI_GES's


class _Ensemble(NamedTuple):
    counts: np.ndarray
    state: State

    @classmethod
    def empty(cls, score: Score, candidates: int) -> Self:
        counts = np.zeros(candidates, np.int64)
        return cls(counts, score.state(counts))

    def grown(self, score: Score, k: int) -> "_Ensemble":
        """With a candidate counted once more."""
        counts = self.counts.copy()
        counts[k] += 1
        return _Ensemble(counts, score.grown(self.state, k))


def single(score: Score, costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """The best candidate alone."""
    return greedy.best_single(score, costs, capacity)


def top_k(score: Score, costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """The best k candidates that fit, each counted once; candidates that no longer fit are skipped."""

    def grown() -> Iterable[_Ensemble]:
        ensemble = _Ensemble.empty(score, len(costs))
        for k in _ranking(score, len(costs)):
            if (costs[ensemble.counts > 0].sum(axis=0) + costs[k] <= capacity).all():
                yield (ensemble := ensemble.grown(score, k))

    require_affordable(costs, capacity)
    return _best(score, grown())


def drop_weakest(score: Score, costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """AutoGluon: drop the weakest candidates until the rest fit together, then select greedily among the rest.

    autogluon.tabular 1.6, abstract_trainer.py, _filter_base_models_via_infer_limit, and autogluon.core's
    ensemble_selection.py.
    """
    affordable = require_affordable(costs, capacity)
    kept = [k for k in reversed(_ranking(score, len(costs))) if affordable[k]]
    while (costs[kept].sum(axis=0) > capacity).any():
        kept.pop(0)

    def grown() -> Iterable[_Ensemble]:
        ensemble = _Ensemble.empty(score, len(costs))
        for _ in range(ROUNDS):
            scores = score.additions(ensemble.state)[kept]
            ties = [k for k, value in zip(kept, scores, strict=True) if value == scores.max()]
            chosen = next((k for k in ties if ensemble.counts[k]), ties[0])
            yield (ensemble := ensemble.grown(score, chosen))

    return _best(score, grown())


def weighted(
    score: Score, costs: np.ndarray, capacity: np.ndarray, weights: int = WEIGHTS, steps: int = STEPS
) -> np.ndarray:
    """MULTI_GES: greedy selection by a weighted sum of loss and cost, with each of several weights from 0 to 1.

    Maier et al. 2024, "Hardware Aware Ensemble Selection". Loss and cost are scaled to 0 to 1 over the candidates; cost
    is the largest share of any limit. Returns the best prefix of all runs that fits.
    """
    affordable = require_affordable(costs, capacity)
    spent = shares_of(costs, capacity)

    def grown() -> Iterable[_Ensemble]:
        for weight in np.linspace(0, 1, weights):
            ensemble = _Ensemble.empty(score, len(costs))
            for _ in range(steps):
                loss, members = -score.additions(ensemble.state), ensemble.counts > 0
                cost = spent[members].sum() + np.where(members, 0, spent)
                worth = (1 - weight) * _scaled(loss, affordable) + weight * _scaled(cost, affordable)
                ensemble = ensemble.grown(score, int(np.argmin(np.where(affordable, worth, np.inf))))
                if (costs[ensemble.counts > 0].sum(axis=0) > capacity).any():
                    break
                yield ensemble

    return _best(score, grown())


def ours(
    score: Score, costs: np.ndarray, capacity: np.ndarray, exact: bool = False, trials: np.ndarray | None = None
) -> np.ndarray:
    """What ``greedy.select`` finds."""
    return greedy.select(score, costs, capacity, exact, trials).counts


Rule = Callable[[Score, np.ndarray, np.ndarray], np.ndarray]
RIVALS: Final[dict[str, Rule]] = {
    "top-k": top_k,
    "drop the weakest": drop_weakest,
    "weighted": functools.partial(weighted, weights=5, steps=16),  # a quarter of its weights: it is slow
}


def _ranking(score: Score, count: int) -> list[int]:
    """Candidates from the best to the worst alone."""
    scores = score.additions(score.state(np.zeros(count, np.int64)))
    return [int(k) for k in np.lexsort((score.likelihoods, -scores))]


def _best(score: Score, ensembles: Iterable[_Ensemble]) -> np.ndarray:
    return max(ensembles, key=lambda ensemble: score.value(ensemble.state)).counts


def _scaled(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    least, most = values[among].min(), values[among].max()
    scaled: np.ndarray = (values - least) / max(most - least, 1e-12)
    return scaled
