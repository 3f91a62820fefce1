"""Optuna's samplers and pruners by the names that the command line has for them, made reproducible."""

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from search.decide.cmaes import CmaEsSampler, Evolution, evolving
from search.decide.qmc import QmcSampler
from search.problem.objective import DEFAULT_OBJECTIVE, Objective
from search.problem.ranges import Range
from search.problem.space import Space

HALVING: Final = "successive-halving"
DEFAULT_PRUNER: Final = HALVING
ATTEMPTS: Final = 16  # of a sampler to propose a model within the limit
RANDOM_ATTEMPTS: Final = 1000

_OfTrial = Callable[[int], BaseSampler]  # of its seed
_OfStudy = Callable[[Space, int], _OfTrial]  # of its space and seed

# TPE and CMA-ES learn from the trials stopped early too; GP, as Optuna has it, from finished ones alone.
SAMPLERS: Final[dict[str, _OfStudy]] = {
    "tpe": lambda space, _: _grouped_tpe if space.is_conditional else functools.partial(WholeTpe, space),
    "gp": lambda _space, _: lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "cmaes": lambda space, _: functools.partial(CmaEsSampler, Evolution(space)),
    "qmc": lambda space, study_seed: functools.partial(QmcSampler, space, study_seed),
    "random": lambda _space, _: lambda seed: RandomSampler(seed=seed),
}
# Optuna's, but for the one that lets trials wait, which search.decide.study asks search.decide.halving for.
PRUNERS: Final[dict[str, Callable[[int], BasePruner]]] = {
    HALVING: lambda _: NopPruner(),
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=math.ceil(epochs / 9), max_resource=epochs, reduction_factor=3
    ),
    "median": lambda epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4)),
    "none": lambda _: NopPruner(),
}


def check(name: str, space: Space, has_front: bool) -> None:
    """Raise ValueError if the sampler of this name cannot search a space, or a Pareto front where that is asked for."""
    if name == "cmaes":
        evolving(space)
        if has_front:
            raise ValueError("it follows one value, and --objective asks for two")


def default_sampler(space: Space, objective: Objective) -> str:
    """CMA-ES, as it finds more in the same epochs (tests.bench.search: five numbers and one choice, accuracy).

    TPE where CMA-ES would leave much to chance, with conditions or more choices than numbers, and for other scores.
    """
    searched = [item for item in space.distributions.values() if not item.single()]
    numbers = sum(not isinstance(item, CategoricalDistribution) for item in searched)
    is_followed = not space.is_conditional and numbers > 0 and numbers >= len(searched) / 2
    return "cmaes" if is_followed and objective.name == DEFAULT_OBJECTIVE else "tpe"


def for_space(name: str, space: Space, seed: int) -> BaseSampler:
    """The sampler of this name for a study over a space. Raises ValueError if it cannot search such a space."""
    of_trial = SAMPLERS[name](space, seed)
    return SeededSampler(lambda its_seed: WholeSampler(of_trial(its_seed), space, its_seed), seed)


def _grouped_tpe(seed: int) -> BaseSampler:
    """Models each group of fields that trials have together; only with conditions, for it looks at every trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, constant_liar=True, group=True)


class WholeTpe(TPESampler):
    """Models all fields of a space without conditions together.

    Draws what Optuna's own draws, which looks through all trials for the fields that every one of them has.
    """

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self._fields = {name: item for name, item in sorted(space.distributions.items()) if not item.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._fields


class WholeSampler(BaseSampler):
    """Draws all of a trial's parameters before any is stored, and again while they make a model over the limit.

    So a trial that was cut off between two parameters gets the others as if it had not been, and what is too large is
    never a trial. A sampler that keeps to models over the limit has the shape drawn at random instead.
    """

    def __init__(self, sampler: BaseSampler, space: Space, seed: int) -> None:
        self._sampler = sampler
        self._space = space
        self._random = RandomSampler(seed=seed)
        self._modelled: dict[str, BaseDistribution] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._modelled = self._sampler.infer_relative_search_space(study, trial)
        return self._space.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, _: dict[str, BaseDistribution]
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

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


class SeededSampler(BaseSampler):
    """Draws each trial with a random state made of (seed, trial number), whatever this process drew before."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seed = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]
        self._sampler = self._make(int(seed))
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
