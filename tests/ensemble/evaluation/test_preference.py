"""The cheapest ensemble that is not measurably worse than the best."""

import numpy as np
import pytest

from ensemble.budget import Budget
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation.preference import one_standard_error, preferred, standard_error
from ensemble.evaluation.unseen import rotated
from ensemble.selection import baselines
from ensemble.selection.greedy import UnaffordableError
from tests.ensemble.evaluation.conftest import accuracy_of

SIZES = np.array([10, 20, 30, 40])


def test_standard_error_is_that_of_means_where_all_have_as_many_sequences() -> None:
    differences, sizes = np.array([1, 4, 2, 5]), np.full(4, 10)
    expected = (differences / 10).std(ddof=1) / 2
    assert standard_error(differences, sizes) == pytest.approx(expected)


def test_standard_error_is_what_drawing_participants_gives() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 60, 40)
    differences = rng.integers(-3, 6, 40)
    drawn = rng.integers(0, 40, (20_000, 40))
    ratios = differences[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    assert standard_error(differences, sizes) == pytest.approx(ratios.std(), rel=0.05)


def test_what_gains_with_everybody_is_worth_its_price() -> None:
    right = np.array([[5, 10, 15, 20], [6, 12, 18, 24]])  # two tenths more of each person's
    assert one_standard_error(right, SIZES, np.array([1.0, 100.0])) == (1, 1)


def test_what_gains_with_one_and_loses_with_another_is_not() -> None:
    right = np.array([[5, 10, 15, 20], [5, 4, 22, 22]])
    assert one_standard_error(right, SIZES, np.array([1.0, 2.0])) == (1, 0)


def test_of_equals_the_cheaper_one_is_the_best() -> None:
    right = np.array([[5, 10, 15, 20]] * 3)
    assert one_standard_error(right, SIZES, np.array([3.0, 1.0, 2.0])) == (1, 1)


def test_of_those_within_one_error_the_cheapest_ships_and_of_as_cheap_ones_the_better() -> None:
    right = np.array([[5, 10, 15, 26], [5, 12, 15, 22], [7, 7, 15, 24], [7, 7, 15, 25]])
    assert one_standard_error(right, SIZES, np.array([9.0, 5.0, 2.0, 2.0])) == (0, 3)


@pytest.mark.parametrize("prefer", ["cheapest", "accuracy"])
def test_what_ships_fits_and_is_within_one_error_of_the_best(priced: PricedPool, prefer: str) -> None:
    score, room = accuracy_of(priced), priced.room(Budget(size=9e6))
    found = preferred(priced, score, room, prefer)
    assert (found.capacity <= room).all()
    counts = baselines.ours(score, priced.costs, found.capacity)
    assert counts.any()
    assert (priced.costs[counts > 0].sum(axis=0) <= room).all()
    if prefer == "accuracy":
        assert found.best is None
    people = len(np.unique(priced.pool.validation.participants))
    ships, largest = rotated(priced, score, [baselines.ours], [found.capacity, room], people)[0].sum(axis=1)
    if found.best is not None:
        assert 0 < found.best.gain <= found.best.error
        assert dict(priced.total(counts))["members"] <= found.best.cost["members"]
    elif prefer == "accuracy":
        assert ships >= largest


def test_with_one_participant_nobody_can_tell_and_the_whole_room_is_used(priced: PricedPool) -> None:
    priced.pool.validation.participants[:] = 7
    room = priced.room(Budget(size=9e6))
    found = preferred(priced, accuracy_of(priced), room, "cheapest")
    assert found.best is None
    np.testing.assert_array_equal(found.capacity, room)


def test_a_room_that_nothing_fits_is_refused(priced: PricedPool) -> None:
    with pytest.raises(UnaffordableError):
        preferred(priced, accuracy_of(priced), priced.room(Budget(size=1.0)), "cheapest")
