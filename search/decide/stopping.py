"""When a trial is stopped early, or pauses: by the names that a search can ask for.

A study tells its rule of every epoch, and does as the rule decides. To add a rule, write a class that decides and
register it:

    class StopBelow(StoppingRule):
        def decide(self, number: int, epoch: int, value: float) -> Decision:
            return Decision.STOP if epoch >= 3 and value < 0.1 else Decision.CONTINUE

    STOPPING_RULES["below"] = lambda epochs, num_trials: StopBelow()

A rule keeps nothing on disk. When a study is opened again, ``restore`` tells it of every trial that has not failed, so
that it decides as if the search had not been interrupted.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from search.decide.halving import SuccessiveHalving
from search.decide.predictive_halving import PredictiveHalving
from search.decide.rule import Decision as Decision
from search.decide.rule import StoppingRule as StoppingRule

if TYPE_CHECKING:  # importing Optuna takes longer than a command's help may
    import optuna

    from search.problem.space import Space

DEFAULT_PRUNER: Final = "predictive-halving"


class NeverStop(StoppingRule):
    """Every trial runs to its end."""

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        return Decision.CONTINUE


class OptunaPruner(StoppingRule):
    """A pruner of Optuna's, which decides from the study's intermediate values."""

    def __init__(self, pruner: "optuna.pruners.BasePruner") -> None:
        self._pruner = pruner
        self._earliest = 1

    def wait_until(self, epoch: int) -> bool:
        self._earliest = epoch
        return epoch > 1

    def attach(self, study: "optuna.Study", space: "Space") -> None:
        study.pruner = self._pruner  # samplers see Hyperband's brackets through it
        self._study = study

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        if epoch < self._earliest:
            return Decision.CONTINUE
        trial = self._study.get_trials(deepcopy=False)[number]
        return Decision.STOP if self._pruner.prune(self._study, trial) else Decision.CONTINUE


def _hyperband(epochs: int, _: int) -> StoppingRule:
    from optuna.pruners import HyperbandPruner

    shortest = math.ceil(epochs / 9)
    return OptunaPruner(HyperbandPruner(min_resource=shortest, max_resource=epochs, reduction_factor=3))


def _median(epochs: int, _: int) -> StoppingRule:
    from optuna.pruners import MedianPruner

    return OptunaPruner(MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4)))


STOPPING_RULES: Final[dict[str, Callable[[int, int], StoppingRule]]] = {
    DEFAULT_PRUNER: PredictiveHalving,
    "successive-halving": SuccessiveHalving,
    "hyperband": _hyperband,
    "median": _median,
    "none": lambda _epochs, _num_trials: NeverStop(),
}
"""A rule for a search of so many epochs a trial and so many trials, by its name."""
