"""Successive halving that pauses trials."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.decide.halving import FEWEST, SuccessiveHalving
from search.decide.stopping import Decision


def _pauses(halving: SuccessiveHalving, number: int, epoch: int, value: float) -> bool:
    return halving.decide(number, epoch, value) is Decision.PAUSE


def _search(epochs: int, values: list[list[float]], concurrent: int, seed: int = 0) -> dict[int, int]:
    """Play a search in which trial n has ``values[n]``; the epochs that each did."""
    halving = SuccessiveHalving(epochs, len(values))
    order = random.Random(seed)
    done = dict.fromkeys(range(len(values)), 0)
    running: list[int] = []
    started = 0
    while True:
        halving.give_up()
        while len(running) < concurrent:
            number = halving.resume(all_started=started == len(values))
            if number is None and started < len(values):
                number, started = started, started + 1
            if number is None:
                break
            running.append(number)
        if not running:
            return done
        number = order.choice(running)
        done[number] += 1
        epoch = done[number]
        if epoch == epochs or _pauses(halving, number, epoch, values[number][epoch - 1]):
            running.remove(number)


def test_the_best_of_each_rung_go_on() -> None:
    values = [[number / 100.0] * 27 for number in range(64)]
    random.Random(1).shuffle(values)
    done = _search(27, values, concurrent=2)
    ranks = sorted(done, key=lambda number: -values[number][0])
    assert all(done[number] == 27 for number in ranks[:4])
    assert {done[number] for number in ranks} == {1, 3, 27}
    at_second = sum(epochs >= 3 for epochs in done.values())
    assert 16 <= at_second <= 16 + 8  # those that went on early, before better ones had come
    assert sum(epochs == 27 for epochs in done.values()) < 12


def test_nobody_goes_on_before_enough_have_come_and_the_best_of_those_does() -> None:
    halving = SuccessiveHalving(27, 64)
    for number, value in enumerate([0.3, 0.5, 0.4]):
        assert _pauses(halving, number, 1, value)
        assert halving.resume(all_started=False) is None
    assert _pauses(halving, 3, 1, 0.2)
    assert halving.resume(all_started=False) == 1
    assert not _pauses(halving, 1, 2, 0.1)  # no rung
    assert halving.resume(all_started=False) is None
    assert halving.give_up() == []


def test_who_cannot_be_among_the_best_any_more_is_given_up_and_a_failure_makes_room() -> None:
    halving = SuccessiveHalving(9, 8)
    for number in range(FEWEST):
        halving.decide(number, 1, 0.5)
    halving.decide(4, 1, 0.5)  # the later of two equals
    assert halving.give_up() == [4]
    halving.decide(5, 1, 0.6)
    assert halving.give_up() == [3]
    assert halving.resume(all_started=True) == 5
    halving.forget(5)
    halving.decide(6, 1, 0.4)
    assert halving.give_up() == [6]  # 0, 1, 2, and 3, which is gone, are before it


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, set()), (2, {1}), (8, {1}), (12, {2}), (26, {3}), (27, {1, 3}), (30, {2, 4}), (100, {4, 12})],
)
def test_rungs_come_after_a_27th_and_a_ninth_of_the_epochs(epochs: int, rungs: set[int]) -> None:
    halving = SuccessiveHalving(epochs, 64)
    assert {epoch for epoch in range(1, epochs) if _pauses(halving, 0, epoch, 0.5)} == rungs


@pytest.mark.parametrize("num_trials", [1, 3, FEWEST])
def test_a_search_of_few_trials_stops_none(num_trials: int) -> None:
    assert set(_search(9, [[0.1 * n] * 9 for n in range(num_trials)], 2).values()) == {9}


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 5), st.integers(0, 1000))
def test_every_trial_ends_and_enough_of_them_at_the_last_epoch(
    num_trials: int, epochs: int, concurrent: int, seed: int
) -> None:
    source = random.Random(seed)
    values = [[source.random() for _ in range(epochs)] for _ in range(num_trials)]
    done = _search(epochs, values, concurrent, seed)
    assert min(done.values()) >= 1
    assert sum(value == epochs for value in done.values()) >= min(num_trials, FEWEST)


def test_epochs_are_foreseen() -> None:
    halving = SuccessiveHalving(30, 64)
    planned = 64 * 2 + 16 * (4 - 2) + 5 * (30 - 4)
    assert halving.foresee([]) == planned
    assert halving.foresee([4] * 5 + [2] * 30) == planned
    went, after = 7 + int(57 * (7 + 16 / 4) / (7 + 16)), 7 + int(27 * (7 + 16 / 3) / (7 + 16))
    assert (went, after) == (34, 21)  # as 7 of 7 went on, more of those to come will than one in four
    assert halving.foresee([30] * 7) == 64 * 2 + went * 2 + after * (30 - 4)
    assert halving.foresee([0] * 60, num_failed=60) == 4 * 30
    assert SuccessiveHalving(1, 10).foresee([]) == 10


@given(st.integers(1, 64), st.integers(1, 30), st.integers(0, 100))
def test_at_the_end_of_a_search_no_more_epochs_are_foreseen_than_it_took(
    num_trials: int, epochs: int, seed: int
) -> None:
    source = random.Random(seed)
    done = _search(epochs, [[source.random() for _ in range(epochs)] for _ in range(num_trials)], 2, seed)
    assert SuccessiveHalving(epochs, num_trials).foresee(done.values()) == sum(done.values())


def test_restored_it_decides_as_before() -> None:
    source = random.Random(2)
    first = SuccessiveHalving(27, 20)
    known: dict[int, dict[int, float]] = {}
    waits: dict[int, int | None] = {}
    for number in range(20):
        value = source.random()
        first.decide(number, 1, value)
        known[number], waits[number] = {1: value}, 1
        if (resumed := first.resume(all_started=False)) is not None:
            later = source.random()
            known[resumed] |= {2: 0.0, 3: later}
            waits[resumed] = 3 if _pauses(first, resumed, 3, later) else None
    second = SuccessiveHalving(27, 20)
    for number, values in known.items():
        second.restore(number, values, waits[number])
    assert first.give_up() == second.give_up()
    for _ in range(12):
        resumed = first.resume(all_started=True)
        assert resumed == second.resume(all_started=True)
    assert resumed is None


def test_rungs_do_not_come_before_training_tells() -> None:
    halving = SuccessiveHalving(27, 64)
    assert not halving.wait_until(1)
    assert halving.wait_until(2)
    assert {epoch for epoch in range(1, 27) if _pauses(halving, 0, epoch, 0.5)} == {2, 3}
    halving = SuccessiveHalving(27, 64)
    assert halving.wait_until(10)
    for number in range(24):  # one rung for both: one in twelve goes on
        assert _pauses(halving, number, 10, 0.01 * number)
    assert [halving.resume(all_started=False) for _ in range(3)] == [23, 22, None]
    assert halving.foresee([]) == 64 * 10 + 5 * 17
    halving = SuccessiveHalving(27, 64)
    assert halving.wait_until(27)
    assert not any(_pauses(halving, 0, epoch, 0.5) for epoch in range(1, 27))
