"""Test functions of the optimization literature, to see what defaults are worth where they were not chosen.

Formulas are those of Surjanovic and Bingham, "Virtual Library of Simulation Experiments", upside down, so that more is
better. Domains are moved so that the middle, where some searches begin, is nowhere near an optimum. Values are scaled:
0 is the median of the domain, 1 the optimum, and those below -1 are -1. They are of the last epoch. Before it, they
lack what follows a logarithm of the epoch as in tests.bench.hartmann, of some points two to four times as much as of
others, and noise that only lowers them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from search.decide.qmc import sobol
from tests.bench.hartmann import DISTANCE, lowered

NOISE: Final = 0.1
LEAST_LACK: Final = 0.15  # times tests.bench.hartmann's DISTANCE, where points come early; 0.65 where they come late
LATE: Final = (0.9, 0.3, 0.8, 0.2, 0.6, 0.4)  # how late they come depends on this, times the point


def branin(point: np.ndarray) -> float:
    """Of 2 coordinates; three optima."""
    x, y = 15 * point[0] - 5, 15 * point[1]
    bowl = y - 5.1 * x**2 / (4 * np.pi**2) + 5 * x / np.pi - 6
    return float(-(bowl**2) - 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) - 10)


def currin(point: np.ndarray) -> float:
    """The exponential function of Currin et al. (1988), of 2 coordinates; the optimum is near an edge."""
    x, y = point
    slope = 1 - np.exp(-1 / (2 * y)) if y else 1.0
    return float(slope * (2300 * x**3 + 1900 * x**2 + 2092 * x + 60) / (100 * x**3 + 500 * x**2 + 4 * x + 20))


def ackley(point: np.ndarray) -> float:
    """From -8 to 32: flat far from the optimum, many local ones."""
    x = 40 * point - 8
    return float(20 * np.exp(-0.2 * np.sqrt((x**2).mean())) + np.exp(np.cos(2 * np.pi * x).mean()) - 20 - np.e)


def rosenbrock(point: np.ndarray) -> float:
    """Its logarithm, from -4 to 2: a bent valley."""
    x = 6 * point - 4
    return float(-np.log1p((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()))


def levy(point: np.ndarray) -> float:
    """From -3 to 17: waves on a bowl."""
    w = 1 + (20 * point - 4) / 4
    inner = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)).sum()
    return float(-(np.sin(np.pi * w[0]) ** 2) - inner - (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2))


def styblinski_tang(point: np.ndarray) -> float:
    """From -5 to 5: an optimum in one of 2**D corners."""
    x = 10 * point - 5
    return float(-0.5 * (x**4 - 16 * x**2 + 5 * x).sum())


@dataclass(frozen=True)
class Landscape:
    """One of them, trained for EPOCHS epochs."""

    function: Callable[[np.ndarray], float]
    dimensions: int
    best: float
    """The function's optimum"""

    optimum = 1.0

    @functools.cached_property
    def _median(self) -> float:
        return float(np.median([self.function(point) for point in sobol(self.dimensions, 0)]))

    def expected(self, point: np.ndarray) -> np.ndarray:
        """Values without noise after each epoch of a point [D] in the unit cube: float64 [EPOCHS]."""
        end = (self.function(point) - self._median) / (self.best - self._median)
        lack = LEAST_LACK + 0.25 * (1 + np.sin(3 * np.dot(LATE[: self.dimensions], point)))
        return np.asarray(max(end, -1.0) - lack * DISTANCE)

    def train(self, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Values as they are observed: never above the expected ones, and the last one is exact."""
        return lowered(self.expected(point), NOISE, rng)


LANDSCAPES: Final = {
    "branin": Landscape(branin, 2, -0.397887),
    "currin": Landscape(currin, 2, 13.798722),
    "ackley5": Landscape(ackley, 5, 0.0),
    "rosenbrock4": Landscape(rosenbrock, 4, 0.0),
    "levy6": Landscape(levy, 6, 0.0),
    "styblinski5": Landscape(styblinski_tang, 5, 5 * 39.16617),
}
