"""What a model sees of each frame: positions of landmarks and, where its configuration asks for them, more.

All features follow from positions after every augmentation. One that needs a missing landmark is 0, as is motion where
there is no earlier frame. Motion is multiplied by a fixed gain, so that it is about as large as positions are.

Sources: motion at two speeds and joint distances, Yang et al. 2019 (DD-Net, arXiv:1907.09658).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.config import ModelConfig
from trainer.landmarks import (
    KEY_ROWS,
    LANDMARK_SETS,
    LEFT_HAND_ROWS,
    RIGHT_HAND_ROWS,
    positions,
)

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


def features(frames: torch.Tensor, lengths: np.ndarray, config: ModelConfig) -> torch.Tensor:
    """What the model sees: frames float32 [sum of lengths, 85, 2], lengths int64 [batch] -> [sum of lengths, F].

    In this order, a landmark's x before its y: positions; for each lag of ``config.motion`` velocities, then speeds;
    distances; hands relative to their wrists.
    """
    import torch

    rows = torch.from_numpy(seen(config.landmarks)).to(frames.device)
    shown = frames if config.landmarks == "all" else frames.index_select(1, rows)
    parts = [shown.flatten(1)]
    if config.motion:
        padded = torch.cat((shown.new_zeros(1, *shown.shape[1:]), shown))  # an earlier frame where there is none
        begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = np.arange(len(frames))
        for lag in range(1, config.motion + 1):
            earlier = torch.from_numpy(np.where(places - lag >= begins, places - lag + 1, 0)).to(frames.device)
            velocity = _difference(shown, padded.index_select(0, earlier)) * MOTION_GAIN
            parts += [velocity.flatten(1), torch.linalg.vector_norm(velocity, dim=-1)]
    if config.distances:
        parts.append(torch.linalg.vector_norm(_between(frames, pairs(config.landmarks)), dim=-1))
    if config.hand_frame:
        parts.append(_between(frames, fingers()).flatten(1))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _between(frames: torch.Tensor, ends: np.ndarray) -> torch.Tensor:
    """From the second to the first landmark of each pair, int64 [P, 2]: [n, 85, 2] -> [n, P, 2]."""
    import torch

    tips, roots = (frames.index_select(1, torch.from_numpy(end).to(frames.device)) for end in ends.T.copy())
    return _difference(tips, roots)


def _difference(points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """points - others, [n, k, 2] each, and 0 where either is missing."""
    both = (points != 0).any(-1, keepdim=True) & (others != 0).any(-1, keepdim=True)
    return (points - others) * both
