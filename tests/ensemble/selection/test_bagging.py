"""Bagging: drawings of whole participants, and ensembles that keep the budget."""

import numpy as np
import pytest

from ensemble.selection import bagging, greedy, scores
from ensemble.selection.bagging import ByParticipant
from tests.ensemble.selection.test_greedy import METRICS, make_pool

PARTICIPANTS = np.arange(150) // 30


@pytest.mark.parametrize("metric", METRICS)
def test_keeps_the_budget(metric: str):
    for seed in range(4):
        probs, labels, costs = make_pool(seed, 7)
        objective = ByParticipant(scores.OBJECTIVES[metric].of(list(probs), labels), PARTICIPANTS)
        capacity = np.maximum(2 * costs.mean(axis=0), costs[0])
        counts = bagging.select(objective, costs, capacity, bags=4)
        assert counts.sum() >= 1
        assert (costs[counts > 0].sum(axis=0) <= capacity).all()
        with pytest.raises(greedy.UnaffordableError):
            bagging.select(objective, costs, 0.9 * costs.min(axis=0), bags=4)


def test_a_drawing_is_of_whole_participants_among_those_it_may_see():
    probs, labels, _ = make_pool(0, 3)
    objective = ByParticipant(scores.LogLoss.of(list(probs), labels), PARTICIPANTS)
    allowed = objective.on(np.flatnonzero(PARTICIPANTS != 2))
    one = np.array([1, 0, 0])
    alone = [objective.on(np.flatnonzero(who == PARTICIPANTS)) for who in range(5)]
    values = [each.score(each.state(one)) for each in alone]
    drawn = allowed.draw(np.random.default_rng(0))
    times = np.random.default_rng(0).choice([0, 1, 3, 4], 4)
    assert len(set(times)) < 4  # one of them more than once
    assert drawn.score(drawn.state(one)) == pytest.approx(np.mean([values[who] for who in times]))


def test_all_drawings_of_one_participant_are_the_selection_itself():
    probs, labels, costs = make_pool(2, 6)
    objective = scores.LogLoss.of(list(probs), labels)
    capacity = 2 * costs.mean(axis=0)
    chosen = greedy.select(objective, costs, capacity).counts
    bagged = bagging.select(ByParticipant(objective, np.zeros(150, int)), costs, capacity, bags=3)
    assert ((bagged > 0) == (chosen > 0)).all()
    np.testing.assert_allclose(bagged / bagged.sum(), chosen / chosen.sum(), atol=0.02)
