"""What a study's trials tell of every configuration and of how each training would end, by one Gaussian process.

Hyperparameters are fitted again whenever a quarter more trials have shown something, and kept as an attribute of the
study. So what follows from a study does not depend on which process opened it, and when. What it takes does not grow
with the study: the process is given MOST_OBSERVED accuracies, those of the trials that went on longest and, of these,
the best.
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

HYPERPARAMETERS: Final = "curve_process"  # a study's system attribute: fitted to how many trials, and what they are
FEWEST: Final = 8
"""Trials that must have shown something"""
MOST_OBSERVED: Final = 400
MOST_FITTED: Final = 128
"""Accuracies that hyperparameters are fitted to"""
REFIT: Final = 1.25


class Posterior:
    """The process as a study's trials leave it."""

    def __init__(self, space: Space) -> None:
        self.observed: Final = Observed(space)

    def given(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> Conditioned | None:
        """The process given these trials of the study, and of them those that have shown something; None if too few.

        Trainings have the trials' numbers.
        """
        shown = [its for its in trials if self.has_shown(its)]
        if len(shown) < FEWEST:
            return None
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        seen = self.observed.read(shown, sign, MOST_OBSERVED).standardized()
        process = CurveProcess(self.observed.coordinates.columns)
        kept: dict[str, Any] = study._storage.get_study_system_attrs(study._study_id).get(HYPERPARAMETERS, {})
        if kept:
            process.hyperparameters = np.array(kept["values"])
        with one_thread():
            if len(shown) >= REFIT * kept.get("trials", 0):
                self._fit(process, seen, len(shown), study)
            return process.given(seen)

    def _fit(self, process: CurveProcess, seen: Observations, num_trials: int, study: optuna.Study) -> None:
        process.fit(seen.some(MOST_FITTED, np.random.default_rng(num_trials)))
        process.hyperparameters = process.hyperparameters.round(6)
        fit = {"trials": num_trials, "values": process.hyperparameters.tolist()}
        study._storage.set_study_system_attr(study._study_id, HYPERPARAMETERS, fit)

    def has_shown(self, trial: FrozenTrial) -> bool:
        """Whether a trial of this space has ended, or has an accuracy."""
        if not trial.intermediate_values and not trial.state.is_finished():
            return False
        return self.observed.is_whole(trial.params)

    def points(self, trials: Sequence[FrozenTrial]) -> Array:
        """Where the process sees configurations of trials: [N, F]."""
        return self.observed.coordinates.points(self.observed.shares(trials))
