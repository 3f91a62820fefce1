"""What stands for training in tests.bench.search, against curves that are known everywhere."""

import dataclasses

import numpy as np

from tests.bench.surrogate import Surrogate


def _curves(points: np.ndarray) -> np.ndarray:
    """float64 [N, 3]: the first dimension matters much, the second a little, the third not at all."""
    final = 0.6 - (points[:, 0] - 0.4) ** 2 + 0.1 * points[:, 1]
    return final[:, None] * np.array([0.5, 0.8, 1.0])


def test_it_tells_curves_that_it_has_not_seen() -> None:
    generator = np.random.default_rng(0)
    points, others = generator.random((60, 3)), generator.random((200, 3))
    surrogate = Surrogate.fit(points, _curves(points) + generator.normal(0, 0.01, (60, 3)))
    nearest = _curves(points[[surrogate.nearest(other, 1)[0] for other in others]])
    error, its_error = (np.abs(found - _curves(others)).mean() for found in (surrogate.predict(others), nearest))
    assert error < min(0.01, its_error / 2)
    assert surrogate.lengths[0] < surrogate.lengths[2]


def test_what_is_left_out_is_predicted_by_the_others_alone() -> None:
    points = np.random.default_rng(1).random((20, 3))
    curves = np.random.default_rng(2).random((20, 2)) * 0.5 + 0.25
    mean = curves.mean(axis=0)
    whole = Surrogate.fit(points, curves - mean)
    for row in (0, 7):
        kept = np.delete(np.arange(20), row)
        covariance = np.linalg.inv(whole.inverse)
        rest = np.linalg.inv(covariance[np.ix_(kept, kept)])
        expected = covariance[row, kept] @ rest @ (curves - mean)[kept]
        assert np.allclose(whole.left_out()[row], expected)
    assert np.allclose(dataclasses.replace(whole, curves=curves).left_out(), whole.left_out() + mean)
