"""Values of ranges as shares of them."""

from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.decide.unit_cube import at, share_of


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (CategoricalDistribution(["a", "b", "c"]), ["a", "b", "c"]),
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(2, 8, step=3), [2, 5, 8]),
        (IntDistribution(1, 64, log=True), [1, 2, 8, 64]),
        (FloatDistribution(0.0, 1.0, step=0.25), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (FloatDistribution(-1.0, 3.0), [-1.0, 0.5, 3.0]),
        (FloatDistribution(1e-4, 1e-2, log=True), [1e-4, 1e-3, 1e-2]),
        (FloatDistribution(0.5, 0.5), [0.5]),
    ],
)
def test_values_and_shares_of_a_range_belong_together(distribution: BaseDistribution, values: list[Any]) -> None:
    shares = [share_of(distribution, value) for value in values]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert [at(distribution, share) for share in shares] == pytest.approx(values) or values[0] == "a"
    for share in np.linspace(0, 1, 33).tolist():
        value = at(distribution, share)
        assert distribution._contains(distribution.to_internal_repr(value))
        assert at(distribution, share_of(distribution, value)) == pytest.approx(value) or isinstance(value, str)


def test_a_cube_is_drawn_evenly_from_every_range() -> None:
    shares = (np.arange(1000) + 0.5) / 1000
    for distribution in (IntDistribution(1, 4), CategoricalDistribution([1, 2, 3, 4])):
        drawn = [at(distribution, float(share)) for share in shares]
        assert [drawn.count(value) for value in (1, 2, 3, 4)] == [250] * 4
