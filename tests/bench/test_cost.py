"""Searches whose epochs cost: what is done when, and that the search sees the problem's costs."""

from typing import Any

import numpy as np
import pytest

from search.decide.observed import Observed
from tests.bench.cost import MARKS, SPAN, Costly, known_costs, play, play_task
from tests.bench.curves import EPOCHS
from tests.bench.test_play import Plan, Written


def _costly(*accuracies: float) -> Costly:
    costs = iter([1.0, 10.0, 1.0, 1.0])
    its = Costly(Written(*accuracies), lambda _: next(costs))
    its.__dict__["mean"] = 1.0
    return its


def test_two_trials_are_trained_at_a_time_each_as_long_as_it_takes() -> None:
    plan = Plan((0, 3), (1, 4), (2, EPOCHS), (3, 1))
    outcome = play(plan, _costly(0.1, 0.9, 0.3, 0.2), seed=0)
    assert plan.told[:4] == [(0, 1), (0, 2), (0, 3), (2, 1)]
    assert plan.told.index((2, 6)) < plan.told.index((1, 1)) < plan.told.index((2, 8)), "after 10 of its time"
    assert plan.told[-2:] == [(3, 1), (1, 4)]
    assert outcome.end == 40.0
    assert outcome.worths == [2.0] * len(MARKS), "what was trained the deepest is recommended"
    assert outcome.last == 2.0


@pytest.mark.parametrize("name", ["hartmann3-good:cheap", "hartmann6-bad:dear", "recorded"])
def test_costs_span_sixtyfold_and_the_search_sees_them(name: str) -> None:
    its = Costly.of(name)
    space = its.problem.space
    observed = Observed(space)
    shares = observed.settled(np.random.default_rng(0).random((300, len(space.distributions))))
    costs: Any = [its.cost(observed.params(row)) for row in shares]
    assert SPAN / 8 < max(costs) / min(costs) <= SPAN * 1.01
    known = known_costs(its.cost)(space, observed)
    np.testing.assert_allclose(known.of_shares(shares), np.log(costs))
    assert known.differ


def test_a_search_that_weighs_costs_finds_what_is_good_and_cheap_earlier() -> None:
    with_costs, without = (play_task(("hartmann6-good:cheap", weighs, 0)) for weighs in (True, False))
    assert with_costs.end < 0.8 * without.end
    assert with_costs.worths[0] > without.worths[0] + 1
    assert with_costs.last > 0.9 * without.last
