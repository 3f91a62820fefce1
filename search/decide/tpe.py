"""Optuna's TPE as this search uses it: all fields of a space are modelled together."""

import warnings

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial

from search.problem.space import Space


def grouped_tpe(seed: int) -> BaseSampler:
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
