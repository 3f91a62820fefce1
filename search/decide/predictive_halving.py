"""Successive halving by prediction: of the trials that came to a rung those go on that are expected to end best.

A rank at a rung is a short training's luck as much as its configuration's worth. What all trials have shown, short and
long, says how each would end (search.decide.posterior), and how little an epoch tells is learned on the way. As in
freeze-thaw optimization (Swersky et al. 2014) what is expected decides who goes on; as in asynchronous successive
halving (Li et al. 2020) it does so at a rung, for a share of those that came, so that a prediction that is wrong has
its limits. One rung is enough: who goes on from a second is decided by the same prediction, a little surer.
"""

from typing import TYPE_CHECKING, Final

from search.decide.halving import Rung, SuccessiveHalving
from search.decide.rule import Decision

if TYPE_CHECKING:  # importing Optuna takes longer than a command's help may
    import optuna

    from search.decide.curve_process import Array
    from search.problem.space import Space

RUNGS: Final = ((14, 6),)
WEIGHT: Final = 0.05
"""Of cost, before any trial has begun: standard deviations of accuracies that e times the cost must be better by"""


class PredictiveHalving(SuccessiveHalving):
    """Pauses trials at rungs. Until enough trials have shown something, the best at a rung go on."""

    _share_going_on = 0.56
    """Of 64 trials, 0.3 to 0.75 on four functions and two tables (results/reference/cost.md): what a model proposes is
    mostly among the best sixth of those before it"""

    def __init__(self, epochs: int, num_trials: int) -> None:
        """For a search of ``num_trials`` trials of ``epochs`` epochs each."""
        super().__init__(epochs, num_trials, RUNGS)
        self._ends: tuple[list[int], Array, Array] | None = None  # as all that is known now says

    def attach(self, study: "optuna.Study", space: "Space") -> None:
        from search.decide.posterior import Posterior

        self._study, self._posterior = study, Posterior.of(study, space)

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        self._ends = None
        return super().decide(number, epoch, value)

    def forget(self, number: int) -> None:
        self._ends = None
        super().forget(number)

    def _best(self, rung: Rung, count: int) -> list[int]:
        if not count:
            return []
        worths = self._worths()
        if not worths:
            return super()._best(rung, count)
        still = [number for number in rung.values if number in worths]
        return sorted(still, key=lambda number: (-worths[number], number))[:count]

    def _worths(self) -> dict[int, float]:
        """What each trial that came to a rung is expected to end with, less what it costs; none while too little is
        known.

        Those that were given up are left out: they would take the places of trials that can still go on.
        """
        if self._ends is None:
            self._ends = self._predict()
        numbers, ends, costs = self._ends
        weight = WEIGHT * self._posterior.costs.weight(self._study)  # anew: it changes with every trial that begins
        return dict(zip(numbers, (ends - weight * costs).tolist(), strict=True))

    def _predict(self) -> "tuple[list[int], Array, Array]":
        """Numbers [N] of trials, what they are expected to end with [N], and logarithms of their costs [N]."""
        import numpy as np  # a command's help need not wait for these
        from optuna.trial import TrialState

        from search.decide.threads import one_thread

        trials = self._study.get_trials(deepcopy=False)
        came = sorted(set().union(*(rung.values for rung in self._rungs.values())))
        came = [number for number in came if trials[number].state != TrialState.PRUNED]
        processes = self._posterior.given(self._study, self._posterior.whole(trials))
        if not processes or not came:
            return [], np.empty(0), np.empty(0)
        there = [trials[number] for number in came]
        points = self._posterior.points(there)
        with one_thread():
            ends = np.mean([process.predict_end(points, np.array(came)) for process in processes], axis=0)
        return came, ends, self._posterior.costs.of_trials(there)
