"""One search, played on a problem: four trials are trained at a time, an epoch of each in turns.

A trial that pauses goes on from its checkpoint: only further epochs cost. What a search recommends at any time is, for
everybody, the trial of the best last accuracy among those trained the deepest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tests.bench.curves import EPOCHS
from tests.bench.problems import Problem, Training

BUDGET: Final = 700  # epochs
CONCURRENT: Final = 4


class Search(Protocol):
    """Decides what to try and what to stop. Trials are named by their numbers."""

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        """A trial to start, or one that waited to go on with: its number, its parameters, and the epoch to which it is
        trained unless ``report`` ends it; None if there is none at present."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Whether the trial goes on."""


@dataclass
class Log:
    """What a search came to. Written as JSON: lists of numbers only."""

    epochs: int = 0
    seconds: float = 0.0
    """Modelled, of all trainings; 0 where models have no size"""
    trials: int = 0
    steps: list[tuple[int, float, float]] = field(default_factory=list)
    """Of each change of what is recommended: epochs and seconds spent until then, and what it is worth"""
    complete: list[tuple[int, float]] = field(default_factory=list)
    """The same of the best complete trial alone: epochs, worth"""
    returned: float = 0.0
    """Worth of the trial with the best last accuracy, complete or not: what Ray Tune returns"""

    def worth(self, epochs: float) -> float:
        """Of what is recommended after so many epochs; 0 if there is nothing."""
        return next((worth for spent, _, worth in reversed(self.steps) if spent <= epochs), 0.0)

    def worth_after(self, seconds: float) -> float:
        """The same after so many seconds. A search that had ended by then still recommends what it did."""
        return next((worth for _, spent, worth in reversed(self.steps) if spent <= seconds), 0.0)

    def needed(self, worth: float) -> float:
        """Epochs until something worth as much is recommended; infinite if it never is."""
        return min((epochs for epochs, _, its in self.steps if its >= worth), default=math.inf)

    def needed_complete(self, worth: float) -> float:
        """Epochs until the best complete trial is worth as much; infinite if it never is."""
        return min((epochs for epochs, its in self.complete if its >= worth), default=math.inf)


def play(search: Search, problem: Problem, seed: int, budget: float = BUDGET) -> Log:
    """Search until no trial is left, or so many epochs are spent."""
    log = Log()
    last: dict[int, tuple[float, Training]] = {}  # last accuracies
    deepest, best_complete = (0, -math.inf), -math.inf
    for number, epoch, training in _trained(search, problem, seed, budget):
        accuracy = float(training.accuracies[epoch - 1])
        last[number] = accuracy, training
        log.epochs += 1
        log.seconds += training.epoch_seconds or 0.0
        if (epoch, accuracy) > deepest:
            deepest = epoch, accuracy
            log.steps.append((log.epochs, round(log.seconds, 3), training.worth))
        if epoch == EPOCHS and accuracy > best_complete:
            best_complete = accuracy
            log.complete.append((log.epochs, training.worth))
    log.trials = len(last)
    log.returned = max(last.values(), key=lambda item: item[0])[1].worth
    return log


def _trained(search: Search, problem: Problem, seed: int, budget: float) -> Iterator[tuple[int, int, Training]]:
    """Each epoch that is trained: the trial's number, its epoch from 1 on, and its training."""
    known: dict[int, Training] = {}
    done: dict[int, int] = {}  # epochs
    running: dict[int, int] = {}  # epochs until which
    spent = 0
    while True:
        while len(running) < CONCURRENT and (found := search.next()) is not None:
            number, params, until = found
            if number not in known:
                known[number], done[number] = problem.train(params, seed, number), 0
            assert number not in running, f"trial {number} is trained already"
            assert done[number] < until <= EPOCHS, f"trial {number} has {done[number]} epochs, and is to have {until}"
            running[number] = until
        if not running:
            return
        for number in list(running):
            done[number] += 1
            spent += 1
            yield number, done[number], known[number]
            continues = search.report(number, done[number], float(known[number].accuracies[done[number] - 1]))
            if not continues or done[number] == running[number]:
                del running[number]
            if spent >= budget:
                return
