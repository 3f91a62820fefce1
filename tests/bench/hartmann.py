"""The multi-fidelity Hartmann functions of mf-prior-bench 1.10, upside down, so that more is better.

A point of the unit cube "trains" for EPOCHS epochs; epoch e is its fidelity z = round(100 e / EPOCHS) of 100. Low
fidelities are flattened by a bias and pulled down by noise, both of which end with the last epoch: that one tells the
truth. Formula and constants: mfpbench/synthetic/hartmann/generators.py of mf-prior-bench, which minimises.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.bench.curves import EPOCHS

ALPHA: Final = np.array([1.0, 1.2, 3.0, 3.2])
A: Final = {
    3: np.array([[3.0, 10, 30], [0.1, 10, 35], [3.0, 10, 30], [0.1, 10, 35]]),
    6: np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    ),
}
P: Final = {
    3: np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]) / 10_000,
    6: np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    / 10_000,
}
OPTIMA: Final = {3: 3.86278, 6: 3.32237}
# How far an epoch is from the last one: 1 at fidelity 1, 0 at fidelity 100.
DISTANCE: Final = 1.0 - np.log(np.round(np.arange(1, EPOCHS + 1) * 100 / EPOCHS)) / np.log(100)


def lowered(expected: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Values [EPOCHS] less a noise that ends with the last epoch."""
    return expected - np.abs(rng.normal(size=EPOCHS)) * noise * DISTANCE


@dataclass(frozen=True)
class Hartmann:
    """One of them."""

    dimensions: int
    """3 or 6"""
    bias: float
    noise: float

    @property
    def optimum(self) -> float:
        """The largest value that there is."""
        return OPTIMA[self.dimensions]

    def expected(self, point: np.ndarray) -> np.ndarray:
        """Values without noise after each epoch of a point [D] in the unit cube: float64 [EPOCHS]."""
        near = np.exp(-np.sum(A[self.dimensions] * (point - P[self.dimensions]) ** 2, axis=1))
        return (ALPHA - self.bias * DISTANCE[:, None]) @ near

    def train(self, point: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Values as they are observed: never above the expected ones, and the last one is exact."""
        return lowered(self.expected(point), self.noise, rng)
