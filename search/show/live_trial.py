"""A trial as the live view knows it: its epochs so far, how far it is in the one it does, and what it showed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

MOST: Final = 0.99  # of an epoch, until it is reported


@dataclass
class LiveTrial:
    """A trial that is handed out, or waits to go on."""

    number: int
    params: dict[str, Any]
    epochs: int
    epoch: int = 0
    curve: dict[int, float] = field(default_factory=dict)
    """Validation accuracies by epoch"""
    was_let_through: bool = False
    """It had waited, and goes on to its end unless it waits again"""
    since: float | None = None
    """When the epoch that it does began; None before its worker is up"""
    expected: float | None = None
    """Seconds which that epoch was expected to take when it began, or as soon as anything was known"""
    epochs_here: int = 0
    """Since it was handed out"""
    seconds_here: float = 0.0

    @property
    def val_accuracy(self) -> float | None:
        return self.curve.get(self.epoch)

    @property
    def own_seconds(self) -> float | None:
        """Seconds an epoch, of those since it was handed out."""
        return self.seconds_here / self.epochs_here if self.epochs_here else None

    def spent(self, now: float) -> float:
        """Seconds that it has been in the epoch that it does, as far as they were expected."""
        if self.since is None or self.epoch >= self.epochs:
            return 0.0
        spent = max(now - self.since, 0.0)
        return spent if self.expected is None else min(spent, MOST * self.expected)

    def fraction(self, now: float) -> float | None:
        """How far it is in that epoch, from 0 to MOST; None while nothing is known of how long one takes."""
        if self.since is None or self.epoch >= self.epochs or not self.expected:
            return None
        return self.spent(now) / self.expected


@dataclass
class Seen:
    """The best that a trial has shown; of a complete one, what it came to."""

    number: int
    params: dict[str, Any]
    state: str
    """In a word, such as running"""
    val_accuracy: float = 0.0
    epoch: int = 0

    def take(self, val_accuracy: float, epoch: int) -> None:
        """The trial had this accuracy after an epoch."""
        if not self.epoch or val_accuracy > self.val_accuracy:
            self.val_accuracy, self.epoch = val_accuracy, epoch


def best_of(seen: Iterable[Seen]) -> Seen | None:
    """The one of the highest accuracy; of equal ones a complete one, then the first."""
    shown = [trial for trial in seen if trial.epoch]
    return max(shown, key=lambda trial: (trial.val_accuracy, trial.state == "complete", -trial.number), default=None)
