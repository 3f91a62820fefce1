"""How far a trial is in its epoch, and which trial has shown most."""

import dataclasses

from search.show.live_trial import MOST, LiveTrial, Seen, best_of


def test_progress_within_an_epoch_grows_and_stays_below_the_whole() -> None:
    trial = LiveTrial(0, {}, 4, 1, since=100.0, expected=10.0)
    seen = [trial.fraction(now) for now in (99.0, 100.0, 102.5, 109.0, 109.9, 111.0, 500.0)]
    assert seen == [0.0, 0.0, 0.25, 0.9, 0.99, 0.99, 0.99]
    assert trial.spent(500.0) == MOST * 10.0


def test_nothing_is_said_of_an_epoch_that_did_not_begin_or_is_not_known_to_take_long() -> None:
    trial = LiveTrial(0, {}, 4, 1, since=100.0, expected=10.0)
    for changes in ({"since": None}, {"expected": None}, {"epoch": 4}):
        assert dataclasses.replace(trial, **changes).fraction(105.0) is None


def test_a_trial_has_the_seconds_of_its_own_epochs() -> None:
    assert LiveTrial(0, {}, 4).own_seconds is None
    assert LiveTrial(0, {}, 4, epochs_here=4, seconds_here=10.0).own_seconds == 2.5


def test_the_best_of_a_trial_is_the_first_epoch_of_its_highest_accuracy() -> None:
    seen = Seen(3, {}, "running")
    for epoch, accuracy in enumerate([0.0, 0.4, 0.6, 0.5, 0.6], 1):
        seen.take(accuracy, epoch)
    assert (seen.val_accuracy, seen.epoch) == (0.6, 3)


def test_the_best_trial_is_a_complete_one_where_two_are_equal() -> None:
    trials = [
        Seen(0, {}, "running"),
        Seen(1, {}, "pruned", 0.5, 2),
        Seen(2, {}, "running", 0.6, 3),
        Seen(4, {}, "complete", 0.6, 9),
        Seen(5, {}, "complete", 0.6, 9),
    ]
    assert best_of(trials) is trials[3]
    assert best_of(trials[:2]) is trials[1]
    assert best_of(trials[:1]) is None
