"""Positions of landmarks among the 85, against the rows they stand for and against the shape of real faces."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data import positions
from trainer.data.contest import read_train_csv
from trainer.data.landmark_files import read_landmarks
from trainer.data.normalize import normalize
from trainer.landmarks import ROWS


def test_groups_are_positions_of_their_rows() -> None:
    groups = (positions.FACE, positions.LEFT_HAND, positions.POSE, positions.RIGHT_HAND)
    assert sorted(np.concatenate(groups)) == list(range(85))
    rows = np.array(ROWS)
    assert rows[positions.LEFT_HAND].tolist() == list(range(468, 489))
    assert rows[positions.RIGHT_HAND].tolist() == list(range(522, 543))
    assert rows[positions.HEAD].tolist() == [*rows[positions.FACE], *range(489, 500)]


def test_a_hand_mirrors_into_the_other_index_by_index() -> None:
    np.testing.assert_array_equal(positions.MIRROR[positions.LEFT_HAND], positions.RIGHT_HAND)


def test_a_real_face_mirrored_lies_on_itself(real_sample: Path) -> None:
    """Laid on the mean real face, its mirror image has every landmark nearest to the one of its own number.

    The lips' 95-324 and 191-415, which the recipe's author had crossed, are a hundredth of the face apart.
    """
    paths = [real_sample / entry.path for entry in read_train_csv(real_sample)[::4]]
    points = np.concatenate([normalize(read_landmarks(path)) for path in paths])
    face = points[points[:, positions.FACE[0], 0] != 0].mean(axis=0)
    image = (face[positions.MIRROR] * [-1, 1])[positions.FACE]
    face = face[positions.FACE]
    face, image = face - face.mean(axis=0), image - image.mean(axis=0)
    left, _, right = np.linalg.svd(image.T @ face)
    distance = np.linalg.norm((image @ left @ right)[:, None] - face, axis=-1)
    np.testing.assert_array_equal(distance.argmin(axis=1), np.arange(len(face)))


def test_positions_refuses_a_row_that_is_not_used() -> None:
    np.testing.assert_array_equal(positions.positions((522, 13)), [64, 0])
    with pytest.raises(KeyError):
        positions.positions((0,))
