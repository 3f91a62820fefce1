"""Candidates with their costs."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.budget import Budget, Cost
from ensemble.candidates.opening import open_pool
from ensemble.candidates.priced import PricedPool


@pytest.fixture
def priced(study: Path) -> PricedPool:
    costs = np.array([[10.0 * k, 100.0 * k, 0.5 * k, 1.0] for k in range(1, 5)])
    return PricedPool(open_pool(study), Cost(size=7, latency=0.25), costs)


def test_costs_are_addressed_by_name(priced: PricedPool):
    assert priced.costs_of("parameters").tolist() == [10, 20, 30, 40]
    assert priced.costs_of("latency").tolist() == [0.5, 1, 1.5, 2]
    with pytest.raises(ValueError, match="speed"):
        priced.costs_of("speed")


def test_a_member_costs_once_however_often_it_counts(priced: PricedPool):
    assert priced.total(np.array([3, 0, 1, 0])) == Cost(parameters=40, size=407, latency=2.25, members=2)
    assert priced.alone(1) == Cost(parameters=20, size=207, latency=1.25, members=1)
    assert priced.added(1) == Cost(parameters=20, size=200, latency=1.0, members=1)


def test_the_shared_part_is_taken_off_the_room_for_members(priced: PricedPool):
    assert priced.room(Budget(size=107, members=2)).tolist() == [np.inf, 100, np.inf, 2]
