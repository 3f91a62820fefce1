"""What a trial is scored by: accuracy alone, accuracy and parameters, or accuracy and latency.

With two values, Optuna searches the Pareto front: the trials that no other beats in one value without losing in the
other. Optuna cannot stop such trials early, so all of them run to their end; their accuracies after each epoch are in
the study all the same.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.problem.latency_estimate import LatencyScale
from trainer.config import ModelConfig
from trainer.model.classifier import num_parameters

DEFAULT_OBJECTIVE: Final = "accuracy"
WITH_LATENCY: Final = "accuracy,latency"
OBJECTIVES: Final = (DEFAULT_OBJECTIVE, "accuracy,params", WITH_LATENCY)
REMOVED: Final = "ensemble"  # what studies of version 0.1 may have been scored by


@dataclass(frozen=True)
class Objective:
    """Scores trials."""

    name: str = DEFAULT_OBJECTIVE
    latency: LatencyScale | None = None
    """What makes milliseconds, where the objective is accuracy,latency"""

    @property
    def directions(self) -> list[StudyDirection]:
        """Of each value."""
        best, least = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
        return [best] if self.name in (DEFAULT_OBJECTIVE, REMOVED) else [best, least]

    @property
    def metric_names(self) -> list[str]:
        """What each value is called."""
        return self.name.split(",")

    @property
    def has_front(self) -> bool:
        return len(self.directions) > 1

    def values(self, model: ModelConfig, val_accuracy: float) -> list[float]:
        """Of a trial that ran to its end."""
        if self.latency is not None:
            return [val_accuracy, self.latency.milliseconds(model)]
        return [val_accuracy, float(num_parameters(model))] if self.has_front else [val_accuracy]


def pareto_front(points: Iterable[tuple[float, float, int]]) -> list[int]:
    """Numbers of the (cost, accuracy, number) that no other beats in one without losing in the other, cheapest first.

    Of several with the same cost and accuracy, all are on the front.

    >>> pareto_front([(1.0, 0.5, 0), (2.0, 0.5, 1), (2.0, 0.7, 2)])
    [0, 2]
    """
    found: list[int] = []
    best = -math.inf
    ordered = sorted(points, key=lambda point: (point[0], -point[1], point[2]))
    for _, group in itertools.groupby(ordered, key=lambda point: point[0]):
        alike = list(group)
        if (top := alike[0][1]) > best:
            found += [number for _, accuracy, number in alike if accuracy == top]
            best = top
    return found


def front(trials: Sequence[FrozenTrial]) -> set[int]:
    """Numbers of the finished trials on the Pareto front; empty for a study with one value a trial."""
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and len(trial.values) > 1]
    return set(pareto_front((trial.values[1], trial.values[0], trial.number) for trial in ended))
