"""What the soak reads of a process, and its trend."""

import os

import pytest

from tests.faults.soak import look_at, trend_of


def test_a_look_at_a_process() -> None:
    before = look_at(os.getpid(), 3)
    with open(os.devnull), open(os.devnull):  # noqa: PTH123
        after = look_at(os.getpid(), 3)
    assert after.files == before.files + 2
    assert 10 < before.megabytes < 100_000
    assert before.threads >= 1
    assert before.trials == 3


def test_the_trend_of_a_number_that_grows_by_two_a_trial() -> None:
    trials = list(range(0, 400, 10))
    trend = trend_of(trials, [100.0 + 2 * count for count in trials])
    assert trend.per_100_trials == pytest.approx(200)
    assert trend.first_quarter == pytest.approx(190)
    assert trend.last_quarter == pytest.approx(790)


def test_a_trend_of_few_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="7 looks are too few"):
        trend_of([1] * 7, [1.0] * 7)
