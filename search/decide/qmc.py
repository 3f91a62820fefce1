"""Quasi-random sampling: points that cover the space evenly, for a search that should be no more than a fair survey."""

import functools
import itertools
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from scipy.stats import qmc

from search.decide.unit_cube import at
from search.decide.wrapping import RelativeSampler
from search.problem.space import Space

POINTS: Final = 14  # 2 to the power of this: as many as are looked at for one that fits


@functools.cache
def sobol(dimensions: int, seed: int) -> np.ndarray:
    """The first points of a scrambled Sobol sequence in the unit cube: float64 [2 ** POINTS, dimensions]."""
    points: np.ndarray = qmc.Sobol(dimensions, rng=seed).random_base2(POINTS)
    return points


class QmcSampler(RelativeSampler):
    """Gives trial n the n-th point of the sequence that fits the space, whatever came of the trials before.

    Optuna's own counts the points that it gave in the study, and forgets conditional fields.
    """

    def __init__(self, space: Space, study_seed: int, seed: int) -> None:
        """The sequence is scrambled by the study's seed; a trial's own is for where too few points fit."""
        self._space = space
        self._study_seed = study_seed
        super().__init__(seed)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return self._space.distributions

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        points = (
            {name: at(item, share) for (name, item), share in zip(search_space.items(), point, strict=True)}
            for point in sobol(len(search_space), self._study_seed).tolist()
        )
        return next(itertools.islice(filter(self._space.fits, points), trial.number, None), {})
