"""The rules of others, by what they promise; and that they are held to the same budget."""

import numpy as np
import pytest

from ensemble.selection import baselines, greedy, scores
from tests.ensemble.selection.test_greedy import make_pool

RULES = {**baselines.RIVALS, "single": baselines.single}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_rules_keep_the_budget(rule: str, metric: str):
    for seed in range(6):
        probs, labels, costs = make_pool(seed, 7)
        score = scores.SCORES[metric].of(list(probs), labels)
        capacity = np.maximum(2 * costs.mean(axis=0), costs[0])
        counts = RULES[rule](score, costs, capacity)
        assert counts.sum() >= 1
        assert (costs[counts > 0].sum(axis=0) <= capacity).all()
        with pytest.raises(greedy.UnaffordableError) as caught:
            RULES[rule](score, costs, 0.9 * costs.min(axis=0))
        assert caught.value.cheapest in range(7)


def test_drop_the_weakest_uses_none_of_those_that_it_dropped():
    probs, labels, costs = make_pool(3, 6)
    score = scores.LogLoss.of(list(probs), labels)
    order = np.argsort(score.additions(score.state(np.zeros(6, int))))
    costs[:, :] = 1
    counts = baselines.drop_weakest(score, costs, np.full(2, 3.0))
    assert counts[order[:3]].sum() == 0
    assert counts[order[3:]].sum() >= 1


def test_top_k_is_the_best_of_its_prefixes():
    probs, labels, costs = make_pool(4, 6)
    score = scores.LogLoss.of(list(probs), labels)
    order = np.argsort(-score.additions(score.state(np.zeros(6, int))))
    values = []
    for k in range(1, 7):
        counts = np.isin(np.arange(6), order[:k]).astype(int)
        values.append(score.value(score.state(counts)))
    found = baselines.top_k(score, costs, np.full(2, np.inf))
    assert found.max() == 1
    assert score.value(score.state(found)) == max(values)


def test_weighted_without_a_limit_is_at_least_the_best_single():
    probs, labels, costs = make_pool(5, 6)
    score = scores.LogLoss.of(list(probs), labels)
    counts = baselines.weighted(score, costs, np.full(2, np.inf))
    singles = score.additions(score.state(np.zeros(6, int)))
    assert score.value(score.state(counts)) >= singles.max()
