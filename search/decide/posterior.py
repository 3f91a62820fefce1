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
from weakref import WeakKeyDictionary

import numpy as np
import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.decide.cost import Costs
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


_OF_STUDIES: Final[WeakKeyDictionary[BaseStorage, dict[int, "Posterior"]]] = WeakKeyDictionary()


class Posterior:
    """The processes as a study's trials leave them. A stopping rule and the samplers of a study share one."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.observed: Final = Observed(space)
        self.coordinates: Final = self.observed.coordinates
        self.costs: Final = Costs(space, self.observed)
        self._last: list[Conditioned] = []
        self._fitted: list[list[float]] = []

    @classmethod
    def of(cls, study: optuna.Study, space: Space) -> "Posterior":
        """That of an open study."""
        known = _OF_STUDIES.setdefault(study._storage, {})
        found = known.get(study._study_id)
        if found is None or found._space is not space:
            found = known[study._study_id] = cls(space)
        return found

    def given(self, study: optuna.Study, whole: Sequence[FrozenTrial]) -> list[Conditioned]:
        """The processes given what whole trials have shown; none while too few have.

        Trainings have the trials' numbers.
        """
        shown = [trial for trial in whole if trial.intermediate_values or trial.state.is_finished()]
        if len(shown) < FEWEST:
            return []
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        seen = self.observed.read(shown, sign, MOST_OBSERVED).standardized()
        hyperparameters = self._hyperparameters(study, seen, len(shown))
        if not self._last or self._fitted != hyperparameters or not self._last[0].seen.equal(seen):
            columns = self.coordinates.columns
            fitted = zip(LENGTHS, hyperparameters, strict=True)
            self._last = [CurveProcess(columns, length, np.array(values)).given(seen) for length, values in fitted]
            self._fitted = hyperparameters
        return self._last

    def _hyperparameters(self, study: optuna.Study, seen: Observations, num_trials: int) -> list[list[float]]:
        """Of each process: what the study keeps, or fitted again if enough trials have come since."""
        kept: dict[str, Any] = study._storage.get_study_system_attrs(study._study_id).get(HYPERPARAMETERS, {})
        values: list[list[float]] = kept.get("values", [])
        if num_trials >= REFIT * kept.get("trials", 0):
            some = seen.some(MOST_FITTED, np.random.default_rng(num_trials))
            processes = [CurveProcess(self.coordinates.columns, length) for length in LENGTHS]
            for process, before in zip(processes, values, strict=False):
                process.hyperparameters = np.array(before)
            with one_thread():
                for process in processes:
                    process.fit(some)
            values = [process.hyperparameters.round(6).tolist() for process in processes]
            fitted: dict[str, Any] = {"trials": num_trials, "values": values}
            study._storage.set_study_system_attr(study._study_id, HYPERPARAMETERS, fitted)
        return values

    def whole(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have all parameters of a configuration of this space."""
        return self.observed.whole(trials)

    def points(self, trials: Sequence[FrozenTrial]) -> Array:
        """Where the process sees configurations of trials: [N, F]."""
        return self.coordinates.points(self.observed.shares(trials))
