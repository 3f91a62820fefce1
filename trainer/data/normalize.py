"""One sequence of raw landmarks -> what a model sees: 85 points, head at the origin, missing as zero.

Used when packing, and as the reference that an exported model's own preprocessing is checked against.
"""

import numpy as np

from trainer.landmarks import HEAD, NUM_LANDMARKS, NUM_ROWS, ROWS

_ROWS = np.array(ROWS)


def select(raw: np.ndarray) -> np.ndarray:
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
    from trainer.model.loops import centre  # not at the top: it imports numba, and not every command normalises

    centred = np.empty_like(points)
    centre(points, HEAD, centred)
    return centred
