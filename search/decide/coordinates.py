"""Configurations as points for models that need distances: numbers as shares of their ranges, a choice as corners."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.decide.unit_cube import at, share_of

Array = NDArray[np.float64]


class Coordinates:
    """D parameters, each a share of its range from 0 to 1, and the F coordinates that a model sees of them.

    A number is one coordinate. A choice has one for each of its values, so that any two are 1 apart. A parameter that
    a configuration does not have is in the middle of its range.

    >>> dropout = FloatDistribution(0.0, 0.4)
    >>> coordinates = Coordinates({"dropout": dropout, "norm": CategoricalDistribution(["rmsnorm", "layernorm"])})
    >>> coordinates.shares({"dropout": 0.1, "norm": "layernorm"}).tolist()
    [0.25, 0.75]
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        counts = [
            len(item.choices) if isinstance(item, CategoricalDistribution) else 1
            for item in self.distributions.values()
        ]
        self.columns = np.repeat(np.arange(len(counts)), counts)
        """int64 [F]: the parameter that each coordinate is of"""

    def shares(self, params: Mapping[str, Any]) -> Array:
        """[D] of a configuration."""
        return np.array(
            [share_of(item, params[name]) if name in params else 0.5 for name, item in self.distributions.items()]
        )

    def params(self, shares: Array) -> dict[str, Any]:
        """A value of every parameter at shares [D]."""
        return {name: at(item, float(s)) for (name, item), s in zip(self.distributions.items(), shares, strict=True)}

    def snapped(self, shares: Array) -> Array:
        """[M, D] at the shares of the values that lie at shares [M, D]: those that whole numbers and choices have."""
        columns = zip(self.distributions.values(), shares.T, strict=True)
        return np.stack([_snapped(item, column) for item, column in columns], axis=1)

    def points(self, shares: Array) -> Array:
        """What a model sees [M, F] of shares [M, D]."""
        columns: list[Array] = []
        for item, column in zip(self.distributions.values(), shares.T, strict=True):
            if isinstance(item, CategoricalDistribution):
                cell = np.minimum((column * len(item.choices)).astype(int), len(item.choices) - 1)
                columns += list(np.eye(len(item.choices))[cell].T * math.sqrt(0.5))
            else:
                columns.append(column)
        return np.stack(columns, axis=1)


def _snapped(item: BaseDistribution, shares: Array) -> Array:
    match item:
        case CategoricalDistribution(choices=choices):
            return _middle(shares, len(choices))
        case IntDistribution(low=low, high=high, log=True):
            ratio = (high + 0.5) / (low - 0.5)
            value = np.clip(np.round((low - 0.5) * ratio**shares), low, high)
            return np.log(value / (low - 0.5)) / math.log(ratio)
        case IntDistribution(low=low, high=high, step=step):
            return _middle(shares, (high - low) // step + 1)
        case FloatDistribution(low=low, high=high, step=float(step)):
            return _middle(shares, round((high - low) / step) + 1)
    return shares


def _middle(shares: Array, cells: int) -> Array:
    return (np.minimum(np.floor(shares * cells), cells - 1) + 0.5) / cells
