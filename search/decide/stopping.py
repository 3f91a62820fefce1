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

# ruff: noqa: ARG002, B027  (a rule need not use all that it is told, nor answer all that it is asked)

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # importing Optuna takes longer than a command's help may
    import optuna

DEFAULT_PRUNER: Final = "successive-halving"


class Decision(enum.Enum):
    """What becomes of a trial after an epoch that was not its last."""

    CONTINUE = enum.auto()
    PAUSE = enum.auto()
    """It keeps its checkpoint and gives its place to another, until the rule resumes it or gives it up."""
    STOP = enum.auto()
    """It ends here: PRUNED."""


class StoppingRule(ABC):
    """Decides which trials are worth their remaining epochs. Values are accuracies: more is better."""

    @abstractmethod
    def decide(self, number: int, epoch: int, value: float) -> Decision:
        """Decide on trial ``number``, which has this value after ``epoch``.

        An epoch may be told again, after an interruption, or when a paused trial goes on.
        """

    def attach(self, study: "optuna.Study") -> None:
        """Called once, before anything else, with the study; for a rule that looks at other trials there."""

    def restore(self, number: int, values: Mapping[int, float], paused_after: int | None) -> None:
        """Take in a trial of a study that is opened again: its values by epoch, and after which epoch it is paused."""

    def resume(self, *, all_started: bool) -> int | None:
        """The paused trial that should go on now, which is then no longer paused; None if none should.

        ``all_started`` says that no new trial is left to start instead.
        """
        return None

    def give_up(self) -> list[int]:
        """Trials that were paused and will never be resumed; they end PRUNED, and are not named again."""
        return []

    def forget(self, number: int) -> None:
        """Trial ``number`` failed: it must no longer count."""

    def foresee(self, epochs_done: Collection[int], num_failed: int) -> int | None:
        """Epochs that the whole search will have taken, given those that each trial has done; None if unknown."""
        return None


class NeverStop(StoppingRule):
    """Every trial runs to its end."""

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        return Decision.CONTINUE


class OptunaPruner(StoppingRule):
    """A pruner of Optuna's, which decides from the study's intermediate values."""

    def __init__(self, pruner: "optuna.pruners.BasePruner") -> None:
        self._pruner = pruner

    def attach(self, study: "optuna.Study") -> None:
        study.pruner = self._pruner  # samplers see Hyperband's brackets through it
        self._study = study

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        trial = self._study.get_trials(deepcopy=False)[number]
        return Decision.STOP if self._pruner.prune(self._study, trial) else Decision.CONTINUE


def _successive_halving(epochs: int, num_trials: int) -> StoppingRule:
    from search.decide.halving import SuccessiveHalving

    return SuccessiveHalving(epochs, num_trials)


def _hyperband(epochs: int, _: int) -> StoppingRule:
    from optuna.pruners import HyperbandPruner

    shortest = math.ceil(epochs / 9)
    return OptunaPruner(HyperbandPruner(min_resource=shortest, max_resource=epochs, reduction_factor=3))


def _median(epochs: int, _: int) -> StoppingRule:
    from optuna.pruners import MedianPruner

    return OptunaPruner(MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4)))


STOPPING_RULES: Final[dict[str, Callable[[int, int], StoppingRule]]] = {
    DEFAULT_PRUNER: _successive_halving,
    "hyperband": _hyperband,
    "median": _median,
    "none": lambda _epochs, _num_trials: NeverStop(),
}
"""A rule for a search of so many epochs a trial and so many trials, by its name."""
