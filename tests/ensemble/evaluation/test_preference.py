"""The cheapest ensemble that is not measurably worse, and its worth to people that it was not chosen by."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ensemble.budget import Budget, Cost
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation import preference
from ensemble.evaluation.preference import MOST_LOST, Preferred, choose, preferred, standard_error
from ensemble.evaluation.unseen import RIGHT, rotated
from ensemble.selection import baselines
from ensemble.selection.greedy import UnaffordableError
from ensemble.selection.scores import Accuracy, LogLoss
from tests.ensemble.evaluation.conftest import accuracy_of

SIZES = np.array([10, 20, 30, 40])
PEOPLE, EACH = 8, 50


def test_standard_error_is_that_of_means_where_all_have_as_many_sequences() -> None:
    differences, sizes = np.array([1, 4, 2, 5]), np.full(4, 10)
    expected = (differences / 10).std(ddof=1) / 2
    assert standard_error(differences, sizes) == pytest.approx(expected)
    assert standard_error(differences[:1], sizes[:1]) == 0


def test_standard_error_is_what_drawing_participants_gives() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 60, 40)
    differences = rng.integers(-3, 6, 40)
    drawn = rng.integers(0, 40, (20_000, 40))
    ratios = differences[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    assert standard_error(differences, sizes) == pytest.approx(ratios.std(), rel=0.05)


def test_what_gains_with_everybody_is_worth_its_price() -> None:
    right = np.array([[6, 12, 18, 24], [5, 10, 15, 20]])  # a tenth more of each person's
    assert choose(right, SIZES, np.array([100.0, 1.0]), "cheapest") == 0
    assert choose(right, SIZES, np.array([100.0, 1.0]), "accuracy") == 0


def test_what_gains_with_one_and_loses_with_another_is_not() -> None:
    sizes = SIZES * 10
    right = np.array([[50, 98, 152, 201], [50, 100, 150, 200]])  # one sequence in a thousand
    assert choose(right, sizes, np.array([2.0, 1.0]), "cheapest") == 1
    assert choose(right, sizes, np.array([2.0, 1.0]), "accuracy") == 0


def test_no_more_than_half_a_point_is_given_away_however_little_is_known() -> None:
    sizes = np.array([500, 500])
    right = np.array([[250.0, 262.0], [255.0, 250.0]])
    lost = (right[0] - right[1]).sum() / 1000
    assert MOST_LOST < lost < standard_error(right[0] - right[1], sizes)
    assert choose(right, sizes, np.array([2.0, 1.0]), "cheapest") == 0
    right[1] += 1  # now it is within
    assert choose(right, sizes, np.array([2.0, 1.0]), "cheapest") == 1


def test_of_equals_the_cheaper_one_ships() -> None:
    right = np.array([[5, 10, 15, 20]] * 3)
    assert choose(right, SIZES, np.array([3.0, 1.0, 2.0]), "cheapest") == 1


def test_of_those_within_one_error_the_cheapest_ships_and_of_as_cheap_ones_the_better() -> None:
    right = 100 + np.array([[5, 10, 15, 26], [5, 12, 15, 22], [7, 7, 15, 24], [7, 7, 15, 25]])
    assert choose(right, SIZES * 100, np.array([9.0, 5.0, 2.0, 2.0]), "cheapest") == 3


def test_who_prefers_accuracy_gets_another_than_that_for_the_whole_room_if_it_is_measured_to_be_better() -> None:
    whole = np.array([5, 10, 15, 20])
    lucky, better = whole + np.array([0, -1, 4, 2]), whole + np.array([1, 2, 3, 4])
    prices = np.array([3.0, 1.0, 2.0])
    assert choose(np.stack([whole, lucky]), SIZES, prices[:2], "accuracy") == 0
    assert choose(np.stack([whole, lucky, better]), SIZES, prices, "accuracy") == 2


def _pool(*right: np.ndarray, likelihood: tuple[float, ...] | None = None) -> PricedPool:
    """Candidates that name these sequences of PEOPLE rightly, bool [PEOPLE, EACH] each; k + 1 milliseconds each."""
    labels = np.tile(np.arange(EACH) % 5, PEOPLE)
    probs = []
    for k, its in enumerate(right):
        sure = 0.9 if likelihood is None else likelihood[k]
        told = np.where(its.ravel(), labels, (labels + 1) % 5)
        matrix = np.full((len(labels), 5), (1 - sure) / 4)
        matrix[np.arange(len(labels)), told] = sure
        probs.append(matrix.astype(np.float16))
    validation = SimpleNamespace(labels=labels, participants=np.repeat(np.arange(PEOPLE), EACH))
    pool: Any = SimpleNamespace(val_probs=probs, validation=validation)
    costs = np.array([[1e6, 1e6, k + 1.0, 1.0] for k in range(len(right))])
    return PricedPool(pool, Cost(), costs)


def _counts(priced: PricedPool, prefer: str) -> tuple[list[int], Preferred]:
    score = Accuracy.of(priced.pool.val_probs, priced.pool.validation.labels)
    found = preferred(priced, score, priced.room(Budget()), baselines.ours, prefer)
    return baselines.ours(score, priced.costs, found.capacity).tolist(), found


def test_a_dearer_model_that_one_person_gains_by_ships_only_where_accuracy_is_preferred() -> None:
    right = np.random.default_rng(0).random((PEOPLE, EACH)) < 0.8
    luckier = right.copy()
    luckier[3] |= np.arange(EACH) < 10  # two or three sequences more, of this person alone
    luckier[4, np.flatnonzero(right[4])[0]] = False  # and one less of another
    priced = _pool(right, luckier)
    assert 0 < (luckier.sum() - right.sum()) < MOST_LOST * right.size
    counts, found = _counts(priced, "cheapest")
    assert counts == [1, 0]
    assert found.unseen_right is not None
    assert found.unseen_right.tolist() == right.sum(axis=1).tolist()
    counts, _ = _counts(priced, "accuracy")
    assert counts[1] > 0


def test_a_dearer_model_that_everybody_gains_by_ships() -> None:
    right = np.random.default_rng(0).random((PEOPLE, EACH)) < 0.7
    better = right | (np.arange(EACH) % 5 == 0)
    for prefer in ("cheapest", "accuracy"):
        counts, found = _counts(_pool(right, better), prefer)
        assert counts == [0, 1]
        assert found.best is None
        assert found.unseen_right is not None
        assert found.unseen_right.tolist() == better.sum(axis=1).tolist()


def test_rooms_are_judged_by_log_loss_where_that_is_asked_for() -> None:
    right = np.ones((PEOPLE, EACH), bool)
    priced = _pool(right, right, likelihood=(0.5, 0.9))
    score = LogLoss.of(priced.pool.val_probs, priced.pool.validation.labels)
    room = priced.room(Budget())
    found = preferred(priced, score, room, baselines.ours, "cheapest", by_log_loss=True)
    assert baselines.ours(score, priced.costs, found.capacity).tolist() == [0, 1]
    by_accuracy = preferred(priced, score, room, baselines.ours, "cheapest")
    assert baselines.ours(score, priced.costs, by_accuracy.capacity).tolist() == [1, 0]


def test_what_is_reported_of_a_person_is_of_the_room_that_the_others_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rooms: the whole one is better with all but the last person, with whom it is far worse."""
    whole, small = np.full(PEOPLE, 40.0), np.full(PEOPLE, 38.0)
    whole[-1], small[-1] = 10.0, 40.0
    measured = np.stack([np.stack([whole, small])[None], np.zeros((1, 2, PEOPLE))])
    monkeypatch.setattr(preference, "rotated", lambda *_: measured)
    monkeypatch.setattr(preference, "different", lambda *_: ([np.full(4, np.inf), np.ones(4)], [np.eye(2)[0]] * 2))
    priced = _pool(np.ones((PEOPLE, EACH), bool), np.ones((PEOPLE, EACH), bool))
    found = preferred(priced, accuracy_of(priced), priced.room(Budget()), baselines.ours, "cheapest")
    np.testing.assert_array_equal(found.capacity, np.ones(4))  # with all people the small one is ahead
    assert found.unseen_right is not None
    assert found.unseen_right[-1] == 10  # without the last, the whole one
    assert found.unseen_right[:-1].tolist() == [38.0] * (PEOPLE - 1)


@pytest.mark.parametrize("prefer", ["cheapest", "accuracy"])
def test_what_ships_fits_and_is_within_one_error_of_the_best(priced: PricedPool, prefer: str) -> None:
    score, room = accuracy_of(priced), priced.room(Budget(size=9e6))
    found = preferred(priced, score, room, baselines.ours, prefer)
    assert (found.capacity <= room).all()
    counts = baselines.ours(score, priced.costs, found.capacity)
    assert counts.any()
    assert (priced.costs[counts > 0].sum(axis=0) <= room).all()
    if prefer == "accuracy":
        assert found.best is None
    if found.best is not None:
        assert 0 < found.best.gain <= min(found.best.error, MOST_LOST)
        assert dict(priced.total(counts))["members"] <= found.best.cost["members"]


def test_with_one_participant_nobody_can_tell_and_the_whole_room_is_used(priced: PricedPool) -> None:
    priced.pool.validation.participants[:] = 7
    room = priced.room(Budget(size=9e6))
    found = preferred(priced, accuracy_of(priced), room, baselines.ours, "cheapest")
    assert found.best is None
    assert found.unseen_right is None
    np.testing.assert_array_equal(found.capacity, room)


def test_a_room_that_was_not_chosen_by_accuracy_is_judged_without_each_person(priced: PricedPool) -> None:
    score, room = accuracy_of(priced), priced.room(Budget(size=9e6))
    found = Preferred.of_room(priced, score, room, baselines.ours)
    people = len(np.unique(priced.pool.validation.participants))
    expected = rotated(priced, score, [baselines.ours], [room], people)[RIGHT, 0, 0]
    assert found.unseen_right is not None
    np.testing.assert_array_equal(found.unseen_right, expected)


def test_a_room_that_nothing_fits_is_refused(priced: PricedPool) -> None:
    with pytest.raises(UnaffordableError):
        preferred(priced, accuracy_of(priced), priced.room(Budget(size=1.0)), baselines.ours, "cheapest")
