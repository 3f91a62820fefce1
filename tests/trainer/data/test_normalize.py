"""Centring: its definition, in plain loops, and what it must leave alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.normalize import normalize, pick_landmarks
from trainer.data.positions import HEAD
from trainer.landmarks import NUM_ROWS, ROWS


def make_points(seed: int, num_frames: int, missing: float) -> np.ndarray:
    """Points like the contest's, of which a share is missing: float32 [num_frames, 85, 2]."""
    rng = np.random.default_rng(seed)
    points = rng.normal(0.5, 0.3, (num_frames, 85, 2)).astype(np.float32)
    points[rng.random((num_frames, 85)) < missing] = np.nan
    return points


sequences = st.builds(
    make_points,
    seed=st.integers(0, 2**32 - 1),
    num_frames=st.integers(1, 20),
    missing=st.sampled_from((0.0, 0.1, 0.9, 1.0)),
)


@given(sequences)
def test_one_offset_the_mean_of_the_present_head_points(points: np.ndarray) -> None:
    total, count = np.zeros(2), 0
    for frame in points:
        for landmark in HEAD:
            if not np.isnan(frame[landmark]).any():
                total += frame[landmark]
                count += 1
    offset = total / count if count else total
    centred = normalize(points)
    assert centred.dtype == np.float32
    missing = np.isnan(points).any(axis=-1)
    assert not centred[missing].any()
    np.testing.assert_allclose(centred[~missing], (points - offset)[~missing], atol=1e-6)


@given(sequences, st.floats(-2, 2), st.floats(-2, 2))
def test_where_the_camera_stands_does_not_matter(points: np.ndarray, x: float, y: float) -> None:
    if np.isnan(points[:, HEAD]).all():
        return
    np.testing.assert_allclose(normalize((points + np.array([x, y])).astype(np.float32)), normalize(points), atol=2e-6)


def test_a_point_with_one_coordinate_is_missing() -> None:
    points = make_points(0, 3, 0)
    whole = normalize(points)
    points[1, HEAD[0], 0] = points[2, HEAD[1], 1] = np.nan
    centred = normalize(points)
    assert not centred[1, HEAD[0]].any()
    assert not centred[2, HEAD[1]].any()
    assert np.abs(centred[0] - whole[0]).max() > 1e-6, "half a point took part in the mean"


def test_the_input_is_left_as_it_is() -> None:
    points = make_points(0, 3, 0.5)
    before = points.copy()
    normalize(points)
    np.testing.assert_array_equal(points, before)


def test_any_memory_layout_gives_the_same() -> None:
    points = make_points(0, 6, 0.2)
    np.testing.assert_array_equal(normalize(np.asfortranarray(points)), normalize(points))
    np.testing.assert_array_equal(normalize(points[::2]), normalize(points[::2].copy()))


@pytest.mark.parametrize(
    "points", [np.zeros((2, 85, 2)), np.zeros((2, 85, 3), np.float32), np.zeros((85, 2), np.float32)]
)
def test_other_shapes_and_types_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="points must be float32"):
        normalize(points)


def test_pick_landmarks_takes_x_and_y_of_the_used_rows() -> None:
    raw = np.arange(2 * NUM_ROWS * 3, dtype=np.float64).reshape(2, NUM_ROWS, 3)
    points = pick_landmarks(raw)
    assert points.dtype == np.float32
    for position, row in enumerate(ROWS):
        np.testing.assert_array_equal(points[:, position], raw[:, row, :2])
    with pytest.raises(ValueError, match="543"):
        pick_landmarks(raw[:, :-1])
