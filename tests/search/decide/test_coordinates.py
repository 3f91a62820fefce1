"""Configurations as points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.decide.coordinates import Coordinates
from search.decide.unit_cube import at, share_of

KINDS: list[BaseDistribution] = [
    CategoricalDistribution(["rmsnorm", "layernorm", "none"]),
    IntDistribution(1, 8),
    IntDistribution(2, 10, step=4),
    IntDistribution(1, 100, log=True),
    FloatDistribution(0.0, 0.4),
    FloatDistribution(1e-5, 1e-1, log=True),
    FloatDistribution(0.0, 1.0, step=0.25),
]


@pytest.mark.parametrize("item", KINDS, ids=str)
@given(st.floats(0.0, 1.0))
def test_a_share_is_moved_to_that_of_its_value(item: BaseDistribution, share: float) -> None:
    snapped = Coordinates({"x": item}).snapped(np.array([[share]]))
    assert snapped[0, 0] == pytest.approx(share_of(item, at(item, share)), abs=1e-12)


def test_any_two_choices_are_1_apart_and_numbers_are_their_shares() -> None:
    norm, dropout = KINDS[0], KINDS[4]
    coordinates = Coordinates({"norm": norm, "dropout": dropout})
    rows = [{"norm": choice, "dropout": 0.1} for choice in ("rmsnorm", "layernorm", "none")]
    points = coordinates.points(np.array([coordinates.shares(row) for row in rows]))
    assert points[:, 3].tolist() == [0.25] * 3
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.testing.assert_allclose(distances, 1 - np.eye(3), atol=1e-12)
    assert coordinates.columns.tolist() == [0, 0, 0, 1]


def test_a_parameter_that_is_not_there_is_in_the_middle() -> None:
    coordinates = Coordinates({"a": KINDS[4], "b": KINDS[5]})
    assert coordinates.shares({"b": 1e-1}).tolist() == [0.5, 1.0]
    assert coordinates.params(np.array([0.5, 1.0])) == {"a": 0.2, "b": pytest.approx(0.1)}
