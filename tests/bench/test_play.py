"""How searches are played and what is recommended, with trials whose values are written down."""

import math
from typing import Any

import numpy as np

from tests.bench.curves import EPOCHS
from tests.bench.play import CONCURRENT, Log, play
from tests.bench.problems import Problem, Training


class Written(Problem):
    """Trial n always has the n-th of some accuracies; its worth is n."""

    optimum = 10.0
    shows_regret = True

    def __init__(self, *accuracies: float) -> None:
        self._accuracies = accuracies

    def train(self, params: dict[str, Any], seed: int, number: int) -> Training:  # noqa: ARG002
        return Training(np.full(EPOCHS, self._accuracies[number]), float(number), 2.0)


class Plan:
    """Hands out (number, until) in the order given, and stops trials after some epoch."""

    def __init__(self, *handed: tuple[int, int], stops: dict[int, int] | None = None) -> None:
        self._handed, self._stops = list(handed), stops or {}
        self.told: list[tuple[int, int]] = []

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        if not self._handed:
            return None
        number, until = self._handed.pop(0)
        return number, {}, until

    def report(self, number: int, epoch: int, accuracy: float) -> bool:  # noqa: ARG002
        self.told.append((number, epoch))
        return epoch != self._stops.get(number)


def test_four_trials_are_trained_at_a_time_an_epoch_of_each_in_turns() -> None:
    plan = Plan(*((number, 2) for number in range(6)))
    log = play(plan, Written(*range(6)), seed=0)
    assert plan.told[: 2 * CONCURRENT] == [(number, epoch) for epoch in (1, 2) for number in range(4)]
    assert plan.told[2 * CONCURRENT :] == [(4, 1), (5, 1), (4, 2), (5, 2)]
    assert (log.epochs, log.trials, log.seconds) == (12, 6, 24.0)


def test_a_trial_that_goes_on_costs_its_further_epochs_only() -> None:
    plan = Plan((0, 1), (1, 1), (2, 1), (3, 1), (0, 3))
    log = play(plan, Written(*range(4)), seed=0)
    assert plan.told == [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2), (0, 3)]
    assert (log.epochs, log.trials) == (6, 4)


def test_a_trial_that_is_stopped_gives_its_place_to_the_next() -> None:
    plan = Plan((0, EPOCHS), (1, 1), (2, 1), (3, 1), (4, 1), stops={0: 1})
    assert play(plan, Written(*range(5)), seed=0).epochs == 5


def test_recommended_is_the_best_last_accuracy_among_the_deepest() -> None:
    # Trial 0 is the best at epoch 1; 2 then gets deeper, and 3 as deep and better; 1 is deeper yet and worse.
    log = play(Plan((0, 1), (2, 2), (3, 2), (1, 3)), Written(0.9, 0.1, 0.3, 0.4), seed=0)
    assert [(epochs, worth) for epochs, _, worth in log.steps] == [(1, 0.0), (5, 2.0), (6, 3.0), (8, 1.0)]
    assert log.returned == 0.0  # complete or not, deep or not


def test_a_search_ends_with_its_budget_in_the_midst_of_a_round() -> None:
    log = play(Plan(*((number, EPOCHS) for number in range(4))), Written(*range(4)), seed=0, budget=6)
    assert log.epochs == 6


def test_a_complete_trial_counts_as_such_only_after_its_last_epoch() -> None:
    log = play(Plan((0, EPOCHS), (1, EPOCHS - 1), (2, EPOCHS)), Written(0.2, 0.9, 0.1), seed=0)
    assert log.complete == [(3 * EPOCHS - 2, 0.0)]  # 2 comes an epoch later, and is worse


def test_worth_at_a_mark_is_that_of_the_last_step_until_then() -> None:
    log = Log(steps=[(10, 5.0, 0.3), (20, 9.0, 0.2), (30, 12.0, 0.4)], complete=[(25, 0.35)])
    assert [log.worth(mark) for mark in (9, 10, 29, 30, 700)] == [0.0, 0.3, 0.2, 0.4, 0.4]
    assert [log.worth_after(seconds) for seconds in (4.9, 9.0, 100.0)] == [0.0, 0.2, 0.4]
    assert [log.needed(worth) for worth in (0.1, 0.3, 0.35, 0.41)] == [10, 10, 30, math.inf]
    assert [log.needed_complete(worth) for worth in (0.35, 0.36)] == [25, math.inf]
