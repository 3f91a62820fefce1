"""What an epoch of a configuration costs beside one of another, known before it begins, and what that should weigh.

Trials of the default space differ in it sixtyfold. Early, cheap ones tell as much for less. So where it differs much,
what is gained is weighed against what it costs, the less so the more of the trials have begun, and in the end not at
all ("cost cooling", Lee et al. 2020, "Cost-aware Bayesian Optimization"). The cost is the size of the model. Measured
seconds are not asked: they differ from run to run, and a search that was killed and resumed should decide as an
undisturbed one.
"""

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search.decide.curve_process import Array
from search.decide.qmc import sobol
from search.problem.space import Space
from search.record.own_files import is_own
from search.record.request import ASKED_TRIALS
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

if TYPE_CHECKING:
    from search.decide.observed import Observed

LEAST_SPAN: Final = 12.0
"""Costs that span fourfold are not worth weighing (results/reference/search.txt), sixtyfold ones are (cost.md there)"""
DRAWN: Final = 256  # configurations, to see how much they differ
BESIDE: Final = 0.3e6
"""Parameters whose products take as long as what a step does beside them, on a CPU"""
CHEAPEST: Final = 0.5
"""The share of the configurations that the first trial is one of, where costs weigh in full"""


class Costs:
    """Of the configurations of a space: in parameters, whose logarithms tell one from another."""

    def __init__(self, space: Space, observed: "Observed") -> None:
        self._space, self._observed = space, observed
        items = space.distributions.values()
        self._sizing = [not isinstance(item, FloatDistribution) for item in items if not item.single()]
        self._of_trials: dict[int, float] = {}  # by number; what a trial has never changes
        self._of_kinds: dict[bytes, float] = {}  # by the shares that a model's size depends on

    def of_trials(self, trials: list[FrozenTrial]) -> Array:
        """Logarithms [N] of what an epoch of each costs. Trials have all their parameters."""
        for trial in trials:
            if trial.number not in self._of_trials:
                self._of_trials[trial.number] = _logarithm(self._space.config_of(trial))
        return np.array([self._of_trials[trial.number] for trial in trials])

    def weight(self, study: optuna.Study, begun: int | None = None) -> float:
        """How much they weigh in a study, as ``heat``; nothing where they hardly differ."""
        return heat(study, begun) if self.differ else 0.0

    @cached_property
    def differ(self) -> bool:
        """Whether they differ enough to be weighed: by LEAST_SPAN, between all but the cheapest and the dearest."""
        points = sobol(len(self._observed.coordinates.distributions), 0)[:DRAWN]
        fitting = np.array([row for row in points if self._space.fits(self._observed.params(row))])
        if not len(fitting):
            return False
        low, high = np.quantile(self.of_shares(self._observed.settled(fitting)), [0.05, 0.95])
        return bool(high - low >= math.log(LEAST_SPAN))

    def of_shares(self, shares: Array) -> Array:
        """Logarithms [N] of what an epoch costs of configurations at shares [N, D], as settled there."""
        if not any(self._sizing):
            return np.zeros(len(shares))
        kinds, first, rows = np.unique(shares[:, self._sizing], axis=0, return_index=True, return_inverse=True)
        for kind, place in zip(kinds, first, strict=True):
            if kind.tobytes() not in self._of_kinds:
                config = self._space.config(self._observed.params(shares[place]))
                self._of_kinds[kind.tobytes()] = _logarithm(config)
        return np.array([self._of_kinds[kind.tobytes()] for kind in kinds])[rows.reshape(-1)]


def _logarithm(config: TrainConfig) -> float:
    return math.log(BESIDE + num_parameters(config.model))


def heat(study: optuna.Study, begun: int | None = None) -> float:
    """How much costs still weigh: from 1 before the first trial of a study to 0 when as many as are asked for began.

    ``begun`` trials did (default: those that have). 1 where the study does not say how many are asked for.
    """
    asked = study._storage.get_study_user_attrs(study._study_id).get(ASKED_TRIALS)
    if not asked:
        return 1.0
    if begun is None:
        begun = sum(trial.state != TrialState.WAITING and is_own(trial) for trial in study.get_trials(deepcopy=False))
    return max(0.0, 1.0 - begun / int(asked))
