"""CMA-ES as a sampler whose whole memory is the study's trials.

Optuna's own keeps a pickled optimizer in the study, which nobody should have to load. Here each trial is marked with
the generation that it was drawn for, and the optimizer is made again from the trials that have ended, in the order in
which they did: so a study that is opened again, anywhere, goes on as if it had not been closed.
"""

import copy
from collections import defaultdict
from typing import Any, Final, TypeAlias, cast

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.decide.unit_cube import at, share_of
from search.decide.wrapping import RelativeSampler
from search.problem.space import Space
from search.record.own_files import is_own

GENERATION: Final = "cmaes:generation"  # the trial's system attribute
SPREAD: Final = 1 / 6  # of the first generation, in shares of each range

_Generation: TypeAlias = tuple[tuple[int, float], ...]  # trials' ids and losses


def evolving(space: Space) -> dict[str, BaseDistribution]:
    """What CMA-ES searches: the numbers that every trial has. Raises ValueError if there are none."""
    items = [items[0] for items in space.ranges.values() if len(items) == 1 and not items[0].when]
    found: dict[str, BaseDistribution] = {
        item.param: item.distribution
        for item in items
        if isinstance(item.distribution, FloatDistribution | IntDistribution) and not item.distribution.single()
    }
    if not found:
        raise ValueError("it searches int and float fields that all trials have, and this space has none")
    return found


class Evolution:
    """The optimizer as a study's trials leave it, told only of those that it has not been told of yet."""

    def __init__(self, space: Space) -> None:
        self.distributions: Final = evolving(space)
        self._points: dict[int, np.ndarray] = {}
        self._history: list[_Generation] = []
        self._optimizers: list[cmaes.CMA] = []
        """After each part of the history: none, or what was given; then generation after generation"""

    def optimizer(self, study: optuna.Study) -> cmaes.CMA:
        """As the trials that have ended leave it.

        What it was told may change: a trial that waited counts by its last value, until it goes on, and then once it
        has ended, if it is still among the first of its generation that did.
        """
        given, own = [], defaultdict(list)
        for trial in _ended(study):
            if not self.distributions.keys() <= trial.params.keys():  # somebody else's, added to the study by hand
                continue
            loss = trial._trial_id, _loss(study, trial)
            if not is_own(trial):
                given.append(loss)
            elif GENERATION in trial.system_attrs:
                own[trial.system_attrs[GENERATION]].append(loss)
            if trial._trial_id not in self._points:
                self._points[trial._trial_id] = self._point(trial)
        if not self._history or self._history[0] != tuple(given):
            self._history, self._optimizers = [tuple(given)], [self._begin(tuple(given))]
        population = self._optimizers[0].population_size
        number = 1
        while len(told := tuple(own[number - 1][:population])) == population:
            if self._history[number : number + 1] != [told]:
                optimizer = copy.deepcopy(self._optimizers[number - 1])
                optimizer.tell(self._solutions(told))
                self._history[number:], self._optimizers[number:] = [told], [optimizer]
            number += 1
        del self._history[number:], self._optimizers[number:]
        return copy.deepcopy(self._optimizers[-1])  # asking changes its last digits

    def _begin(self, given: _Generation) -> cmaes.CMA:
        count = len(self.distributions)
        begin: tuple[Any, ...] = np.full(count, 0.5), SPREAD, None
        if given:
            begin = cmaes.get_warm_start_mgd(self._solutions(given), gamma=max(0.1, 1 / len(given)))
        mean, spread, covariance = begin
        return cmaes.CMA(mean, spread, bounds=np.tile([0.0, 1.0], (count, 1)), seed=0, cov=covariance)

    def _solutions(self, told: _Generation) -> list[tuple[np.ndarray, float]]:
        return [(self._points[number], loss) for number, loss in told]

    def _point(self, trial: FrozenTrial) -> np.ndarray:
        """As shares of the ranges."""
        return np.array([share_of(item, trial.params[name]) for name, item in self.distributions.items()])


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have a value, in the order of their end."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    ended = [trial for trial in study.get_trials(deepcopy=False, states=states) if trial.value is not None]
    return sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))


def _loss(study: optuna.Study, trial: FrozenTrial) -> float:
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sign * cast(float, trial.value)


class CmaEsSampler(RelativeSampler):
    """Draws the numbers that every trial has from a normal distribution that follows the better trials.

    What is categorical or conditional is drawn at random. A trial that was stopped early counts by its last value.
    Points given in full, and failed trials, are not told to the optimizer; the best trials of earlier studies
    say where its first generation is drawn.
    """

    def __init__(self, evolution: Evolution, seed: int) -> None:
        self._evolution = evolution
        self._seed = seed
        self._asked: cmaes.CMA | None = None
        super().__init__(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._evolution.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._asked is None:  # asked again for the same trial, it draws on
            self._asked = self._evolution.optimizer(study)
            self._asked.reseed_rng(self._seed % 2**32)
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, self._asked.generation)
        shares = self._asked.ask()
        return {name: at(item, share) for (name, item), share in zip(search_space.items(), shares, strict=True)}
