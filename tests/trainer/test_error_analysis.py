"""Error analysis, against values worked by hand."""

import numpy as np
import pytest

from trainer.error_analysis import (
    Confusion,
    Group,
    by_group,
    calibration,
    confusions,
    missed_by_all,
    mixed,
    taken_for,
)

# Six sequences of three signs; the likeliest signs are 0 1 1 2 0 0.
LABELS = np.array([0, 0, 1, 2, 2, 2])
PROBS = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.2, 0.8, 0.0],
        [0.3, 0.6, 0.1],
        [0.1, 0.3, 0.6],
        [0.5, 0.1, 0.4],
        [0.8, 0.1, 0.1],
    ]
)
NAMED = PROBS.argmax(axis=1)


def test_members_are_averaged_by_their_counts() -> None:
    one, other = np.array([[1.0, 0.0]], np.float16), np.array([[0.0, 1.0]], np.float16)
    assert mixed([one, other], [3, 1]).tolist() == [[0.75, 0.25]]
    assert mixed([one], [2]).dtype == np.float64


def test_many_float16_members_lose_nothing() -> None:
    probs = np.full((1, 2), 0.5, np.float16)
    assert mixed([probs] * 5000, [1] * 5000).tolist() == [[0.5, 0.5]]


def test_groups_come_the_least_accurate_first_and_of_equal_ones_the_largest() -> None:
    assert by_group(NAMED == LABELS, LABELS) == [Group(2, 3, 1), Group(0, 2, 1), Group(1, 1, 1)]
    right = np.array([True, False, True, False, True, False])
    assert by_group(right, np.array([7, 7, 5, 5, 5, 5])) == [Group(5, 4, 2), Group(7, 2, 1)]
    assert Group(5, 4, 3).accuracy == 0.75


def test_confusions_are_counted_by_true_and_named_sign() -> None:
    pairs = confusions(LABELS, NAMED)
    assert pairs == [Confusion(2, 0, 2), Confusion(0, 1, 1)]
    assert taken_for([*pairs, Confusion(2, 1, 1)]) == {
        2: [Confusion(2, 0, 2), Confusion(2, 1, 1)],
        0: [Confusion(0, 1, 1)],
    }
    assert confusions(LABELS, LABELS) == []


def test_what_every_member_gets_wrong() -> None:
    other = np.eye(3)[[0, 0, 1, 2, 2, 1]]
    assert missed_by_all([PROBS], LABELS).tolist() == [1, 4, 5]
    assert missed_by_all([PROBS, other], LABELS).tolist() == [5]


def test_calibration_by_hand() -> None:
    found = calibration(PROBS, LABELS, bins=5)  # confidences .9 | .8 .6 | .6 .5 | .8
    assert found.counts.tolist() == [0, 0, 3, 2, 1]  # .6 and .8 are the upper edges of their bins
    np.testing.assert_allclose(found.confidence, [np.nan, np.nan, 1.7 / 3, 0.8, 0.9])
    np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, 2 / 3, 0, 1])
    assert found.error == pytest.approx((3 * (2 / 3 - 1.7 / 3) + 2 * 0.8 + 0.1) / 6)
    assert found.mean_confidence == pytest.approx(4.2 / 6)


def test_calibration_at_the_ends() -> None:
    found = calibration(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), np.array([0, 1, 1]), bins=2)
    assert found.counts.tolist() == [1, 2]
    assert found.error == pytest.approx((2 * 0.5 + 0) / 3)
    assert len(calibration(PROBS, LABELS).counts) == 15


def test_ill_shaped_arrays_raise() -> None:
    for members, counts in (([], []), ([PROBS], [1, 1]), ([PROBS], [0]), ([PROBS, PROBS[:2]], [1, 1])):
        with pytest.raises(ValueError, match="expected"):
            mixed(members, counts)
    with pytest.raises(ValueError, match=r"not \(6,\) and \(5,\)"):
        by_group(NAMED == LABELS, LABELS[1:])
    with pytest.raises(ValueError, match=r"not \(5,\) and \(6,\)"):
        confusions(LABELS[1:], NAMED)
    with pytest.raises(ValueError, match=r"not \(0, 3\) and \(0,\)"):
        calibration(PROBS[:0], LABELS[:0])
