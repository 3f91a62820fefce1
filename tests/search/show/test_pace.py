"""The time left, from seconds that a test sets."""

from collections.abc import Callable, Collection

import pytest

from search.decide.halving import SuccessiveHalving
from search.show.live_trial import LiveTrial
from search.show.pace import Pace, in_words


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _epoch(pace: Pace, trial: LiveTrial, clock: _Clock, at: float) -> None:
    clock.now = at
    pace.end(trial, 0.0)
    trial.epoch += 1
    pace.begin(trial)


def test_trials_side_by_side_take_as_long_as_they_do() -> None:
    clock = _Clock()
    pace = Pace(4, lambda *_: 20, clock)
    trials = [LiveTrial(number, {}, 10) for number in range(2)]
    clock.now = 50.0  # workers come up late, and that is not counted
    for trial in trials:
        pace.begin(trial)
    assert pace.left() is None
    _epoch(pace, trials[0], clock, 60.0)
    _epoch(pace, trials[1], clock, 60.0)
    pace.estimate(trials, 20, 2)
    assert pace.left() == pytest.approx(90.0)  # 18 epochs of 10 s, two at a time


def test_between_events_the_time_left_counts_down_and_ends_at_zero() -> None:
    clock = _Clock()
    pace = Pace(4, lambda *_: 4, clock)
    trial = LiveTrial(0, {}, 4)
    pace.begin(trial)
    _epoch(pace, trial, clock, 10.0)
    pace.estimate([trial], 4, 1)
    left = []
    for clock.now in (10.0, 15.0, 39.0, 41.0, 500.0):
        left.append(pace.left())
    assert left == pytest.approx([30.0, 25.0, 1.0, 0.0, 0.0])


def test_an_epoch_in_progress_counts_as_far_as_it_is() -> None:
    clock = _Clock()
    pace = Pace(4, lambda *_: 8, clock)
    trials = [LiveTrial(number, {}, 4) for number in range(2)]
    pace.begin(trials[0])
    pace.begin(trials[1])
    _epoch(pace, trials[0], clock, 10.0)
    pace.estimate(trials, 8, 1)  # of 7 epochs 10 of 70 s are done, by two workers
    assert pace.left() == pytest.approx(30.0)


def test_trials_that_were_let_through_take_what_they_took() -> None:
    clock = _Clock()
    pace = Pace(3, lambda *_: 14, clock)
    other, slow = LiveTrial(0, {}, 10), LiveTrial(1, {}, 10, was_let_through=True)
    pace.begin(other)
    _epoch(pace, other, clock, 2.0)
    pace.begin(slow)
    _epoch(pace, slow, clock, 18.0)
    pace.estimate([slow], 14, 2)
    # one after the other: of 12 epochs left 9 take 16 s, the others the mean of 2 and 16, of which the last counts more
    assert pace.left() == pytest.approx(9 * 16 + 3 * (0.99 * 2 + 16) / 1.99)


def test_epochs_to_come_take_as_long_as_late_ones() -> None:
    clock = _Clock()
    pace = Pace(4, lambda *_: 1000, clock)
    for seconds, count in ((1.0, 300), (10.0, 300)):
        for _ in range(count):
            trial = LiveTrial(0, {}, 10)
            pace.begin(trial)
            _epoch(pace, trial, clock, clock.now + seconds)
    pace.estimate([], 1000, 600)
    assert pace.left() == pytest.approx(400 * 10, rel=0.05)


@pytest.mark.parametrize(
    ("foresee", "total"),
    [
        (SuccessiveHalving(30, 64).foresee, 352),
        (lambda *_: None, 8 + 61 * 3),  # 3 epochs each, as those that ended, but for one that failed
    ],
)
def test_epochs_of_the_whole_search_are_foreseen_or_guessed(
    foresee: Callable[[Collection[int], int], int | None], total: int
) -> None:
    pace = Pace(64, foresee)
    assert pace.total_epochs([3, 3, 2], [3, 3], [], 0 if total == 352 else 1) == total


def test_without_a_trial_that_ended_each_takes_all_its_epochs() -> None:
    assert Pace(4, lambda *_: None).total_epochs([2], [], [LiveTrial(0, {}, 30, 2)], 0) == 120


def test_before_the_first_epoch_ends_the_time_that_it_takes_is_the_least() -> None:
    clock = _Clock()
    pace = Pace(4, lambda *_: None, clock)
    trial = LiveTrial(0, {}, 30)
    pace.begin(trial)
    clock.now = 120.0
    assert pace.at_least([trial], 100, 2) == 6000.0


def test_durations_are_told_as_exactly_as_they_are_known() -> None:
    assert [in_words(seconds) for seconds in (10, 620, 5399, 5400, 129_600)] == [
        *("1 minutes", "10 minutes", "90 minutes", "1.5 hours", "1.5 days")
    ]
