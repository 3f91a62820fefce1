"""CMA-ES as a sampler whose whole memory is the study's trials.

Optuna's own keeps a pickled optimizer in the study, which nobody should have to load. Here each trial is marked with
the generation that it was drawn for, and the optimizer is made again from the trials that have ended, in the order in
which they did: so a study that is opened again, anywhere, goes on as if it had not been closed.
"""

from collections.abc import Sequence
from typing import Any, Final, cast

import cmaes
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.shares import at, share_of
from search.space import Space
from search.warm import is_own

GENERATION: Final = "cmaes:generation"  # the trial's system attribute
SPREAD: Final = 1 / 6  # of the first generation, in shares of each range


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


class CmaEsSampler(BaseSampler):
    """Draws the numbers that every trial has from a normal distribution that follows the better trials.

    What is categorical or conditional is drawn at random. A trial that was stopped early counts by its last value.
    Points that were given, and failed trials, are not told to the optimizer; the best trials of earlier studies
    (--warm-start) say where its first generation is drawn.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._distributions = evolving(space)
        self._seed = seed
        self._asked: cmaes.CMA | None = None
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._asked is None:  # asked again for the same trial, it draws on
            self._asked = self._optimizer(study)
            self._asked.reseed_rng(self._seed % 2**32)
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, self._asked.generation)
        shares = self._asked.ask()
        return {name: at(item, share) for (name, item), share in zip(search_space.items(), shares, strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _optimizer(self, study: optuna.Study) -> cmaes.CMA:
        """As the trials that have ended leave it."""
        count = len(self._distributions)
        ended = self._ended(study)
        given = [self._told(study, trial) for trial in ended if not is_own(trial)]
        begin: tuple[Any, ...] = np.full(count, 0.5), SPREAD, None
        if given:
            begin = cmaes.get_warm_start_mgd(given, gamma=max(0.1, 1 / len(given)))
        mean, spread, covariance = begin
        optimizer = cmaes.CMA(mean, spread, bounds=np.tile([0.0, 1.0], (count, 1)), seed=0, cov=covariance)
        generations: dict[int, list[tuple[np.ndarray, float]]] = {}
        for trial in ended:
            if is_own(trial) and GENERATION in trial.system_attrs:
                generations.setdefault(trial.system_attrs[GENERATION], []).append(self._told(study, trial))
        while len(told := generations.get(optimizer.generation, [])) >= optimizer.population_size:
            optimizer.tell(told[: optimizer.population_size])
        return optimizer

    def _ended(self, study: optuna.Study) -> list[FrozenTrial]:
        """Trials that have a value, in the order of their end."""
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        ended = [trial for trial in study.get_trials(deepcopy=False, states=states) if trial.value is not None]
        return sorted(ended, key=lambda trial: (trial.datetime_complete, trial.number))

    def _told(self, study: optuna.Study, trial: FrozenTrial) -> tuple[np.ndarray, float]:
        """A trial's point, as shares of the ranges, and its loss."""
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        point = [share_of(item, trial.params[name]) for name, item in self._distributions.items()]
        return np.array(point), sign * cast(float, trial.value)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nothing: the next trial looks for itself."""
