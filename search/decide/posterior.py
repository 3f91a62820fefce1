"""What a study's trials tell of every configuration and of how each training would end, by Gaussian processes.

There are two, which differ in what they expect before they have seen much: that accuracy changes over short ways, or
over long ones. In few dimensions the first is right more often, in many the second (Hvarfner et al. 2024, "Vanilla
Bayesian Optimization Performs Great in High Dimensions"), and few trials cannot say which. So both are asked.

Hyperparameters are fitted again whenever a quarter more trials have shown something, and kept as an attribute of the
study. So what follows from a study does not depend on which process opened it, and when. What it takes does not grow
with the study: no more than MOST_OBSERVED accuracies are looked at, those of the trials that went on longest and, of
these, the best.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.decide.curve_process import Array, Conditioned, CurveProcess, Observations
from search.decide.observed import Observed
from search.decide.threads import one_thread
from search.problem.space import Space

HYPERPARAMETERS: Final = "curve_processes"  # a study's system attribute: fitted to how many trials, and what they are
LENGTHS: Final = 0.35, 1.2
"""In ranges: the medians of the two priors"""
FEWEST: Final = 8
"""Trials that must have shown something"""
MOST_OBSERVED: Final = 400
MOST_FITTED: Final = 128
"""Accuracies that hyperparameters are fitted to"""
REFIT: Final = 1.25


class Posterior:
    """The processes as a study's trials leave them."""

    def __init__(self, space: Space) -> None:
        self.observed: Final = Observed(space)

    def given(self, study: optuna.Study, shown: Sequence[FrozenTrial]) -> list[Conditioned]:
        """The processes given trials that have shown something; none if these are too few.

        Trainings have the trials' numbers.
        """
        if len(shown) < FEWEST:
            return []
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        seen = self.observed.read(shown, sign, MOST_OBSERVED).standardized()
        processes = [CurveProcess(self.observed.coordinates.columns, length) for length in LENGTHS]
        kept: dict[str, Any] = study._storage.get_study_system_attrs(study._study_id).get(HYPERPARAMETERS, {})
        for process, values in zip(processes, kept.get("values", []), strict=False):
            process.hyperparameters = np.array(values)
        with one_thread():
            if len(shown) >= REFIT * kept.get("trials", 0):
                self._fit(processes, seen, len(shown), study)
            return [process.given(seen) for process in processes]

    def _fit(self, processes: list[CurveProcess], seen: Observations, num_trials: int, study: optuna.Study) -> None:
        some = seen.some(MOST_FITTED, np.random.default_rng(num_trials))
        for process in processes:
            process.fit(some)
            process.hyperparameters = process.hyperparameters.round(6)
        values = [process.hyperparameters.tolist() for process in processes]
        study._storage.set_study_system_attr(study._study_id, HYPERPARAMETERS, {"trials": num_trials, "values": values})

    def whole(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have all parameters of a configuration of this space."""
        return [trial for trial in trials if self.observed.is_whole(trial.params)]

    @staticmethod
    def shown(whole: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Of such trials, those that have ended or have an accuracy."""
        return [trial for trial in whole if trial.intermediate_values or trial.state.is_finished()]

    def points(self, trials: Sequence[FrozenTrial]) -> Array:
        """Where the process sees configurations of trials: [N, F]."""
        return self.observed.coordinates.points(self.observed.shares(trials))
