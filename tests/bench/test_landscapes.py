"""Functions of the literature, against published values."""

import numpy as np
import pytest

from tests.bench import landscapes
from tests.bench.landscapes import LANDSCAPES
from tests.bench.problems import problem

# Published: where the optima are, and what is there.
BEST = {
    "branin": ((9.42478 + 5) / 15, 2.475 / 15),
    "currin": (0.216667, 0.022857),
    "ackley5": (0.2,) * 5,
    "rosenbrock4": (5 / 6,) * 4,
    "levy6": (0.2,) * 6,
    "styblinski5": ((5 - 2.903534) / 10,) * 5,
}


@pytest.mark.parametrize("name", LANDSCAPES)
def test_the_published_optimum_is_where_it_is_said_to_be(name: str) -> None:
    function = LANDSCAPES[name]
    end = function.expected(np.array(BEST[name]))[-1]
    assert end == pytest.approx(1.0, abs=1e-4)
    others = np.random.default_rng(0).random((1000, function.dimensions))
    ends = np.array([function.expected(other)[-1] for other in others])
    assert ends.max() < 1.0
    assert np.median(ends) == pytest.approx(0.0, abs=0.1)
    assert (ends > function.expected(np.full(function.dimensions, 0.5))[-1]).mean() > 0.05  # the middle is no secret


def test_values_are_the_published_ones() -> None:
    """Of x in the functions' own domains, by hand from the formulas."""
    assert landscapes.branin(np.array([1 / 3, 0.0])) == pytest.approx(-55.602113)  # (0, 0)
    assert landscapes.currin(np.array([1.0, 0.5])) == pytest.approx((1 - np.exp(-1)) * 6352 / 624)
    assert landscapes.rosenbrock(np.full(4, 2 / 3)) == pytest.approx(-np.log(4))  # of 3 at the origin
    assert landscapes.styblinski_tang(np.full(5, 0.6)) == pytest.approx(5 * 5.0)  # of 1
    assert landscapes.levy(np.full(6, 0.2) + np.eye(6)[5] * 0.2) == pytest.approx(-1.0)  # w of the last is 2


@pytest.mark.parametrize("name", LANDSCAPES)
def test_noise_only_lowers_values_and_ends_with_the_last_epoch(name: str) -> None:
    function, point = LANDSCAPES[name], np.full(LANDSCAPES[name].dimensions, 0.4)
    lost = function.expected(point) - function.train(point, np.random.default_rng(0))
    assert (lost[:-1] > 0).all()
    assert lost[-1] == 0
    assert (np.diff(function.expected(point)) > 0).all()


def test_a_search_is_played_on_one() -> None:
    its = problem("levy6")
    training = its.train(dict.fromkeys(its.space.distributions, 0.2), seed=1, number=2)
    assert training.worth == pytest.approx(1.0)
    assert its.regret(training.worth) == pytest.approx(0.0)
