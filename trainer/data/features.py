"""What a model sees of each frame: positions of landmarks and, where its configuration asks for them, more.

All features follow from positions after every augmentation. One that needs a missing landmark is 0, as is motion where
there is no earlier frame. Motion is multiplied by a fixed gain, so that it is about as large as positions are.

Sources: motion at two speeds and joint distances, Yang et al. 2019 (DD-Net, arXiv:1907.09658).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.config import ModelConfig
from trainer.data.positions import positions
from trainer.landmarks import KEY_ROWS, LANDMARK_SETS, LEFT_HAND_ROWS, RIGHT_HAND_ROWS

if TYPE_CHECKING:  # the help of commands asks what can be seen, and must not load torch
    import torch

MOTION_GAIN: Final = 4.0
"""A hand moves by some hundredths of an image's width from a frame to the next"""


@cache
def seen(landmarks: str) -> np.ndarray:
    """Positions, among the 85, of what a model sees that has this set of landmarks: int64 [L]."""
    return positions(LANDMARK_SETS[landmarks])


@cache
def pairs(landmarks: str) -> np.ndarray:
    """Of which landmarks the distances are: int64 [P, 2], positions among the 85."""
    rows = tuple(row for row in KEY_ROWS if row in LANDMARK_SETS[landmarks])
    return np.array(list(combinations(positions(rows).tolist(), 2)), np.int64).reshape(-1, 2)


@cache
def fingers() -> np.ndarray:
    """Each landmark of a hand but its wrist, and the wrist: int64 [40, 2], positions among the 85."""
    hands = (positions(rows) for rows in (LEFT_HAND_ROWS, RIGHT_HAND_ROWS))
    return np.array([(finger, hand[0]) for hand in hands for finger in hand[1:]])


def num_features(config: ModelConfig) -> int:
    """Numbers a frame, F.

    >>> num_features(ModelConfig(motion=1))
    425
    """
    num_landmarks = len(LANDMARK_SETS[config.landmarks])
    motion = 3 * num_landmarks * config.motion
    distances = len(pairs(config.landmarks)) if config.distances else 0
    return 2 * num_landmarks + motion + distances + (2 * len(fingers()) if config.hand_frame else 0)


def features(frames: torch.Tensor, places: torch.Tensor, config: ModelConfig) -> torch.Tensor:
    """What the model sees of frames float32 [n, 85, 2] that are places int64 [n] of their sequences: [n, F].

    In this order, a landmark's x before its y: positions; for each lag of ``config.motion`` velocities, then speeds;
    distances; hands relative to their wrists.
    """
    import torch

    shown = frames if config.landmarks == "all" else _pick(frames, seen(config.landmarks))
    out = frames.new_empty(len(frames), num_features(config))
    end = 2 * shown.shape[1]
    out[:, :end] = shown.flatten(1)
    if config.motion:
        begin, end = end, end + 3 * shown.shape[1] * config.motion
        _fill_motion(out[:, begin:end], shown, places, config.motion)
    if config.distances:
        begin, end = end, end + len(pairs(config.landmarks))
        out[:, begin:end] = torch.linalg.vector_norm(_between(frames, pairs(config.landmarks)), dim=-1)
    if config.hand_frame:
        out[:, end:] = _between(frames, fingers()).flatten(1)
    return out


def _fill_motion(out: torch.Tensor, shown: torch.Tensor, places: torch.Tensor, lags: int) -> None:
    """Fill ``out`` [n, 3 L a lag] with velocities and speeds of landmarks [n, L, 2] over 1 to ``lags`` frames."""
    import torch

    if shown.device.type == "cpu" and shown.dtype == torch.float32 and not shown.requires_grad:
        _compiled_motion()(shown.numpy(), places.numpy(), np.float32(MOTION_GAIN), out.numpy())
        return
    padded = torch.cat((shown.new_zeros(1, *shown.shape[1:]), shown))  # an earlier frame where there is none
    rows = torch.arange(1, len(padded), device=shown.device)
    size, end = out.shape[1] // lags, 2 * shown.shape[1]
    for lag in range(1, lags + 1):
        earlier = torch.where(places >= lag, rows - lag, 0)
        velocity = _difference(shown, padded.index_select(0, earlier)) * MOTION_GAIN
        columns = out[:, (lag - 1) * size : lag * size]
        columns[:, :end] = velocity.flatten(1)
        columns[:, end:] = torch.linalg.vector_norm(velocity, dim=-1)


@cache
def _compiled_motion() -> Callable[[np.ndarray, np.ndarray, np.float32, np.ndarray], None]:
    from trainer.common.jit import njit  # not at the top: it imports numba, which takes half a second

    return njit(_motion)


def _motion(points: np.ndarray, places: np.ndarray, gain: np.float32, out: np.ndarray) -> None:
    """Fill ``out`` [n, 3 L a lag] with motion times ``gain`` of points [n, L, 2]: in one pass, what takes torch many.

    ``places`` int64 [n] are those of the frames in their sequences; all else is float32.
    """
    landmarks = points.shape[1]
    for i in range(len(points)):
        for lag in range(1, out.shape[1] // (3 * landmarks) + 1):
            first = (lag - 1) * 3 * landmarks
            for k in range(landmarks):
                x_moved = y_moved = np.float32(0)
                if places[i] >= lag:
                    x, y = points[i, k]
                    x_before, y_before = points[i - lag, k]
                    if (x != 0 or y != 0) and (x_before != 0 or y_before != 0):
                        x_moved, y_moved = (x - x_before) * gain, (y - y_before) * gain
                out[i, first + 2 * k], out[i, first + 2 * k + 1] = x_moved, y_moved
                out[i, first + 2 * landmarks + k] = np.sqrt(x_moved * x_moved + y_moved * y_moved)


def _between(frames: torch.Tensor, ends: np.ndarray) -> torch.Tensor:
    """From the second to the first landmark of each pair, int64 [P, 2]: [n, 85, 2] -> [n, P, 2]."""
    tips, roots = (_pick(frames, end) for end in ends.T)
    return _difference(tips, roots)


def _pick(frames: torch.Tensor, places: np.ndarray) -> torch.Tensor:
    """Landmarks at these places: [n, 85, 2] -> [n, k, 2]."""
    return frames.index_select(1, _on(frames.device, tuple(places.tolist())))


@cache
def _on(device: torch.device, places: tuple[int, ...]) -> torch.Tensor:
    """Indices that stay on a device: each batch would have to wait for them otherwise."""
    import torch

    with torch.inference_mode(False):  # what is made in that mode cannot be trained with later
        return torch.tensor(places, device=device)


def _difference(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """points - others, [n, k, 2] each, and 0 where either is missing."""
    both = (points != 0).any(-1, keepdim=True) & (others != 0).any(-1, keepdim=True)
    return (points - others) * both
