"""Optuna's samplers and pruners by the names that the command line has for them, made reproducible."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

DEFAULT_SAMPLER: Final = "tpe"
DEFAULT_PRUNER: Final = "median"

SAMPLERS: Final[dict[str, Callable[[int], BaseSampler]]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "random": lambda seed: RandomSampler(seed=seed),
}
# Rungs never come in the last epochs, where stopping saves little. Successive halving has them at a quarter and at half
# of the epochs and keeps half of the trials each time: the moving average of a model that learns fast starts behind.
PRUNERS: Final[dict[str, Callable[[int], BasePruner]]] = {
    "successive-halving": lambda epochs: SuccessiveHalvingPruner(
        min_resource=math.ceil(epochs / 4), reduction_factor=2
    ),
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=math.ceil(epochs / 9), max_resource=epochs, reduction_factor=3
    ),
    "median": lambda epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4)),
    "none": lambda _: NopPruner(),
}


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
