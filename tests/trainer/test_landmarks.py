"""Landmarks against the written facts of the recipe, and against the shape of real faces and bodies."""

from pathlib import Path

import numpy as np

from trainer import landmarks
from trainer.data.contest import read_train_csv
from trainer.data.landmark_files import read_landmarks
from trainer.data.normalize import normalize
from trainer.landmarks import MIRROR, ROWS


def test_the_85_landmarks_are_those_of_the_recipe() -> None:
    face = "13 14 33 81 95 133 145 154 157 159 161 163 178 191 263 311 324 362 374 381 384 386 388 390 402 415"
    expected = [*map(int, face.split()), *range(468, 489), *range(489, 506), *range(522, 543)]
    assert list(ROWS) == expected
    assert landmarks.NUM_LANDMARKS == len(expected) == 85
    assert landmarks.NUM_ROWS == 468 + 21 + 33 + 21


def test_groups_are_positions_of_their_rows() -> None:
    groups = (landmarks.FACE, landmarks.LEFT_HAND, landmarks.POSE, landmarks.RIGHT_HAND)
    assert sorted(np.concatenate(groups)) == list(range(85))
    rows = np.array(ROWS)
    assert rows[landmarks.LEFT_HAND].tolist() == list(range(468, 489))
    assert rows[landmarks.RIGHT_HAND].tolist() == list(range(522, 543))
    assert rows[landmarks.HEAD].tolist() == [*rows[landmarks.FACE], *range(489, 500)]
    assert set(landmarks.LIP_ROWS) < set(landmarks.FACE_ROWS)


def test_a_hand_mirrors_into_the_other_index_by_index() -> None:
    np.testing.assert_array_equal(MIRROR[landmarks.LEFT_HAND], landmarks.RIGHT_HAND)


def test_a_real_face_mirrored_lies_on_itself(real_sample: Path) -> None:
    """Laid on the mean real face, its mirror image has every landmark nearest to the one of its own number.

    The lips' 95-324 and 191-415, which the recipe's author had crossed, are a hundredth of the face apart.
    """
    paths = [real_sample / entry.path for entry in read_train_csv(real_sample)[::4]]
    points = np.concatenate([normalize(read_landmarks(path)) for path in paths])
    face = points[points[:, landmarks.FACE[0], 0] != 0].mean(axis=0)
    image = (face[MIRROR] * [-1, 1])[landmarks.FACE]
    face = face[landmarks.FACE]
    face, image = face - face.mean(axis=0), image - image.mean(axis=0)
    left, _, right = np.linalg.svd(image.T @ face)
    distance = np.linalg.norm((image @ left @ right)[:, None] - face, axis=-1)
    np.testing.assert_array_equal(distance.argmin(axis=1), np.arange(len(face)))


def test_positions_refuses_a_row_that_is_not_used() -> None:
    np.testing.assert_array_equal(landmarks.positions((522, 13)), [64, 0])
