"""Which 85 of the 543 landmarks a model sees, their groups, and their mirror images.

A frame of the contest's data has 543 rows: face 0-467, left hand 468-488, pose 489-521, right hand
522-542 (MediaPipe Holistic). Models use 85 of them, kept in the order of the file; where each lies among
those is in trainer.data.positions.
"""

from typing import Final

NUM_ROWS: Final = 543  # landmarks a frame of the contest's files
LEFT_HAND_ROWS: Final = tuple(range(468, 489))
RIGHT_HAND_ROWS: Final = tuple(range(522, 543))
POSE_ROWS: Final = tuple(range(489, 506))
FACE_ROWS: Final = (
    *(13, 14, 33, 81, 95, 133, 145, 154, 157, 159, 161, 163, 178),
    *(191, 263, 311, 324, 362, 374, 381, 384, 386, 388, 390, 402, 415),
)
LIP_ROWS: Final = (13, 14, 81, 95, 178, 191, 311, 324, 402, 415)
HEAD_ROWS: Final = (*FACE_ROWS, *range(489, 500))  # their mean is the origin after normalisation
GROUP_ROWS: Final = (  # what moves as one: head, shoulders, left elbow to fingers, right elbow to fingers
    *(HEAD_ROWS, (500, 501), (*LEFT_HAND_ROWS, 502, 504), (*RIGHT_HAND_ROWS, 503, 505)),
)

ROWS: Final = (*FACE_ROWS, *LEFT_HAND_ROWS, *POSE_ROWS, *RIGHT_HAND_ROWS)  # ascending
NUM_LANDMARKS: Final = len(ROWS)

KEY_ROWS: Final = (  # whose distances tell a pose: fingertips, wrists, elbows, shoulders, eyes, nose, lips
    *(13, 14, 33, 263),
    *(LEFT_HAND_ROWS[i] for i in (0, 4, 8, 12, 16, 20)),
    *(489, 500, 501, 502, 503, 504, 505),
    *(RIGHT_HAND_ROWS[i] for i in (0, 4, 8, 12, 16, 20)),
)

MIRRORED_ROWS: Final = (
    *zip(LEFT_HAND_ROWS, RIGHT_HAND_ROWS, strict=True),
    *((489 + left, 489 + left + right) for left, right in ((1, 3), (2, 3), (3, 3))),
    *((489 + left, 489 + left + 1) for left in (7, 9, 11, 13, 15)),
    *((33, 263), (133, 362), (159, 386), (145, 374), (157, 384), (161, 388), (154, 381), (163, 390)),
    *((81, 311), (95, 324), (178, 402), (191, 415)),
)

LANDMARK_SETS: Final = {
    "all": ROWS,
    "hands": (*LEFT_HAND_ROWS, *RIGHT_HAND_ROWS),
    "hands_lips": (*LIP_ROWS, *LEFT_HAND_ROWS, *RIGHT_HAND_ROWS),
    "hands_lips_pose": (*LIP_ROWS, *LEFT_HAND_ROWS, *POSE_ROWS, *RIGHT_HAND_ROWS),
}
