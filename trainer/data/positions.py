"""Where landmarks lie among the 85 that a model sees: arrays that index the last axis but one of its frames."""

from typing import Final

import numpy as np

from trainer.landmarks import (
    FACE_ROWS,
    GROUP_ROWS,
    HEAD_ROWS,
    LEFT_HAND_ROWS,
    MIRRORED_ROWS,
    NUM_LANDMARKS,
    POSE_ROWS,
    RIGHT_HAND_ROWS,
    ROWS,
)


def positions(rows: tuple[int, ...]) -> np.ndarray:
    """Positions among the 85 of the given rows of a frame: int64 [len(rows)]."""
    place = {row: position for position, row in enumerate(ROWS)}
    return np.array([place[row] for row in rows], dtype=np.int64)


def _mirror() -> np.ndarray:
    mirror = np.arange(NUM_LANDMARKS)
    for left, right in MIRRORED_ROWS:
        i, j = positions((left, right))
        mirror[i], mirror[j] = j, i
    return mirror


LEFT_HAND: Final = positions(LEFT_HAND_ROWS)
RIGHT_HAND: Final = positions(RIGHT_HAND_ROWS)
FACE: Final = positions(FACE_ROWS)
POSE: Final = positions(POSE_ROWS)
HEAD: Final = positions(HEAD_ROWS)
MIRROR: Final = _mirror()  # frames[:, MIRROR] is the mirror image's landmark order
GROUPS: Final = tuple(positions(rows) for rows in GROUP_ROWS)
