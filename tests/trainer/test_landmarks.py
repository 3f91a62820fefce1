"""Landmarks against the written facts of the recipe."""

from trainer import landmarks
from trainer.landmarks import ROWS


def test_the_85_landmarks_are_those_of_the_recipe() -> None:
    face = "13 14 33 81 95 133 145 154 157 159 161 163 178 191 263 311 324 362 374 381 384 386 388 390 402 415"
    expected = [*map(int, face.split()), *range(468, 489), *range(489, 506), *range(522, 543)]
    assert list(ROWS) == expected
    assert landmarks.NUM_LANDMARKS == len(expected) == 85
    assert landmarks.NUM_ROWS == 468 + 21 + 33 + 21
    assert set(landmarks.LIP_ROWS) < set(landmarks.FACE_ROWS)
