"""What a stopping rule is told, and what it may decide; the rules themselves are listed in search.decide.stopping."""

import enum
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing Optuna takes longer than a command's help may
    import optuna

    from search.problem.space import Space


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

    def attach(self, study: "optuna.Study", space: "Space") -> None:
        """Called once with the study and what it searches, before trials are told of; for a rule that looks at them."""

    def wait_until(self, epoch: int) -> bool:
        """Called once, before ``attach``, where accuracies before this epoch tell nothing yet.

        Whether the rule decides otherwise because of that; one that does not look at early accuracies need not.
        """
        return False

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
        """Epochs that trials which do not fail will have taken, from those that each has done; None if unknown."""
        return None
