"""Learning curves of configurations that were not recorded: a Gaussian process over those that were.

A table stands for training only if it is dense. In six dimensions it is not: the nearest of 181 recorded configurations
tells a left-out one's final accuracy no better than the mean of all does. A process with one length a dimension tells
most of it (see ``Surrogate.left_out``), and a step in the space has an effect that a sampler can follow.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

PRIOR = math.log(0.7), 1.0  # of the logarithm of a length, in ranges: mean and standard deviation


@dataclass(frozen=True)
class Surrogate:
    """Kriging of whole curves: one kernel, of the configurations, for all epochs."""

    points: np.ndarray
    """float64 [N, D], in the unit cube"""
    curves: np.ndarray
    """float64 [N, E]"""
    lengths: np.ndarray
    """float64 [D]: how far one has to go in each dimension for accuracies to differ"""
    noise: float
    """Variance of what the configuration does not explain, the process's own being 1"""
    inverse: np.ndarray
    """float64 [N, N], of the covariance of the recorded ones"""

    @classmethod
    def fit(cls, points: np.ndarray, curves: np.ndarray) -> Self:
        """Lengths and noise are those under which the curves are likeliest, with a broad prior on lengths."""
        x, y = torch.from_numpy(points), torch.from_numpy(curves - curves.mean(axis=0))
        mean, deviation = PRIOR
        start = [mean] * points.shape[1] + [math.log(0.1)]
        logs = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logs], max_iter=60, line_search_fn="strong_wolfe")

        def covariance() -> torch.Tensor:
            lengths, noise = logs[:-1].exp(), logs[-1].exp()
            return matern(x, x, lengths) + noise * torch.eye(len(x), dtype=torch.float64)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            factor = torch.linalg.cholesky(covariance())
            variances = torch.linalg.solve_triangular(factor, y, upper=False).square().mean(dim=0)  # one an epoch
            log_likelihood = -0.5 * len(x) * variances.log().mean() - factor.diagonal().log().sum()
            prior = -0.5 * ((logs[:-1] - mean) / deviation).square().sum()
            loss = -(log_likelihood + prior)
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            inverse = torch.linalg.inv(covariance()).numpy()
            *lengths, noise = logs.exp().tolist()
        return cls(points, curves, np.array(lengths), noise, inverse)

    def predict(self, points: np.ndarray) -> np.ndarray:
        """Expected curves float64 [M, E] of configurations [M, D]."""
        mean = self.curves.mean(axis=0)
        near = matern(*map(torch.from_numpy, (points, self.points, self.lengths))).numpy()
        return np.clip(mean + near @ (self.inverse @ (self.curves - mean)), 0.0, 1.0)

    def nearest(self, point: np.ndarray, count: int) -> np.ndarray:
        """Which of the recorded configurations are most like this one [D]: int64 [count]."""
        return np.square((self.points - point) / self.lengths).sum(axis=1).argsort()[:count]

    def left_out(self) -> np.ndarray:
        """What the others say of each recorded curve: float64 [N, E]."""
        weighted = self.inverse @ (self.curves - self.curves.mean(axis=0))
        return self.curves - weighted / np.diagonal(self.inverse)[:, None]


def matern(left: torch.Tensor, right: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Matern covariance of order 5/2 between points [M, D] and [N, D]: [M, N]; 1 where they are the same."""
    squares = ((left[:, None] - right) / lengths).square().sum(dim=-1)
    distance = (5.0 * squares).clamp_min(1e-12).sqrt()  # the root has no slope at 0
    return (1.0 + distance + distance.square() / 3.0) * torch.exp(-distance)
