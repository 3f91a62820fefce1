"""Samplers around another: one draws whole trials within the limit on parameters, one makes draws reproducible."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.problem.ranges import Range
from search.problem.space import Space

ATTEMPTS: Final = 16  # of a sampler to propose a model within the limit
RANDOM_ATTEMPTS: Final = 1000


class RelativeSampler(BaseSampler):
    """Base of samplers that draw parameters together; those that it leaves out are drawn at random."""

    def __init__(self, seed: int) -> None:
        self._random = RandomSampler(seed=seed)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


class WrappingSampler(BaseSampler):
    """Passes every question on to another sampler."""

    _sampler: BaseSampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


class WholeSampler(WrappingSampler):
    """Draws all of a trial's parameters before any is stored, and again while they make a model over the limit.

    So a trial that was cut off between two parameters gets the others as if it had not been, and what is too large is
    never a trial. A sampler that keeps to models over the limit has the shape drawn at random instead.
    """

    def __init__(self, sampler: BaseSampler, space: Space, seed: int) -> None:
        self._sampler = sampler
        self._space = space
        self._random = RandomSampler(seed=seed)
        self._modelled: dict[str, BaseDistribution] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._modelled = self._sampler.infer_relative_search_space(study, trial)
        return self._space.distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        fixed = trial.system_attrs.get("fixed_params", {})
        drawn = self._draw(study, trial, fixed)
        if all(drawn.get(name) == value for name, value in trial.params.items()):
            return drawn
        return self._draw(study, trial, {**fixed, **trial.params})  # other trials have ended since those were drawn

    def _draw(self, study: optuna.Study, trial: FrozenTrial, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters of a trial, of which some are given."""
        drawn: dict[str, Any] = {}
        for _ in range(ATTEMPTS):
            drawn = {**self._sampler.sample_relative(study, trial, self._modelled), **given}
            drawn = self._complete(drawn, lambda item: self._one(self._sampler, study, trial, item))
            if self._space.fits(drawn):
                return drawn
        shape = self._space.smallest()
        others = {name: value for name, value in drawn.items() if name not in shape or name in given}
        for _ in range(RANDOM_ATTEMPTS):
            drawn = self._complete(others, lambda item: self._one(self._random, study, trial, item))
            if self._space.fits(drawn):
                return drawn
        return self._complete({**others, **shape, **given}, lambda item: self._one(self._random, study, trial, item))

    def _complete(self, known: Mapping[str, Any], choose: Callable[[Range], Any]) -> dict[str, Any]:
        """Parameters of a whole trial, those known among them."""
        params: dict[str, Any] = {}

        def take(item: Range) -> Any:
            params[item.param] = known[item.param] if item.param in known else choose(item)
            return params[item.param]

        self._space.draw(take)
        return params

    @staticmethod
    def _one(sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, item: Range) -> Any:
        return sampler.sample_independent(study, trial, item.param, item.distribution)


class SeededSampler(WrappingSampler):
    """Draws each trial with a random state made of (seed, trial number), whatever this process drew before."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seed = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]
        self._sampler = self._make(int(seed))
        self._sampler.before_trial(study, trial)
