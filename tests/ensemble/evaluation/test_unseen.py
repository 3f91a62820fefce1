"""Accuracies on unseen participants, their intervals, and what is said of them."""

import dataclasses
import re

import numpy as np
import pytest
from rich.console import Console

from ensemble.budget import Budget
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation.unseen import (
    LOG_LIKELIHOOD,
    RIGHT,
    Accuracies,
    Unseen,
    how_measured,
    resampled,
    rotated,
    seen_accuracies,
    to_table,
    unseen_accuracies,
    verdict,
)
from ensemble.selection import baselines
from ensemble.selection.scores import Score
from tests.ensemble.evaluation.conftest import accuracy_of


def test_intervals_come_from_participants_not_sequences():
    """Two signers who differ: an interval as wide as they are apart, however many sequences each has."""
    right, sizes = np.array([[900, 500]]), np.array([1000, 1000])
    drawn = resampled(right, sizes)[0]
    assert set(drawn.round(6)) == {0.5, 0.7, 0.9}
    assert drawn.mean() == pytest.approx(0.7, abs=0.01)


def test_participants_weigh_as_many_sequences_as_they_have():
    drawn = resampled(np.array([[10, 0]]), np.array([10, 30]))[0]
    assert set(drawn.round(6)) == {0.0, 0.25, 1.0}


UNSEEN = Unseen(
    ensemble=0.92,
    single=0.9,
    participants=8,
    ensemble_interval=(0.9, 0.94),
    single_interval=(0.88, 0.92),
    gain_interval=(0.001, 0.04),
)


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
    unseen = dataclasses.replace(UNSEEN, gain_interval=(low, high))
    assert unseen.single_is_as_good is as_good
    said = verdict(unseen, 3, "40MB,1model")
    assert words in said
    assert "+0.0200" in said
    assert ("give the budget 40MB,1model" in said) is as_good
    of_few = dataclasses.replace(unseen, participants=3)
    assert of_few.single_is_as_good is None
    assert verdict(of_few, 3, "40MB,1model").startswith("3 participants are too few")


def test_one_model_and_one_participant_have_verdicts_of_their_own():
    assert verdict(UNSEEN, 1, "1model").startswith("a single model ships")
    for members in (1, 3):
        assert verdict(None, members, "1model").startswith("one participant only was held out")


def test_the_table_has_a_line_for_each_that_is_named():
    seen, console = Accuracies(ensemble=0.95, single=0.93), Console(width=80)
    for unseen, cells in ((UNSEEN, "0.9200 0.9000 to 0.9400"), (None, "- -")):
        with console.capture() as capture:
            console.print(to_table(seen, unseen, {"ensemble": "3 models"}))
        printed = [re.sub(" +", " ", line).strip() for line in capture.get().splitlines()]
        assert printed[-1] == f"3 models 0.9500 {cells}"
    table = to_table(seen, UNSEEN, {"ensemble": "3 models", "single": "0007"})
    assert [list(column.cells) for column in table.columns][:2] == [["3 models", "0007"], ["0.9500", "0.9300"]]


def test_few_participants_are_said_to_be_few():
    assert "over the 8 participants" in how_measured(8)
    assert "few" not in how_measured(6)
    assert "few" in how_measured(5)


def test_a_selection_never_sees_the_participant_it_is_measured_on(priced: PricedPool):
    """A rule that picks the first candidate where it sees all but one participant, and else would fail."""
    people = priced.pool.validation.participants
    sizes = {participant: int((people == participant).sum()) for participant in np.unique(people)}
    seen = []

    def rule(score: Score, costs: np.ndarray, _: np.ndarray) -> np.ndarray:
        seen.append(round(len(people) * (1 - score.state(np.zeros(len(costs), np.int64)).total.shape[1] / len(people))))
        return np.eye(len(costs), dtype=np.int64)[0]

    right = rotated(priced, accuracy_of(priced), [rule], [priced.room(Budget())], len(sizes))
    assert sorted(seen) == sorted(sizes.values())  # of each selection one participant's sequences were missing
    probs = priced.pool.candidates[0].val_probs()
    hits = probs.argmax(axis=1) == priced.pool.validation.labels
    assert right[RIGHT, 0, 0].tolist() == [hits[people == participant].sum() for participant in sizes]
    labels = priced.pool.validation.labels
    logs = np.log(probs[np.arange(len(labels)), labels].astype(np.float64))
    expected = [logs[people == participant].sum() for participant in sizes]
    np.testing.assert_allclose(right[LOG_LIKELIHOOD, 0, 0], expected, rtol=1e-5)


def test_unseen_accuracies_need_two_participants(priced: PricedPool):
    score, room = accuracy_of(priced), priced.room(Budget())
    people = priced.pool.validation.participants
    right = np.unique(people, return_counts=True)[1] - 1.0  # all but one of each
    found = unseen_accuracies(priced, score, right, room)
    assert found is not None
    assert found.participants == len(right)
    assert found.ensemble == right.sum() / len(people)
    alone = rotated(priced, score, [baselines.single], [room], len(right))[RIGHT]
    assert found.single == pytest.approx(alone.sum() / len(people))
    assert found.ensemble_interval[0] <= found.ensemble <= found.ensemble_interval[1]
    assert unseen_accuracies(priced, score, None, room) is None
    people[:] = 7
    assert unseen_accuracies(priced, score, right[:1], room) is None


def test_seen_accuracies_are_of_the_counts_and_of_the_best_single(priced: PricedPool):
    everything = priced.room(Budget())
    counts = np.eye(len(priced.costs), dtype=np.int64)[0]
    found = seen_accuracies(priced, accuracy_of(priced), everything, counts)
    assert found.ensemble == priced.pool.candidates[0].val_accuracy
    assert found.single == max(candidate.val_accuracy for candidate in priced.pool.candidates)
