"""Scores of ensembles, against straightforward sums."""

import numpy as np
import pytest

from ensemble.selection import scores
from tests.ensemble.selection.test_greedy import METRICS, make_pool, reference_score


def test_accuracy_is_exact_where_float32_sums_would_round():
    """Two candidates that cancel exactly, plus the least that a float16 can tip the scales by."""
    tip = np.float16(2**-24)
    probs = np.array([[[0.75, 0.25]], [[0.25, 0.75]], [[0.5, 0.5]]], np.float16)
    score = scores.Accuracy.of(list(probs), np.array([0]))
    assert score.additions(score.state(np.array([1, 0, 0]))).tolist() == [1, 0, 1]
    probs[1, 0] = np.array([tip, 0.5])
    score = scores.Accuracy.of(list(probs), np.array([0]))
    assert score.additions(score.state(np.array([1, 0, 0]))).tolist() == [1, 1, 1]


@pytest.mark.parametrize("metric", METRICS)
def test_additions_are_the_scores_of_grown_ensembles(metric: str):
    probs, labels, _ = make_pool(3, 7)
    score = scores.SCORES[metric].of(list(probs), labels)
    for counts in np.random.default_rng(0).integers(0, 4, (20, 7)):
        found = score.additions(score.state(counts))
        expected = [reference_score(metric, probs, labels, counts + step) for step in np.eye(7, dtype=int)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_ensembles_grow_and_shrink_without_rounding(metric: str):
    probs, labels, _ = make_pool(3, 7)
    score = scores.SCORES[metric].of(list(probs), labels)
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 4, 7)
    state = score.state(counts)
    for k, wanted in zip(rng.integers(0, 7, 50).tolist(), rng.integers(0, 30, 50).tolist(), strict=True):
        state = score.grown(state, k, wanted - int(counts[k]))
        counts[k] = wanted
        expected = score.state(counts)
        assert state.size == expected.size
        np.testing.assert_array_equal(state.total, expected.total)


@pytest.mark.parametrize("metric", METRICS)
def test_a_score_on_some_sequences_is_that_of_a_pool_of_these(metric: str):
    probs, labels, _ = make_pool(5, 4)
    rows = np.arange(0, len(labels), 3)
    part = scores.SCORES[metric].of(list(probs), labels).on(rows)
    counts = np.array([1, 0, 2, 1])
    assert part.exact(counts) == pytest.approx(reference_score(metric, probs[:, rows], labels[rows], counts), abs=1e-6)


def test_every_metric_says_its_formula():
    assert set(scores.MEASURES) == set(scores.SCORES)
