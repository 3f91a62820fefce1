"""A Gaussian process over configurations and epochs: what short trainings tell of long ones, and how surely.

Accuracy of training i, of configuration x, after epoch e of E, with the share t = 1 - log e / log E of the way that is
still to go:

    accuracy = trend(t) + f(x) + g(x, t) + luck_i + drift_i(t) + noise(t)

f is what is searched for: a Matern process of order 5/2 with a length for each dimension. g is what makes a ranking
after few epochs another than at the end; it has f's lengths and is 0 at the end. Luck stays with a training, however
long it is watched, and so does drift, which is 0 at the end. Noise grows with t. The hyperparameters are those of the
largest posterior density, so that few trainings do not say what they cannot know.

In the line of Swersky et al. 2014, "Freeze-Thaw Bayesian Optimization", and Klein et al. 2020, "Model-based
Asynchronous Hyperparameter and Neural Architecture Search"; the process over epochs that is 0 at the last is in that of
Kandasamy et al. 2017, "Multi-fidelity Bayesian Optimisation with Continuous Approximations".
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dpotri, dtrtri
from scipy.optimize import minimize
from scipy.special import ndtr

Array: TypeAlias = NDArray[np.float64]

LENGTH_SPREAD: Final = 0.8  # of f's lengths, which are in ranges: standard deviation of their logarithms
DEVIATIONS: Final = {  # in standard deviations of all that was observed: median, standard deviation of the logarithm
    "f": (1.0, 0.7),
    "g": (0.7, 1.0),
    "luck": (0.2, 1.0),
    "noise at the end": (0.05, 1.0),
    "noise at the begin": (0.3, 1.0),
    "drift": (0.2, 1.0),
}
TREND: Final = 4.0, 16.0  # variances of what all configurations have in common: at the end, and away from it
JITTER: Final = 1e-8
STEPS: Final = 20  # of the search for hyperparameters, which begins where the last one ended


@dataclass(frozen=True)
class Observations:
    """N accuracies, each the mean of an epoch or of several that follow each other."""

    points: Array
    """[N, F] configurations in the unit cube"""
    trainings: NDArray[np.int64]
    """[N]: of which training each is"""
    remaining: Array
    """[N], t: from 1 after the first epoch to 0 after the last"""
    values: Array
    """[N]"""
    counts: Array
    """[N] epochs"""

    def __len__(self) -> int:
        return len(self.values)

    def equal(self, other: "Observations") -> bool:
        """Whether they are the same, in the same order."""
        return all(np.array_equal(part, vars(other)[name]) for name, part in vars(self).items())

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> "Observations":
        """Some of them."""
        return Observations(**{name: part[chosen] for name, part in vars(self).items()})

    def standardized(self) -> "Observations":
        """The same, of mean 0 and standard deviation 1."""
        deviation = self.values.std()
        return replace(self, values=(self.values - self.values.mean()) / (deviation if deviation > 0 else 1.0))

    def some(self, most: int, rng: np.random.Generator) -> "Observations":
        """Those of some trainings, no more than so many: the sixth with the most, and others at random."""
        if len(self) <= most:
            return self
        trainings, counts = np.unique(self.trainings, return_counts=True)
        order = np.lexsort((rng.random(len(trainings)), -counts))
        order[len(order) // 6 :] = rng.permutation(order[len(order) // 6 :])
        chosen = trainings[order[: np.searchsorted(counts[order].cumsum(), most, side="right")]]
        return self.take(np.isin(self.trainings, chosen))

    def __add__(self, other: "Observations") -> "Observations":
        return Observations(**{name: np.concatenate([part, vars(other)[name]]) for name, part in vars(self).items()})


def remaining(epoch: float | Array, epochs: int) -> Array:
    """The share t of the way, in logarithms, from an epoch to the last.

    >>> remaining(np.array([1.0, 3.0, 9.0, 27.0]), 27).round(3).tolist()
    [1.0, 0.667, 0.333, 0.0]
    """
    if epochs <= 1:
        return np.zeros(np.shape(epoch))
    ways: Array = np.clip(1 - np.log(epoch) / math.log(epochs), 0.0, 1.0)
    return ways


class CurveProcess:
    """The process under given hyperparameters, and under what was observed."""

    def __init__(self, columns: NDArray[np.int64], length: float, hyperparameters: Array | None = None) -> None:
        """``columns`` [F] names the length of each dimension: those of one choice have one length in common.

        ``length`` is the median of the lengths' prior. ``hyperparameters`` are logarithms: of the lengths, then of
        DEVIATIONS; default: the medians of their priors.
        """
        self._columns = columns
        self._lengths = int(columns.max()) + 1
        self._median = np.log([*[length] * self._lengths, *(median for median, _ in DEVIATIONS.values())])
        self._spread = np.array([*[LENGTH_SPREAD] * self._lengths, *(spread for _, spread in DEVIATIONS.values())])
        self.hyperparameters: Array = self._median.copy() if hyperparameters is None else hyperparameters

    def fit(self, seen: Observations) -> None:
        """Move the hyperparameters to where their posterior density is largest, from where they are."""
        posterior = _Posterior(seen, self._columns, self._median, self._spread)
        bounds = list(zip(self._median - 4 * self._spread, self._median + 4 * self._spread, strict=True))
        begin = np.clip(self.hyperparameters, *np.transpose(bounds))
        found = minimize(posterior, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
        self.hyperparameters = found.x

    def given(self, seen: Observations) -> "Conditioned":
        """The process, given observations."""
        return Conditioned(self, seen)

    def covariance(self, left: Array, left_remaining: Array | None, right: Array, right_remaining: Array) -> Array:
        """Of trend + f + g between configurations [M, F] and [N, F] with so much of the way to go: [M, N].

        None is nothing to go, which is the end.
        """
        scale = np.exp(-self.hyperparameters[: self._lengths])[self._columns]
        left, right = left * scale, right * scale
        squares = (left * left).sum(axis=1)[:, None] + (right * right).sum(axis=1) - 2 * left @ right.T
        f, g = self.variances("f", "g")
        correlation = _matern(squares)
        common = 0.0 if left_remaining is None else _common(left_remaining, right_remaining)
        whole: Array = TREND[0] + TREND[1] * common + (f + g * common) * correlation
        return whole

    def of_observed(self, left: Observations, right: Observations) -> Array:
        """Covariance of observations [M] with the same ones, or with [N] of other trainings: [M, N]."""
        covariance = self.covariance(left.points, left.remaining, right.points, right.remaining)
        if left is right:
            t = left.remaining
            luck, end, begin, drift = self.variances("luck", "noise at the end", "noise at the begin", "drift")
            covariance += (left.trainings[:, None] == left.trainings) * (luck + drift * _common(t, t))
            covariance[np.diag_indices(len(left))] += end + begin * t**2 / left.counts + JITTER
        return covariance

    def variances(self, *names: str) -> Array:
        """Of parts of the process, by their names in DEVIATIONS."""
        values = np.exp(2 * self.hyperparameters[self._lengths :])
        return np.array([values[list(DEVIATIONS).index(name)] for name in names])


class Conditioned:
    """A process, given observations. What that takes is computed once it is asked for something."""

    def __init__(self, process: CurveProcess, seen: Observations) -> None:
        self._process, self.seen = process, seen

    @cached_property
    def _inverse(self) -> Array:
        """[N, N]: of the lower Cholesky factor of what the observations have in common."""
        return _inverse_factor(self._process.of_observed(self.seen, self.seen))

    @cached_property
    def _weights(self) -> Array:
        weights: Array = self._inverse.T @ (self._inverse @ self.seen.values)
        return weights

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation [M] of what configurations [M, F] come to at the end, luck and noise apart."""
        near = self._process.covariance(points, None, self.seen.points, self.seen.remaining)
        known = dtrmm(1.0, self._inverse.T, near.T, trans_a=1)  # inverse @ near.T: half of the inverse is 0
        variance = TREND[0] + self._process.variances("f") - np.einsum("nm,nm->m", known, known)
        return near @ self._weights, np.sqrt(np.maximum(variance, 1e-10))

    def predict_mean(self, points: Array) -> Array:
        """Mean [M] alone."""
        means: Array = self._process.covariance(points, None, self.seen.points, self.seen.remaining) @ self._weights
        return means

    def predict_end(self, points: Array, trainings: NDArray[np.int64]) -> Array:
        """Mean [M] of what trainings of these numbers [M] come to at their end, each of a configuration [M, F]."""
        near = self._process.covariance(points, None, self.seen.points, self.seen.remaining)
        near += self._process.variances("luck") * (trainings[:, None] == self.seen.trainings)
        ends: Array = near @ self._weights
        return ends

    def believing(self, points: Array) -> "Conditioned":
        """The same, had trainings that still run ended as is expected of their configurations [M, F].

        This is the "kriging believer" of Ginsbourger et al. 2010.
        """
        count = len(points)
        if not count:
            return self
        trainings = self.seen.trainings.max() + 1 + np.arange(count)
        end, means = np.zeros(count), self.predict_mean(points)
        new = Observations(points, trainings, end, means, np.ones(count))
        believing = Conditioned(self._process, self.seen + new)
        across = self._process.of_observed(new, self.seen) @ self._inverse.T
        own = _inverse_factor(self._process.of_observed(new, new) - across @ across.T)
        above = np.hstack([self._inverse, np.zeros((len(self.seen), count))])
        believing._inverse = np.vstack([above, np.hstack([-own @ across @ self._inverse, own])])
        return believing


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """By how much a normal variable exceeds ``best`` in the mean, 0 where it does not (Jones et al. 1998, eq. 15).

    >>> expected_improvement(np.array([0.0]), np.array([1.0]), 0.0).round(4).tolist()
    [0.3989]
    """
    z = (mean - best) / deviation
    improvement: Array = deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
    return improvement


def _inverse_factor(covariance: Array) -> Array:
    """The inverse of a covariance's lower Cholesky factor."""
    factor = cholesky(covariance, lower=True, check_finite=False)
    inverse: Array = dtrtri(factor, lower=1)[0]
    return np.ascontiguousarray(inverse)


def _matern(squares: Array) -> Array:
    """Of squared distances: Matern's correlation of order 5/2."""
    s = np.sqrt(5.0 * np.maximum(squares, 1e-20))
    correlation: Array = (1 + s + s * s / 3) * np.exp(-s)
    return correlation


def _matern_slope(squares: Array) -> Array:
    """Its slope in the logarithm of a length, for each square of that length."""
    s = np.sqrt(5.0 * np.maximum(squares, 1e-20))
    slope: Array = 5 / 3 * (1 + s) * np.exp(-s)
    return slope


def _common(left: Array, right: Array) -> Array:
    """Covariance of what is 0 at the end, between ways to go [M] and [N]: [M, N]."""
    common: Array = left[:, None] * right * np.exp(-2.0 * (left[:, None] - right) ** 2)
    return common


class _Posterior:
    """Negative logarithm of the hyperparameters' posterior density, and its gradient."""

    def __init__(self, seen: Observations, columns: NDArray[np.int64], median: Array, spread: Array) -> None:
        squares = (seen.points.T[:, :, None] - seen.points.T[:, None, :]) ** 2
        self._lengths = int(columns.max()) + 1
        self._squares = np.stack([squares[columns == length].sum(axis=0) for length in range(self._lengths)])
        self._values, self._median, self._spread = seen.values, median, spread
        self._same = (seen.trainings[:, None] == seen.trainings).astype(np.float64)
        self._common = _common(seen.remaining, seen.remaining)
        self._drift = self._same * self._common
        self._trend = TREND[0] + TREND[1] * self._common
        self._noise = seen.remaining**2 / seen.counts
        self._diagonal = np.diag_indices(len(seen))

    def __call__(self, hyperparameters: Array) -> tuple[float, Array]:
        scale = np.exp(-2 * hyperparameters[: self._lengths])
        f, g, luck, end, begin, drift = np.exp(2 * hyperparameters[self._lengths :])
        squares = np.tensordot(scale, self._squares, 1)
        correlation, slope = _matern(squares), _matern_slope(squares)
        weight = f + g * self._common
        covariance = self._trend + weight * correlation + luck * self._same + drift * self._drift
        covariance[self._diagonal] += end + begin * self._noise + JITTER
        try:
            factor = cholesky(covariance, lower=True, check_finite=False)
        except np.linalg.LinAlgError:  # no density to speak of
            return 1e10, np.zeros_like(hyperparameters)
        weights = cho_solve((factor, True), self._values, check_finite=False)
        lower = np.tril(dpotri(factor, lower=1)[0])
        inverse = lower + np.tril(lower, -1).T
        off = (hyperparameters - self._median) / self._spread
        density = 0.5 * self._values @ weights + np.log(factor[self._diagonal]).sum() + 0.5 * off @ off
        by_covariance = 0.5 * (inverse - np.outer(weights, weights))
        by_length = np.tensordot(self._squares, by_covariance * weight * slope, 2) * scale
        by_correlation, own = by_covariance * correlation, by_covariance[self._diagonal]
        by_deviation = [
            f * by_correlation.sum(),
            g * (by_correlation * self._common).sum(),
            luck * (by_covariance * self._same).sum(),
            end * own.sum(),
            begin * (own * self._noise).sum(),
            drift * (by_covariance * self._drift).sum(),
        ]
        return float(density), np.concatenate([by_length, 2 * np.array(by_deviation)]) + off / self._spread
