"""One sequence of raw landmarks -> what a model sees: 85 points, head at the origin, missing as zero.

Used when packing, and as the reference that an exported model's own preprocessing is checked against.
"""

import functools
from collections.abc import Callable

import numpy as np

from trainer.data.positions import HEAD
from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

_ROWS = np.array(ROWS)


def pick_landmarks(raw: np.ndarray) -> np.ndarray:
    """The x and y of the 85 used landmarks: [n, 543, 2 or 3] -> float32 [n, 85, 2]."""
    if raw.ndim != 3 or raw.shape[1] != NUM_ROWS or raw.shape[2] < 2:
        raise ValueError(f"raw landmarks must have shape [n, {NUM_ROWS}, 2 or 3], not {list(raw.shape)}")
    return raw[:, _ROWS, :2].astype(np.float32)


def normalize(points: np.ndarray) -> np.ndarray:
    """Centre a sequence on its head: float32 [n, 85, 2], NaN where missing -> float32 [n, 85, 2], 0 where missing.

    One offset a sequence, the mean over all frames of the head points that are present (26 face points
    and pose 489-499), is subtracted from every point; nothing is scaled. A sequence with no head point at
    all keeps its coordinates. A point is missing when either coordinate is NaN. The input is left as it is.
    """
    if points.ndim != 3 or points.shape[1:] != (NUM_LANDMARKS, 2) or points.dtype != np.float32:
        raise ValueError(f"points must be float32 [n, {NUM_LANDMARKS}, 2], not {points.dtype} {list(points.shape)}")
    centred = np.empty_like(points)
    _compiled_centre()(points, HEAD, centred)
    return centred


@functools.cache
def _compiled_centre() -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    from trainer.common.jit import njit  # not at the top: it imports numba, and not every command normalises

    return njit(_centre)


def _centre(points: np.ndarray, head: np.ndarray, centred: np.ndarray) -> None:
    """Centre float32 points [n, k, 2], NaN where missing, on the mean of the points ``head`` int64 [h] of all frames.

    Fills ``centred``, of the same shape, with 0 where one is missing. Without any head point nothing is moved.
    """
    x = y = 0.0
    count = 0
    for frame in points:
        for landmark in head:
            if not (np.isnan(frame[landmark, 0]) or np.isnan(frame[landmark, 1])):
                x += frame[landmark, 0]
                y += frame[landmark, 1]
                count += 1
    x_offset, y_offset = np.float32(x / max(count, 1)), np.float32(y / max(count, 1))
    for i, frame in enumerate(points):
        for j, (its_x, its_y) in enumerate(frame):
            if np.isnan(its_x) or np.isnan(its_y):
                centred[i, j, 0] = centred[i, j, 1] = 0
            else:
                centred[i, j, 0] = its_x - x_offset
                centred[i, j, 1] = its_y - y_offset
