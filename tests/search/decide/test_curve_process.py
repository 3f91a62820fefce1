"""The Gaussian process over configurations and epochs, against formulas written down again in another way."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gamma, kv
from scipy.stats import multivariate_normal, norm

from search.decide.curve_process import (
    DEVIATIONS,
    JITTER,
    TREND,
    Array,
    CurveProcess,
    Observations,
    _Posterior,
    expected_improvement,
    remaining,
)

COLUMNS = np.array([0, 1, 1, 2])


def _observations(count: int, seed: int = 0) -> Observations:
    rng = np.random.default_rng(seed)
    t = rng.choice([1.0, 0.5, 0.2, 0.0], count)
    trainings, counts = rng.integers(0, count // 2, count), rng.integers(1, 6, count).astype(float)
    points = rng.random((count // 2, 4))[trainings]
    return Observations(points, trainings, t, rng.normal(size=count), counts)


def _covariance(hyperparameters: Array, seen: Observations) -> Array:
    """Term by term, with Matern's general formula."""
    lengths, deviations = np.exp(hyperparameters[:3]), np.exp(hyperparameters[3:])
    f, g, luck, end, begin, drift = deviations
    whole = np.zeros((len(seen), len(seen)))
    for i in range(len(seen)):
        for j in range(len(seen)):
            way, other = seen.remaining[i], seen.remaining[j]
            distance = np.linalg.norm((seen.points[i] - seen.points[j]) / lengths[COLUMNS])
            z = np.sqrt(5) * distance
            matern = 1.0 if z == 0 else 2 ** (1 - 2.5) / gamma(2.5) * z**2.5 * kv(2.5, z)
            common = way * other * np.exp(-2 * (way - other) ** 2)
            whole[i, j] = TREND[0] + TREND[1] * common + (f**2 + g**2 * common) * matern
            if seen.trainings[i] == seen.trainings[j]:
                whole[i, j] += luck**2 + drift**2 * common
            if i == j:
                whole[i, j] += end**2 + begin**2 * way**2 / seen.counts[i] + JITTER
    return whole


def test_the_density_is_that_of_a_normal_distribution_and_of_the_priors() -> None:
    seen, process = _observations(30), CurveProcess(COLUMNS, 0.4)
    density = _Posterior(seen, COLUMNS, process._median, process._spread)
    rng = np.random.default_rng(1)
    here, there = (process.hyperparameters + rng.normal(size=9) * 0.3 for _ in range(2))

    def expected(hyperparameters: Array) -> float:
        likelihood = multivariate_normal(np.zeros(30), _covariance(hyperparameters, seen)).logpdf(seen.values)
        return -float(likelihood + norm(process._median, process._spread).logpdf(hyperparameters).sum())

    assert density(here)[0] - density(there)[0] == pytest.approx(expected(here) - expected(there), abs=1e-6)
    slope = [(density(here + step)[0] - density(here - step)[0]) / 2e-5 for step in 1e-5 * np.eye(9)]
    np.testing.assert_allclose(density(here)[1], slope, rtol=1e-4, atol=1e-4)


def test_a_prediction_is_the_normal_distribution_given_what_was_seen() -> None:
    seen, process = _observations(30), CurveProcess(COLUMNS, 0.4)
    rng = np.random.default_rng(2)
    points, t = rng.random((5, 4)), np.zeros(5)
    new = Observations(points, np.arange(100, 105), t, np.zeros(5), np.ones(5))
    covariance = _covariance(process.hyperparameters, seen + new)
    among, across, own = covariance[:30, :30], covariance[30:, :30], covariance[30:, 30:]
    deviations = dict(zip(DEVIATIONS, np.exp(process.hyperparameters[3:]), strict=True))
    noise = deviations["noise at the end"] ** 2 + JITTER
    variance = np.diag(own - across @ np.linalg.solve(among, across.T)) - deviations["luck"] ** 2 - noise
    mean, deviation = process.given(seen).predict(points)
    np.testing.assert_allclose(mean, across @ np.linalg.solve(among, seen.values), atol=1e-8)
    np.testing.assert_allclose(process.given(seen).predict_mean(points), mean, atol=1e-12)
    np.testing.assert_allclose(deviation, np.sqrt(variance), atol=1e-6)


def test_of_two_trainings_of_one_configuration_the_luckier_is_expected_to_end_better() -> None:
    point = np.full((1, 4), 0.5)
    seen = _observations(20)
    twins = Observations(
        np.repeat(point, 2, axis=0), np.array([50, 51]), np.zeros(2), np.array([0.5, -0.5]), np.ones(2)
    )
    given = CurveProcess(COLUMNS, 0.4).given(seen + twins)
    luckier, other, new = given.predict_end(np.repeat(point, 3, axis=0), np.array([50, 51, 52]))
    assert luckier > new > other
    assert given.predict(point)[0][0] == pytest.approx(new)


def test_fitting_finds_which_dimension_matters_and_where_the_noise_is() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((60, 3))
    t = np.repeat([1.0, 0.0], 30)
    values = np.sin(6 * points[:, 0]) + rng.normal(size=60) * t * 0.5
    process = CurveProcess(np.arange(3), 0.4)
    process.fit(Observations(points, np.arange(60), t, values, np.ones(60)).standardized())
    lengths = np.exp(process.hyperparameters[:3])
    assert lengths[0] < 0.5 * lengths[1:].min()
    end, begin = process.variances("noise at the end", "noise at the begin")
    assert end < 0.1 * begin
    mean, _ = process.given(Observations(points, np.arange(60), t, values, np.ones(60))).predict(points)
    assert np.corrcoef(mean, np.sin(6 * points[:, 0]))[0, 1] > 0.95


def test_what_is_believed_of_running_trainings_leaves_the_mean_and_takes_doubt_away() -> None:
    seen = _observations(20)
    given = CurveProcess(COLUMNS, 0.4).given(seen)
    points = np.array([[0.9] * 4, [0.1] * 4])
    believing = given.believing(points)
    (before, doubt), (after, less) = given.predict(points), believing.predict(points)
    assert after == pytest.approx(before, abs=1e-4)
    assert (less < 0.6 * doubt).all()
    assert given.believing(np.empty((0, 4))) is given
    anew = CurveProcess(COLUMNS, 0.4).given(believing.seen)
    others = np.random.default_rng(0).random((9, 4))
    np.testing.assert_allclose(believing.predict(others), anew.predict(others), atol=1e-8)


def test_expected_improvement_is_its_integral() -> None:
    for mean, deviation, best in ((0.0, 1.0, 0.5), (1.0, 0.1, 0.9), (-2.0, 0.5, 0.0)):
        integral, _ = quad(lambda y, m=mean, s=deviation, b=best: (y - b) * norm.pdf(y, m, s), best, best + 12)
        found = expected_improvement(np.array([mean]), np.array([deviation]), best)
        assert found[0] == pytest.approx(integral, abs=1e-8)


def test_a_part_of_the_observations_is_of_whole_trainings() -> None:
    seen = _observations(200)
    some = seen.some(50, np.random.default_rng(0))
    assert 40 < len(some) <= 50
    for training in np.unique(some.trainings):
        assert (some.trainings == training).sum() == (seen.trainings == training).sum()
    assert seen.some(200, np.random.default_rng(0)) is seen


def test_of_a_single_epoch_nothing_is_to_go() -> None:
    assert remaining(np.array([1.0]), 1).tolist() == [0.0]
    assert remaining(np.array([1.0, 40.0]), 40).tolist() == [1.0, 0.0]


def test_equal_values_are_no_trouble() -> None:
    seen = _observations(20)
    level = Observations(seen.points, seen.trainings, seen.remaining, np.full(20, 0.3), seen.counts).standardized()
    process = CurveProcess(COLUMNS, 0.4)
    process.fit(level)
    assert np.isfinite(process.given(level).predict(seen.points)[0]).all()
