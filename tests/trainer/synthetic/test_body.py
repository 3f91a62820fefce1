"""The generated body: its bones, its hands and its mirror image."""

import numpy as np

from trainer.data.positions import MIRROR
from trainer.landmarks import FACE_ROWS, ROWS
from trainer.synthetic import body


def test_the_body_is_as_long_as_its_bones() -> None:
    rng = np.random.default_rng(2)
    wrist = rng.uniform([-0.4, -0.3], [0.1, 0.4], (50, 2))
    joint = body.elbow(wrist)
    np.testing.assert_allclose(np.linalg.norm(joint - wrist, axis=-1), body.ARM, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(joint - [-body.SHOULDER, 0], axis=-1), body.ARM, atol=1e-6)
    flexion = rng.random((50, 5))
    hand = body.hand(flexion, np.ones(50), rng.uniform(-2, 2, 50), np.zeros(50))
    joints = hand[:, 1:].reshape(50, 5, 4, 3)
    bones = np.linalg.norm(np.diff(joints, axis=2), axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[0], bones.shape), atol=1e-6)
    reach = np.linalg.norm(joints[:, :, 3, :2], axis=-1)
    order = np.argsort(flexion[:, 1])
    assert (np.diff(reach[order, 1]) < 1e-9).all(), "a finger more curled looks shorter"


def test_mirroring_a_body_twice_is_the_identity() -> None:
    wrist = np.array([[-0.1, 0.1], [0.0, -0.2]])
    hand = body.hand(np.zeros((2, 5)), np.ones(2), np.zeros(2), np.zeros(2))
    bodies = body.body(wrist, hand, wrist + 0.1)
    mirrored = body.mirror(bodies)
    assert np.abs(mirrored - bodies).max() > 0.1
    np.testing.assert_array_equal(body.mirror(mirrored), bodies)
    pairs = (np.abs(bodies[0, FACE_ROWS] - body.mirror(bodies)[0, FACE_ROWS]) < 1e-6).all()
    assert pairs, "the face is its own mirror image"


def test_mirror_pairs_are_those_of_the_landmarks_that_models_use() -> None:
    rows = np.array(ROWS)
    np.testing.assert_array_equal(body.MIRRORED_ROWS[rows], rows[MIRROR])
