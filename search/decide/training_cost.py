"""What an epoch of a configuration costs, as the trainings that have ended or paused tell.

The logarithm of seconds an epoch is a polynomial of second degree, without products, of a configuration's coordinates,
shrunk towards their mean (ridge regression): sizes of a model multiply what a step takes, and few trials tell how.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.decide.curve_process import Array

FEWEST: Final = 8
"""Trainings that must have told"""
SHRINKAGE: Final = 1.0
"""Variance of one training's logarithm, over that of a coefficient"""


def known(trial: FrozenTrial) -> float | None:
    """Logarithm of seconds an epoch of a trial that has ended well or is paused; None if it does not say."""
    seconds = trial.user_attrs.get("seconds")
    ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    return float(np.log(seconds / trial.last_step)) if ended and seconds and trial.last_step else None


class TrainingCost:
    """Logarithms of seconds an epoch, as far as they differ between configurations."""

    def __init__(self, points: Array, logarithms: Sequence[float]) -> None:
        """``points`` [N, F] are configurations in the unit cube, ``logarithms`` [N] what an epoch of each took."""
        features, values = _features(points), np.array(logarithms)
        self._center, self._mean = features.mean(axis=0), values.mean()
        off = features - self._center
        covariance = off.T @ off + SHRINKAGE * np.eye(off.shape[1])
        self._slopes = np.linalg.solve(covariance, off.T @ (values - self._mean))

    def predict(self, points: Array) -> Array:
        """Of configurations [M, F]: [M]."""
        logarithms: Array = self._mean + (_features(points) - self._center) @ self._slopes
        return logarithms


def _features(points: Array) -> Array:
    return np.concatenate([points, points**2], axis=1)
