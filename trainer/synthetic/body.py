"""The body of a generated signer: where the hand is and how its fingers bend in, 543 landmarks out.

Bodies are drawn in units of the image's height, x to the right, y down, z away from the camera, with the middle of
the shoulders as origin; a signer faces the camera, so the right hand is at negative x.
"""

from typing import Final

import numpy as np

from trainer.landmarks import NUM_ROWS

SHOULDER: Final = 0.19  # from the middle to either shoulder
REST: Final = np.array([-0.25, 0.5])  # where the right wrist is when it does nothing
ARM: Final = 0.3  # upper arm and forearm alike

FACE_SLICE: Final = slice(0, 468)
LEFT_HAND_SLICE: Final = slice(468, 489)
POSE_SLICE: Final = slice(489, 522)
RIGHT_HAND_SLICE: Final = slice(522, 543)

_POSE_PAIRS: Final = ((1, 4), (2, 5), (3, 6), *((left, left + 1) for left in range(7, 33, 2)))
_LEFT_POSE: Final = {  # of the pose's landmarks, those at positive x that do not move with an arm
    **{1: (0.02, -0.27), 2: (0.035, -0.27), 3: (0.05, -0.265), 7: (0.078, -0.242), 9: (0.032, -0.17)},
    **{11: (SHOULDER, 0), 23: (0.13, 0.6), 25: (0.12, 1.08), 27: (0.12, 1.5), 29: (0.125, 1.58), 31: (0.08, 1.66)},
}
_LEFT_FACE: Final = {  # of the face's landmarks, those that models use; each with its mirror image
    **{263: (0.063, -0.275, 33), 362: (0.025, -0.275, 133), 386: (0.045, -0.283, 159), 374: (0.045, -0.27, 145)},
    **{384: (0.031, -0.281, 157), 388: (0.058, -0.279, 161), 381: (0.031, -0.271, 154), 390: (0.058, -0.272, 163)},
    **{311: (0.015, -0.173, 81), 324: (0.026, -0.168, 95), 402: (0.015, -0.167, 178), 415: (0.026, -0.171, 191)},
}
_FINGERS: Final = np.array(  # thumb to little finger: wrist to knuckle, then the three phalanges
    [
        (0.055, 0.055, 0.042, 0.032),
        (0.142, 0.055, 0.035, 0.026),
        (0.138, 0.062, 0.038, 0.028),
        (0.13, 0.058, 0.035, 0.027),
        (0.122, 0.046, 0.028, 0.023),
    ]
)
_SPLAY: Final = np.radians([50.0, 14.0, 0.0, -13.0, -27.0])  # of the fingers of an open right hand
_CURL: Final = np.radians(80.0)  # by which each joint of a fist bends further


def _body() -> np.ndarray:
    """A body without arms: float32 [543, 3]; what belongs to an arm is 0."""
    body = np.zeros((NUM_ROWS, 3))
    turn = np.arange(468) * np.pi * (3 - np.sqrt(5))  # a sunflower's spiral fills the oval of the face
    radius = np.sqrt((np.arange(468) + 0.5) / 468)
    body[FACE_SLICE] = np.stack(
        [0.095 * radius * np.sin(turn), -0.23 + 0.13 * radius * np.cos(turn), 0 * turn], axis=-1
    )
    body[13, :2], body[14, :2] = (0, -0.173), (0, -0.165)
    for row, (x, y, mirrored) in _LEFT_FACE.items():
        body[row, :2], body[mirrored, :2] = (x, y), (-x, y)
    body[489] = (0, -0.22, -0.6)
    for left, right in _POSE_PAIRS:
        x, y = _LEFT_POSE.get(left, (0, 0))
        body[489 + left, :2], body[489 + right, :2] = (x, y), (-x, y)
    return body.astype(np.float32)


def _mirrored_rows() -> np.ndarray:
    rows = np.arange(NUM_ROWS)
    rows[LEFT_HAND_SLICE], rows[RIGHT_HAND_SLICE] = rows[RIGHT_HAND_SLICE].copy(), rows[LEFT_HAND_SLICE].copy()
    for left, right in _POSE_PAIRS:
        rows[489 + left], rows[489 + right] = 489 + right, 489 + left
    for left, (_, _, right) in _LEFT_FACE.items():
        rows[left], rows[right] = right, left
    return rows


_BODY: Final = _body()
MIRRORED_ROWS: Final = _mirrored_rows()


def hand(flexion: np.ndarray, spread: np.ndarray, turn: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    """A right hand, its wrist at the origin: float64 [n, 21, 3].

    ``flexion`` [n, 5] of each finger, 0 straight to 1 curled; ``spread`` [n] of the fingers, 1 normal; ``turn`` [n] of
    the palm in the image, radians, 0 pointing up; ``tilt`` [n], 0 facing the camera to 1 edge on.
    """
    bend = flexion[..., None] * _CURL * np.arange(4)
    out = np.cumsum(_FINGERS * np.cos(bend), axis=-1)
    depth = np.cumsum(-_FINGERS * np.sin(bend), axis=-1)
    angle = (_SPLAY * spread[:, None])[..., None]
    across = out * np.sin(angle) * (1 - 0.8 * tilt)[:, None, None]
    along = out * np.cos(angle)
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    fingers = np.stack([cos * across + sin * along, sin * across - cos * along, depth], axis=-1)
    return np.concatenate([np.zeros((len(flexion), 1, 3)), fingers.reshape(-1, 20, 3)], axis=1)


def elbow(wrist: np.ndarray) -> np.ndarray:
    """Elbow of a right arm whose wrist is at [n, 2]: [n, 2]. It points outwards and down."""
    shoulder = np.array([-SHOULDER, 0.0])
    reach = wrist - shoulder
    distance = np.linalg.norm(reach, axis=-1, keepdims=True) + 1e-9
    outwards = np.stack([-reach[:, 1], reach[:, 0]], axis=-1) / distance
    bulge = np.sqrt(np.maximum(ARM**2 - (distance / 2) ** 2, 0))
    joint: np.ndarray = shoulder + reach / 2 + outwards * bulge
    return joint


def body(wrist: np.ndarray, right_hand: np.ndarray, other_wrist: np.ndarray) -> np.ndarray:
    """Bodies whose right wrist is at [n, 2] with a hand [n, 21, 3] about it: float32 [n, 543, 3].

    The left hand hangs open; ``other_wrist`` [n, 2] is where it would be on the right.
    """
    bodies = np.repeat(_BODY[None], len(wrist), axis=0)
    _attach_arm(bodies, other_wrist, hand(np.full((1, 5), 0.4), np.ones(1), np.zeros(1), np.zeros(1)))
    bodies = mirror(bodies)
    _attach_arm(bodies, wrist, right_hand)
    return bodies


def _attach_arm(bodies: np.ndarray, wrist: np.ndarray, right_hand: np.ndarray) -> None:
    bodies[:, RIGHT_HAND_SLICE] = right_hand
    bodies[:, RIGHT_HAND_SLICE, :2] += wrist[:, None]
    pose = bodies[:, POSE_SLICE]
    pose[:, 14, :2], pose[:, 16, :2] = elbow(wrist), wrist
    pose[:, [18, 20, 22]] = bodies[:, RIGHT_HAND_SLICE][:, [17, 5, 2]]


def mirror(bodies: np.ndarray) -> np.ndarray:
    """Mirror images: [n, 543, 3] -> [n, 543, 3]."""
    mirrored: np.ndarray = bodies[:, MIRRORED_ROWS] * np.array([-1, 1, 1], bodies.dtype)
    return mirrored
