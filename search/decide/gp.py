"""Proposes the configuration that is expected to improve most on the best, by a Gaussian process over what all trials
came to after each of their epochs. There are several (search.decide.posterior): they propose by turns. Their whole
memory is the study.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from search.decide.cost import CHEAPEST
from search.decide.curve_process import Array, Conditioned, expected_improvement
from search.decide.observed import Observed
from search.decide.posterior import Posterior
from search.decide.qmc import sobol
from search.decide.threads import one_thread
from search.decide.wrapping import RelativeSampler
from search.problem.space import Space

RANDOM_SHARE: Final = 0.1
"""Of the trials, drawn anywhere: a process that is wrong must not lose the search"""
WIDE, NEAR, NEARER = 400, 100, 100
"""Proposals that are looked at: anywhere, at each distance from the best, and around the best of these"""
DISTANCES: Final = 0.2, 0.07, 0.02
LAST_DISTANCES: Final = 0.05, 0.01
BEST: Final = 5
"""Configurations near which proposals are drawn"""
FIRST: Final = 256
"""Points of the Sobol sequence, of which the first trials get the cheaper ones"""
WEIGHT: Final = 0.5
"""Of cost, before any trial has begun: the power of it that what is gained is divided by"""
CHANGES: Final = 3
"""Parameters in which these differ from it in the mean, or more: two in five"""


class GpSampler(RelativeSampler):
    """Draws whole configurations. Trials that run are believed to come to what is expected of them."""

    def __init__(self, space: Space, study_seed: int, seed: int) -> None:
        """The Sobol sequence is scrambled by the study's seed, and the same for all of its trials."""
        self._space, self._study_seed = space, study_seed
        self._rng = np.random.default_rng(seed)
        super().__init__(seed)
        self._proposals: Iterator[dict[str, Any]] | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return Posterior.of(study, self._space).coordinates.distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        if self._proposals is None:  # asked again for the same trial, it goes on to the next best
            posterior = Posterior.of(study, self._space)
            whole = posterior.whole([its for its in study.get_trials(deepcopy=False) if its.number != trial.number])
            if processes := posterior.given(study, whole):
                process = processes[trial.number % len(processes)]
                first = self._fitting(posterior.observed, self._ranked(study, posterior, process, whole))
            else:  # the n-th trial gets the n-th point
                first = itertools.islice(self._spread(study, posterior), trial.number, None)
            self._proposals = itertools.chain(first, self._fitting(posterior.observed, self._anywhere(posterior)))
        return next(self._proposals)

    def _ranked(
        self, study: optuna.Study, posterior: Posterior, process: Conditioned, whole: list[FrozenTrial]
    ) -> Array:
        """Shares [M, D] of proposals, best first; none if the trial is one of those that are drawn anywhere."""
        if self._rng.random() < RANDOM_SHARE:
            return np.empty((0, len(posterior.coordinates.distributions)))
        running = [its for its in whole if its.state == TrialState.RUNNING]
        with one_thread():
            shares = map(posterior.observed.shares, (whole, running))
            return self._best(process, posterior, WEIGHT * posterior.costs.weight(study), *shares)

    def _spread(self, study: optuna.Study, posterior: Posterior) -> Iterator[dict[str, Any]]:
        """Parameters of the first trials: a Sobol sequence through what fits the space.

        Where costs hardly differ, the middle of the space comes before it: ranges are chosen around what is thought
        good. Else each trial gets the next point that is among the cheaper part, which widens as costs weigh less.
        """
        observed = posterior.observed
        points = sobol(len(posterior.coordinates.distributions), self._study_seed)
        if not posterior.costs.differ:
            yield from self._fitting(observed, itertools.chain([np.full(points.shape[1], 0.5)], points))
            return
        few = np.array([row for row in points[:FIRST] if self._space.fits(observed.params(row))])
        left = list(range(len(few)))
        costs = posterior.costs.of_shares(observed.settled(few)) if left else np.empty(0)
        for number in range(len(few)):
            most = np.quantile(costs, 1 - (1 - CHEAPEST) * posterior.costs.weight(study, number))
            place = next((place for place in left if costs[place] <= most), left[0])
            left.remove(place)
            yield observed.params(few[place])
        yield from self._fitting(observed, points[FIRST:])

    def _fitting(self, observed: Observed, ranked: Iterable[Array]) -> Iterator[dict[str, Any]]:
        """Parameters of the proposals, shares [D] each, that fit the space."""
        for row in ranked:
            params = observed.params(row)
            if self._space.fits(params):
                yield params

    def _anywhere(self, posterior: Posterior) -> Iterator[Array]:
        """Shares [D] of random draws, without end."""
        while True:
            yield self._rng.random(len(posterior.coordinates.distributions))

    def _best(self, process: Conditioned, posterior: Posterior, weight: float, tried: Array, running: Array) -> Array:
        """Shares [M, D] of proposals, the one that is expected to improve most first, for its cost to this power."""
        observed, coordinates = posterior.observed, posterior.coordinates
        known = observed.shares_of(np.unique(process.seen.trainings))
        process = process.believing(coordinates.points(running))
        mean = process.predict_mean(coordinates.points(known))
        best, tops = mean.max(), known[np.argsort(-mean, kind="stable")[:BEST]]

        def improvement(shares: Array) -> Array:
            gains = expected_improvement(*process.predict(coordinates.points(shares)), best)
            return gains * np.exp(-weight * posterior.costs.of_shares(shares))

        near = [self._around(tops[self._rng.integers(len(tops), size=NEAR)], distance) for distance in DISTANCES]
        shares = observed.settled(np.concatenate([self._rng.random((WIDE, known.shape[1])), *near]))
        gains = improvement(shares)
        top = np.repeat(shares[[gains.argmax()]], NEARER, axis=0)
        nearer = observed.settled(self._around(top, np.resize(LAST_DISTANCES, (NEARER, 1))))
        shares, gains = np.concatenate([nearer, shares]), np.concatenate([improvement(nearer), gains])
        ordered = shares[np.argsort(-gains, kind="stable")]
        old = {row.tobytes() for row in tried}
        is_new = np.array([row.tobytes() not in old for row in ordered])
        return ordered[is_new] if is_new.any() else ordered

    def _around(self, shares: Array, distance: float | Array) -> Array:
        """Shares that differ from these [M, D] in some parameters, normally by so much."""
        step = self._rng.normal(size=shares.shape) * distance
        changes = self._rng.random(shares.shape) < max(0.4, CHANGES / shares.shape[1])
        moved: Array = np.clip(shares + step * changes, 0.0, 1.0)
        return moved
