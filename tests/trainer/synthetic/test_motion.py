"""Generated signing against the facts of the real data (94,477 sequences)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from trainer.landmarks import LEFT_HAND_ROWS, RIGHT_HAND_ROWS
from trainer.synthetic import motion


def landmarks_of(source: Path, path: str) -> np.ndarray:
    """x, y and z of one file: float64 [n, 543, 3]."""
    table = pq.read_table(source / path, columns=["x", "y", "z"])
    return np.stack([table[axis].to_numpy() for axis in "xyz"], axis=-1).reshape(-1, 543, 3)


@pytest.fixture(scope="module")
def blocks() -> list[motion.Block]:
    """21 participants, as many as the real data has, with 30 sequences each."""
    rng = np.random.default_rng(0)
    signs = motion.make_signs(rng, 20)
    people = motion.make_participants(rng, signs, 21)
    return [motion.make_block(rng, who, np.arange(30) % 20) for who in people]


def test_lengths_are_distributed_as_the_real_ones() -> None:
    rng = np.random.default_rng(0)
    people = list(motion.make_participants(rng, motion.make_signs(rng, 20), 21))
    by_person = [motion.draw_lengths(rng, who.median_length, 4_000) for who in people]
    lengths = np.concatenate(by_person)
    assert np.median(lengths) == pytest.approx(21, abs=2)
    assert lengths.mean() == pytest.approx(38, abs=3)
    for share, real in ((0.25, 11), (0.75, 43), (0.95, 139), (0.99, 224)):
        assert np.quantile(lengths, share) == pytest.approx(real, rel=0.2)
    assert 2 <= lengths.min() < lengths.max() <= 537
    medians = [np.median(some) for some in by_person]
    assert min(medians) == pytest.approx(6, abs=1.5)
    assert max(medians) == pytest.approx(40, abs=3)


def test_hands_and_faces_are_missing_as_in_real_data(blocks: list[motion.Block]) -> None:
    frames = np.concatenate([block.landmarks for block in blocks])
    left, right = np.isnan(frames[:, LEFT_HAND_ROWS]), np.isnan(frames[:, RIGHT_HAND_ROWS])
    for hand in (left, right):
        np.testing.assert_array_equal(hand.all(axis=(1, 2)), hand.any(axis=(1, 2)), "a hand is missing in part")
        assert hand.mean() == pytest.approx(0.70, abs=0.08)
    left, right = left.all(axis=(1, 2)), right.all(axis=(1, 2))
    assert (left & right).mean() == pytest.approx(0.41, abs=0.05)
    faces = np.isnan(frames[:, :468])
    np.testing.assert_array_equal(faces.all(axis=(1, 2)), faces.any(axis=(1, 2)))
    assert faces.mean() < 0.02
    assert not np.isnan(frames[:, 489:522]).any()
    assert np.nanmin(frames[..., 0]) > -0.7
    assert np.nanmax(frames[..., 0]) < 1.65


def test_a_sequence_shows_one_hand_as_a_rule(blocks: list[motion.Block]) -> None:
    both, none, total = 0, 0, 0
    for block in blocks:
        for landmarks in block.sequences():
            shown = [not np.isnan(landmarks[:, rows]).all() for rows in (LEFT_HAND_ROWS, RIGHT_HAND_ROWS)]
            both, none, total = both + all(shown), none + (not any(shown)), total + 1
    assert both / total == pytest.approx(0.03, abs=0.015)
    assert none == 0


def test_bodies_are_seen_where_the_real_ones_are(blocks: list[motion.Block], real_sample: Path) -> None:
    """Where the shoulders are and how far apart, how large hands are, and where: means within a spread of the real."""
    lines = pd.read_csv(real_sample / "train.csv").iloc[::3]
    real = [landmarks_of(real_sample, path) for path in lines.path]
    ours = [landmarks for block in blocks for landmarks in block.sequences()]
    for what, tolerance in ((_shoulders, 1.0), (_width, 1.0), (_eyes, 1.0), (_hand_size, 1.0), (_hand_height, 1.0)):
        expected, got = (np.array([what(landmarks) for landmarks in some]) for some in (real, ours))
        assert np.nanmean(got) == pytest.approx(np.nanmean(expected), abs=tolerance * np.nanstd(expected)), what
        assert np.nanstd(got) == pytest.approx(np.nanstd(expected), rel=0.7), what


def _shoulders(landmarks: np.ndarray) -> float:
    return float(np.nanmean(landmarks[:, [500, 501], 1]))


def _width(landmarks: np.ndarray) -> float:
    return float(np.nanmean(landmarks[:, 500, 0] - landmarks[:, 501, 0]))


def _eyes(landmarks: np.ndarray) -> float:
    distance = landmarks[:, 263, 0] - landmarks[:, 33, 0]
    return float(np.nanmean(distance)) if not np.isnan(distance).all() else np.nan


def _hand(landmarks: np.ndarray) -> np.ndarray:
    left, right = landmarks[:, LEFT_HAND_ROWS], landmarks[:, RIGHT_HAND_ROWS]
    return left if np.isnan(left).sum() < np.isnan(right).sum() else right


def _hand_size(landmarks: np.ndarray) -> float:
    hand = _hand(landmarks)
    return float(np.nanmean(np.linalg.norm(hand[:, 9, :2] - hand[:, 0, :2], axis=-1)))


def _hand_height(landmarks: np.ndarray) -> float:
    return float(np.nanmean(_hand(landmarks)[..., 1]))


def test_signs_are_distinct_and_have_near_neighbours() -> None:
    for num_signs in (1, 20, 250):
        signs = motion.make_signs(np.random.default_rng(1), num_signs)
        assert signs.shape == (num_signs, 15)
        assert len(np.unique(signs, axis=0)) == num_signs
    parts = (motion.SHAPE, motion.PLACE, motion.MOVEMENT)
    shared = sum((signs[:, None, part] == signs[None, :, part]).all(axis=-1).astype(int) for part in parts)
    assert ((shared == 2).sum(axis=1) > 0).mean() > 0.9
