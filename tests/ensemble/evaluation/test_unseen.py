"""Intervals over participants, and what is said of them."""

import dataclasses

import numpy as np
import pytest

from ensemble.evaluation.unseen import Unseen, resampled, verdict


def test_intervals_come_from_participants_not_sequences():
    """Two signers who differ: an interval as wide as they are apart, however many sequences each has."""
    right, sizes = np.array([[900, 500]]), np.array([1000, 1000])
    drawn = resampled(right, sizes)[0]
    assert set(drawn.round(6)) == {0.5, 0.7, 0.9}
    assert drawn.mean() == pytest.approx(0.7, abs=0.01)


def test_participants_weigh_as_many_sequences_as_they_have():
    drawn = resampled(np.array([[10, 0]]), np.array([10, 30]))[0]
    assert set(drawn.round(6)) == {0.0, 0.25, 1.0}


@pytest.mark.parametrize(
    ("low", "high", "as_good", "words"),
    [
        (-0.02, -0.01, True, "a single model is better"),
        (-0.01, 0.04, True, "a single model is as good"),
        (0.0, 0.04, True, "a single model is as good"),
        (0.001, 0.04, False, "the ensemble beats"),
    ],
)
def test_says_where_a_single_model_is_as_good(low: float, high: float, as_good: bool, words: str):
    unseen = Unseen(
        ensemble=0.92,
        single=0.9,
        participants=8,
        ensemble_interval=(0.9, 0.94),
        single_interval=(0.88, 0.92),
        gain_interval=(low, high),
    )
    assert unseen.single_is_as_good is as_good
    said = verdict(unseen, 3, "40MB,1model")
    assert words in said
    assert "+0.0200" in said
    assert ("--budget 40MB,1model" in said) is as_good
    of_few = dataclasses.replace(unseen, participants=3)
    assert of_few.single_is_as_good is None
    assert verdict(of_few, 3, "40MB,1model").startswith("3 participants are too few")
