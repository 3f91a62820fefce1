"""What a model sees of each frame, against loops that share no code with it."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from trainer.config import ModelConfig
from trainer.data import features as features_module
from trainer.data.features import MOTION_GAIN, features, num_features
from trainer.landmarks import LANDMARK_SETS, LEFT_HAND_ROWS, NUM_LANDMARKS, RIGHT_HAND_ROWS, ROWS

LENGTHS = np.array([1, 2, 7, 3])
KEY_ROWS = (
    *(13, 14, 33, 263, 468, 472, 476, 480, 484, 488),
    *(489, 500, 501, 502, 503, 504, 505, 522, 526, 530, 534, 538, 542),
)  # lips, eyes, wrists and fingertips, nose, shoulders, elbows, the pose's wrists


def sequences(seed: int = 0) -> torch.Tensor:
    """Frames [sum of LENGTHS, 85, 2] in which hands are missing in some, single landmarks in others."""
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(LENGTHS.sum(), NUM_LANDMARKS, 2)).astype(np.float32)
    frames[rng.random(frames.shape[:2]) < 0.2] = 0
    frames[rng.random(len(frames)) < 0.3, 26:47] = 0
    return torch.from_numpy(frames)


def places(lengths: np.ndarray) -> torch.Tensor:
    """Of each frame in its sequence: int64 [sum of lengths]."""
    return torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    return (0.0, 0.0) if not a.any() or not b.any() else (float(a[0] - b[0]), float(a[1] - b[1]))


def of_frame(frames: np.ndarray, i: int, config: ModelConfig) -> list[float]:
    """What a model sees of frame i of a sequence [n, 85, 2]."""
    places = [ROWS.index(row) for row in LANDMARK_SETS[config.landmarks]]
    seen = [float(x) for place in places for x in frames[i, place]]
    for lag in range(1, config.motion + 1):
        earlier = frames[i - lag] if i >= lag else np.zeros_like(frames[i])
        moved = [difference(frames[i, place], earlier[place]) for place in places]
        seen += [MOTION_GAIN * x for movement in moved for x in movement]
        seen += [MOTION_GAIN * math.hypot(*movement) for movement in moved]
    if config.distances:
        keys = [ROWS.index(row) for row in KEY_ROWS if row in LANDMARK_SETS[config.landmarks]]
        seen += [math.hypot(*difference(frames[i, a], frames[i, b])) for a, b in itertools.combinations(keys, 2)]
    if config.hand_frame:
        for wrist, *rest in (LEFT_HAND_ROWS, RIGHT_HAND_ROWS):
            for finger in rest:
                seen += difference(frames[i, ROWS.index(finger)], frames[i, ROWS.index(wrist)])
    return seen


@pytest.mark.parametrize("landmarks", list(LANDMARK_SETS))
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"motion": 1},
        {"motion": 4},
        {"distances": True},
        {"hand_frame": True},
        {"motion": 2, "distances": True, "hand_frame": True},
    ],
    ids=str,
)
def test_features_equal_a_computation_number_by_number(asked: dict[str, Any], landmarks: str) -> None:
    config = ModelConfig(landmarks=landmarks, **{"motion": 0} | asked)
    frames = sequences()
    found = features(frames, places(LENGTHS), config)
    assert found.shape == (len(frames), num_features(config))
    in_torch = features(frames.clone().requires_grad_(), places(LENGTHS), config)  # as on a GPU
    torch.testing.assert_close(in_torch.detach(), found, rtol=1e-6, atol=1e-6)
    parts = np.split(frames.numpy(), np.cumsum(LENGTHS)[:-1])
    expected = [of_frame(part, i, config) for part in parts for i in range(len(part))]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_a_hand_at_rest_has_no_motion_and_a_missing_one_none_either() -> None:
    frames = torch.zeros(4, NUM_LANDMARKS, 2)
    frames[:, 26:47] = 0.5  # a hand that stays
    frames[2] = 0  # and is lost for a frame
    motion = features(frames, places(np.array([4])), ModelConfig(motion=2))[:, 2 * NUM_LANDMARKS :]
    assert not motion.any()


def test_a_sequence_moves_the_same_whatever_was_before_it() -> None:
    config, frames = ModelConfig(motion=3), sequences()
    together = features(frames, places(LENGTHS), config)
    alone = [features(part, places(np.array([len(part)])), config) for part in frames.split(LENGTHS.tolist())]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0)


def test_motion_follows_what_augmentation_did() -> None:
    """Twice as large is twice as fast, and played backwards it goes the other way."""
    config, length = ModelConfig(motion=1), 6
    frames = sequences(1)[:length]
    velocities = features(frames, places(np.array([length])), config)[:, 170:340]
    larger = features(2 * frames, places(np.array([length])), config)[:, 170:340]
    torch.testing.assert_close(larger, 2 * velocities)
    backwards = features(frames.flip(0), places(np.array([length])), config)[:, 170:340]
    torch.testing.assert_close(backwards[1:], -velocities[1:].flip(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_features_of_another_type_are_the_same_up_to_its_rounding(dtype: torch.dtype) -> None:
    frames, config = sequences(), ModelConfig(motion=2, distances=True, hand_frame=True)
    rounded = frames.to(dtype)
    found = features(rounded, places(LENGTHS), config)
    assert found.dtype == dtype
    expected = features(rounded.float(), places(LENGTHS), config)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("asked", [{"landmarks": "hands_lips_pose"}, {"distances": True}, {"hand_frame": True}])
def test_what_was_seen_in_inference_first_can_be_trained_on(asked: dict[str, Any]) -> None:
    features_module._on.cache_clear()
    config = ModelConfig(**asked)
    with torch.inference_mode():
        features(sequences(), places(LENGTHS), config)
    frames = sequences().requires_grad_()
    features(frames, places(LENGTHS), config).sum().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0
