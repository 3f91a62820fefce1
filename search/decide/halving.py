"""Asynchronous successive halving in which trials wait (Li et al. 2020, "A System for Massively Parallel Hyperparameter
Tuning", algorithm 2).

Optuna's pruner of that name and Ray's scheduler stop a trial or let it go on when it comes to a rung, before most of
those that it should be compared with have come: the first trials all go on. Here it waits there, its place taken by
another, and goes on from its checkpoint once it is among the best of all that came.
"""

import bisect
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from search.decide.rule import Decision, StoppingRule

# After one part in how many of the epochs, the first only if there are so many; one trial in how many goes on.
RUNGS: Final = ((27, 4), (9, 3))
FEWEST: Final = 4  # trials that go on from a rung, if so many come: a small search should end with a choice too
BELIEF: Final = 16
"""Trials that the share expected to go on weighs as much as, beside those that came to a rung"""


@dataclass
class Rung:
    """Where trials pause, and those that came there."""

    reduction: int
    most: int
    """Trials that go on in the whole search"""
    values: dict[int, float] = field(default_factory=dict)
    """Of all trials that came and have not failed, by number"""
    waiting: set[int] = field(default_factory=set)
    _order: list[tuple[float, int]] = field(default_factory=list)
    """Negative value and number of each, best first; to sort thousands anew for each question takes milliseconds"""

    def take(self, number: int, value: float) -> None:
        """A trial came with this value."""
        self.drop(number)
        self.values[number] = value
        bisect.insort(self._order, (-value, number))

    def drop(self, number: int) -> None:
        """A trial no longer counts, if it came."""
        if (value := self.values.pop(number, None)) is not None:
            del self._order[bisect.bisect_left(self._order, (-value, number))]

    def best(self, count: int) -> list[int]:
        """Trials that came, best first, the earlier one where two are equal."""
        return [number for _, number in self._order[:count]]


class SuccessiveHalving(StoppingRule):
    """Pauses trials at rungs. Its state follows from the study's trials."""

    _share_going_on: float | None = None
    """The share of trials that is expected to go on from a rung (default: as the rung is meant to let through)"""

    def __init__(self, epochs: int, num_trials: int, rungs: Sequence[tuple[int, int]] = RUNGS) -> None:
        """For a search of ``num_trials`` trials of ``epochs`` epochs each.

        ``rungs`` are as RUNGS: after one part in how many of the epochs, and of how many trials one goes on.
        """
        self._epochs, self._num_trials, self._parts = epochs, num_trials, rungs
        self._rungs = self._place(earliest=1)

    def wait_until(self, epoch: int) -> bool:
        before, self._rungs = self._rungs, self._place(epoch)
        return before.keys() != self._rungs.keys()

    def _place(self, earliest: int) -> dict[int, Rung]:
        """The rungs by epoch. Those that would come before ``earliest`` are one, there."""
        reductions: dict[int, int] = {}
        for part, reduction in self._parts:
            epoch = math.ceil(self._epochs / part)
            if part <= self._epochs or ((part, reduction) == self._parts[-1] and epoch < self._epochs):
                place = max(epoch, earliest)
                reductions[place] = reductions.get(place, 1) * reduction
        rungs, coming = {}, self._num_trials
        for epoch, reduction in reductions.items():
            most = max(coming // reduction, FEWEST)
            if epoch < self._epochs and most < coming:
                rungs[epoch] = Rung(reduction, most)
                coming = most
        return rungs

    def decide(self, number: int, epoch: int, value: float) -> Decision:
        """Pause every trial that comes to a rung for the first time."""
        rung = self._rungs.get(epoch)
        if rung is None or number in rung.values:
            return Decision.CONTINUE
        rung.take(number, value)
        rung.waiting.add(number)
        return Decision.PAUSE

    def restore(self, number: int, values: Mapping[int, float], paused_after: int | None) -> None:
        for epoch in self._rungs.keys() & values.keys():
            self._rungs[epoch].take(number, values[epoch])
        if paused_after in self._rungs:
            self._rungs[paused_after].waiting.add(number)

    def forget(self, number: int) -> None:
        """The next best trial takes the place of one that failed."""
        for rung in self._rungs.values():
            rung.drop(number)

    def foresee(self, epochs_done: Collection[int], num_failed: int = 0) -> int:
        """The epochs of the whole search, from those that each trial has done, but for those of trials that failed.

        More go on from a rung than it is meant to let through, as each that comes may be better than those that went:
        of those to come it will be a share as of those that came.
        """
        total = begin = 0
        coming, went = self._num_trials - num_failed, sum(done > 0 for done in epochs_done)
        for end, rung in self._rungs.items():
            total += (end - begin) * max(coming, went)
            came, went = (sum(done >= least for done in epochs_done) for least in (end, end + 1))
            share = (went + BELIEF * (self._share_going_on or 1 / rung.reduction)) / (came + BELIEF)
            begin, coming = end, max(min(rung.most, coming), went + int(max(coming - came, 0) * share))
        return total + (self._epochs - begin) * max(coming, went)

    def resume(self, *, all_started: bool) -> int | None:
        """The best paused trial of the last rung that has one to let through.

        With no new trial left to start, the best resume until there are as many as the rung lets through.
        """
        for rung in reversed(self._rungs.values()):
            for number in self._best(rung, rung.most if all_started else len(rung.values) // rung.reduction):
                if number in rung.waiting:
                    rung.waiting.remove(number)
                    return number
        return None

    def give_up(self) -> list[int]:
        """Paused trials that too many better ones have come after."""
        given_up: list[int] = []
        for rung in self._rungs.values():
            if rung.waiting and len(rung.values) > rung.most:
                hopeless = rung.waiting.difference(self._best(rung, rung.most))
                rung.waiting -= hopeless
                given_up += sorted(hopeless)
        return given_up

    def _best(self, rung: Rung, count: int) -> list[int]:
        """Trials that came to a rung and should go on first."""
        return rung.best(count)
