"""What a study's trials have come to after each epoch, as observations of a process over configurations and epochs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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
    spans: list[tuple[float, float, int]]
    """Mean way to go, mean accuracy, and epochs, of each span of them"""


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
        self._seen: dict[int, tuple[tuple[TrialState, int | None], _Seen]] = {}

    def is_whole(self, params: Mapping[str, Any]) -> bool:
        """Whether these are all parameters of a configuration of the space, of one drawn whole."""
        if not self._space.is_conditional:
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

    def read(self, trials: Sequence[FrozenTrial], sign: int, most: int) -> Observations:
        """At most about so many accuracies: those of the trials that went on longest, the better of equally long ones.

        Of a trial that failed it is known only that it is no better than the worst. Trainings have the trials' numbers.
        """
        seen = [self._see(trial) for trial in trials]
        worst = min((sign * value for its in seen for _, value, _ in its.spans), default=0.0)
        rows = [
            (place, way, value, count)
            for place, (its, trial) in enumerate(zip(seen, trials, strict=True))
            for way, value, count in (
                [(0.0, worst, 1)]
                if trial.state == TrialState.FAIL
                else [(way, sign * value, count) for way, value, count in its.spans]
            )
        ]
        if len(rows) > most:
            rows.sort(key=lambda row: (-seen[row[0]].epochs, -row[2], row[0], row[1]))
            rows = sorted(rows[:most], key=lambda row: (row[0], -row[1]))
        places = np.array([row[0] for row in rows], np.int64)
        _, ways, values, counts = (np.array(column, np.float64) for column in zip(*rows, strict=True))
        points = self.coordinates.points(np.array([its.shares for its in seen]))
        numbers = np.array([trial.number for trial in trials], np.int64)
        return Observations(points[places], numbers[places], ways, values, counts)

    def settled(self, shares: Array) -> Array:
        """Shares [M, D] as configurations there have them: of whole numbers and choices, and in the middle if none."""
        shares = self.coordinates.snapped(shares)
        if self._space.is_conditional:
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
        stand = trial.state, trial.last_step
        before, seen = self._seen.get(trial._trial_id, (None, None))
        if seen is None or before != stand:
            seen = _Seen(self.coordinates.shares(trial.params), *self._spans(trial))
            self._seen[trial._trial_id] = stand, seen
        return seen

    def _spans(self, trial: FrozenTrial) -> tuple[int, list[tuple[float, float, int]]]:
        last = self._ends[-1]
        curve = {
            min(max(epoch, 1), last): value
            for epoch, value in trial.intermediate_values.items()
            if math.isfinite(value)
        }
        if not curve and trial.state == TrialState.COMPLETE and trial.value is not None:
            curve = {last: trial.value}
        spans: list[tuple[float, float, int]] = []
        begin = 1
        for end in self._ends:
            if epochs := [epoch for epoch in range(begin, end + 1) if epoch in curve]:
                way = float(self._remaining[np.array(epochs) - 1].mean())
                spans.append((way, float(np.mean([curve[epoch] for epoch in epochs])), len(epochs)))
            begin = end + 1
        return max(curve, default=0), spans
