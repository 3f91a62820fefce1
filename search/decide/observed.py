"""What a study's trials have come to after each epoch, as observations of a process over configurations and epochs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.decide.coordinates import Coordinates
from search.decide.curve_process import Array, Observations, remaining
from search.decide.unit_cube import at
from search.problem.ranges import Range
from search.problem.space import Space

PARTS = 27, 9, 3
"""Accuracies are averaged between epochs that these parts of all end with, where rungs may be, and the last is alone"""


@dataclass(frozen=True)
class _Seen:
    """What one trial shows."""

    shares: Array
    """[D]"""
    epochs: int
    """That it did"""
    ways: Array
    """[S]: of each span of them, the mean way to go"""
    values: Array
    """[S]: mean accuracy"""
    counts: Array
    """[S]: epochs"""


class Observed:
    """Reads trials, each only once in each of its states. Better is more: ``sign`` -1 turns losses round."""

    def __init__(self, space: Space) -> None:
        self._space = space
        items = space.distributions
        self.coordinates = Coordinates({name: item for name, item in items.items() if not item.single()})
        self._single = {name: at(item, 0.5) for name, item in items.items() if item.single()}
        epochs = space.base.epochs
        ends = {math.ceil(epochs / part) for part in PARTS} | {epochs - 1, epochs}
        self._ends = sorted(end for end in ends if end >= 1)
        self._remaining = remaining(np.arange(1.0, epochs + 1), epochs)
        self._is_conditional = space.is_conditional
        self._whole: set[int] = set()  # numbers of trials; parameters are only ever added
        self._seen: dict[int, tuple[tuple[TrialState, int | None], _Seen]] = {}  # by number

    def whole(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have all parameters of a configuration of the space."""
        for trial in trials:
            if trial.number not in self._whole and self.is_whole(trial.params):
                self._whole.add(trial.number)
        return [trial for trial in trials if trial.number in self._whole]

    def is_whole(self, params: Mapping[str, Any]) -> bool:
        """Whether these are all parameters of a configuration of the space, of one drawn whole."""
        if not self._is_conditional:
            return self.coordinates.distributions.keys() <= params.keys()
        known = {**self._single, **params}
        try:
            return self._had(known) <= known.keys()
        except KeyError:
            return False

    def shares(self, trials: Sequence[FrozenTrial]) -> Array:
        """Where such trials are: [N, D]."""
        shares = [self._see(trial).shares for trial in trials]
        return np.array(shares).reshape(len(trials), len(self.coordinates.distributions))

    def shares_of(self, numbers: NDArray[np.int64]) -> Array:
        """Where trials of these numbers [N] are, each of which has been read: [N, D]."""
        return np.array([self._seen[number][1].shares for number in numbers.tolist()])

    def read(self, trials: Sequence[FrozenTrial], sign: int, most: int) -> Observations:
        """At most about so many accuracies: those of the trials that went on longest, the better of equally long ones.

        Of a trial that failed it is known only that it is no better than the worst. Trainings have the trials' numbers.
        """
        seen = [self._see(trial) for trial in trials]
        failed = [place for place, trial in enumerate(trials) if trial.state == TrialState.FAIL]
        worst = sign * (sign * np.concatenate([its.values for its in seen])).min(keepdims=True, initial=math.inf)
        at_worst = {"ways": np.zeros(1), "values": np.where(np.isfinite(worst), worst, 0.0), "counts": np.ones(1)}
        for place in failed:
            seen[place] = _Seen(seen[place].shares, seen[place].epochs, **at_worst)
        places = np.repeat(np.arange(len(seen)), [len(its.values) for its in seen])
        epochs = np.array([its.epochs for its in seen])[places]
        ways, values, counts = (np.concatenate([getattr(its, name) for its in seen]) for name in at_worst)
        values = sign * values
        if len(values) > most:
            chosen = np.lexsort((ways, places, -values, -epochs))[:most]
            chosen = chosen[np.lexsort((-ways[chosen], places[chosen]))]
            places, ways, values, counts = places[chosen], ways[chosen], values[chosen], counts[chosen]
        used, row = np.unique(places, return_inverse=True)
        points = self.coordinates.points(np.array([seen[place].shares for place in used]))
        numbers = np.array([trials[place].number for place in used], np.int64)
        return Observations(points[row], numbers[row], ways, values, counts)

    def settled(self, shares: Array) -> Array:
        """Shares [M, D] as configurations there have them: of whole numbers and choices, and in the middle if none."""
        shares = self.coordinates.snapped(shares)
        if self._is_conditional:
            for row in shares:
                had = self._had({**self._single, **self.coordinates.params(row)})
                row[[name not in had for name in self.coordinates.distributions]] = 0.5
        return shares

    def params(self, shares: Array) -> dict[str, Any]:
        """The parameters of a configuration at shares [D]."""
        params = {**self._single, **self.coordinates.params(shares)}
        had = self._had(params)
        return {name: value for name, value in params.items() if name in had}

    def _had(self, params: Mapping[str, Any]) -> set[str]:
        """Names of those that a configuration has, of all parameters."""
        had: set[str] = set()

        def choose(item: Range) -> Any:
            had.add(item.param)
            return params[item.param]

        self._space.draw(choose)
        return had

    def _see(self, trial: FrozenTrial) -> _Seen:
        kept = self._seen.get(trial.number)
        if kept is not None:
            (state, last_step), seen = kept
            if state == trial.state and (state.is_finished() or last_step == trial.last_step):
                return seen
        seen = _Seen(self.coordinates.shares(trial.params), *self._spans(trial))
        self._seen[trial.number] = (trial.state, trial.last_step), seen
        return seen

    def _spans(self, trial: FrozenTrial) -> tuple[int, Array, Array, Array]:
        """Epochs that it did; of each span of them the mean way to go, mean accuracy and epochs."""
        last = self._ends[-1]
        curve = {
            min(max(epoch, 1), last): value
            for epoch, value in trial.intermediate_values.items()
            if math.isfinite(value)
        }
        if not curve and trial.state == TrialState.COMPLETE and trial.value is not None:
            curve = {last: trial.value}
        spans: list[tuple[float, float, float]] = []
        begin = 1
        for end in self._ends:
            if epochs := [epoch for epoch in range(begin, end + 1) if epoch in curve]:
                way = float(self._remaining[np.array(epochs) - 1].mean())
                spans.append((way, float(np.mean([curve[epoch] for epoch in epochs])), len(epochs)))
            begin = end + 1
        ways, values, counts = np.array(spans, np.float64).reshape(-1, 3).T
        return max(curve, default=0), ways, values, counts
