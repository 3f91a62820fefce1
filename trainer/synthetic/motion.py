"""Generated signing: signs, participants, and what a tracker would see of them. Pure functions of a generator.

A sign is a hand shape, a place and a movement. Participants differ in tempo, size, handedness, accent, camera and how
steadily they are tracked. Lengths, missing hands and frame numbers are distributed as in the real data.
B counts sequences and F frames; the frames of several sequences are end to end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from trainer.synthetic import body
from trainer.synthetic.body import FACE_SLICE, LEFT_HAND_SLICE, POSE_SLICE, RIGHT_HAND_SLICE

# A sign's traits, each between 0 and 1.
SHAPE: Final = slice(0, 8)  # flexion of five fingers, spread, turn, tilt
PLACE: Final = slice(8, 10)  # x, y
MOVEMENT: Final = slice(10, 15)  # direction, roundness, cycles, reach, change of flexion
NUM_TRAITS: Final = 15

# Standard deviations of traits: of a participant in all signs, of a participant in one sign, of a repetition.
STYLE, ACCENT, WOBBLE = 0.06, 0.06, 0.06

MEDIAN_LENGTHS: Final = (6, 16, 22, 25, 30, 40)  # frames, at even quantiles of the participants
LONGEST: Final = 537  # frames
BOTH_HANDS: Final = 0.03  # share of sequences that show both
LOST_FACES: Final = 0.05  # share of sequences, of the participants whose face is lost now and then
LOWERED: Final = np.array([-0.22, 0.25])  # where a right hand's motion begins and ends
ASPECT: Final = 1.5  # an image's height over its width: phones are held upright


@dataclass(frozen=True)
class Participant:
    """How one participant signs and is seen."""

    participant_id: int
    traits: np.ndarray
    """[num_signs, 15], those of the signs with this participant's accent"""
    median_length: float
    """frames"""
    left_handed: float
    """share of the sequences that the left hand signs"""
    size: float
    origin: np.ndarray
    """[2], where in the image the middle of the shoulders is"""
    jitter: float
    """standard deviation of a tracked hand landmark, in heights of the image"""
    loses_face: bool


@dataclass(frozen=True)
class Block:
    """Sequences of one participant."""

    labels: np.ndarray
    """int64 [B]"""
    lengths: np.ndarray
    """int64 [B], frames"""
    first_frame_numbers: np.ndarray
    """int64 [B]"""
    landmarks: np.ndarray
    """float32 [F, 543, 3], NaN where missing"""

    def sequences(self) -> list[np.ndarray]:
        """The landmarks of each sequence: [n, 543, 3]."""
        return np.split(self.landmarks, np.cumsum(self.lengths)[:-1])


class Timeline:
    """The frames of several sequences, and noise along them."""

    def __init__(self, rng: np.random.Generator, lengths: np.ndarray) -> None:
        self.rng = rng
        self.lengths = lengths
        self.starts = np.cumsum(lengths) - lengths
        self.sequence = np.repeat(np.arange(len(lengths)), lengths)
        """int64 [F], which sequence a frame is of"""
        self.time = (np.arange(len(self.sequence)) - self.starts[self.sequence] + 0.5) / lengths[self.sequence]
        """[F], from 0 to 1 in each sequence"""

    def each(self, values: np.ndarray) -> np.ndarray:
        """One value a sequence, [B, ...], for each of its frames: [F, ...]."""
        of_frames: np.ndarray = values[self.sequence]
        return of_frames

    def wander(self, deviation: float, *shape: int) -> np.ndarray:
        """Smooth noise [F, *shape]: linear between 12 independent normal numbers a sequence."""
        knots = self.rng.normal(0, deviation, (len(self.lengths), 12, *shape))
        place = self.time * 11
        before = place.astype(np.int64)
        share = (place - before).reshape(-1, *[1] * len(shape))
        noise: np.ndarray = knots[self.sequence, before] * (1 - share) + knots[self.sequence, before + 1] * share
        return noise

    def highest(self, score: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Whether a frame's score [F] is among the highest of its sequence, of which a share [B] counts: bool [F]."""
        rank = np.empty(len(score), np.int64)
        rank[np.lexsort((-score, self.sequence))] = np.arange(len(score))
        among: np.ndarray = rank - self.each(self.starts) < self.each(np.round(share * self.lengths))
        return among


def make_signs(rng: np.random.Generator, num_signs: int) -> np.ndarray:
    """Traits of signs: [num_signs, 15].

    Shapes, places and movements come from inventories so small that most signs have another one that differs in
    a single one of the three.
    """
    choices = int(np.ceil((3 * num_signs) ** (1 / 3)))
    combinations = rng.permutation(choices**3)[:num_signs]
    picked = np.unravel_index(combinations, (choices, choices, choices))
    parts = (_spread_out(rng, choices, part.stop - part.start) for part in (SHAPE, PLACE, MOVEMENT))
    return np.concatenate([part[index] for part, index in zip(parts, picked, strict=True)], axis=1)


def _spread_out(rng: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    """Points of the unit cube, far from one another: [count, dimensions]."""
    candidates = rng.random((64 * count, dimensions))
    chosen = [candidates[0]]
    distance = np.full(len(candidates), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(candidates - chosen[-1], axis=1))
        chosen.append(candidates[distance.argmax()])
    return np.array(chosen)


def make_participants(rng: np.random.Generator, signs: np.ndarray, count: int) -> Iterator[Participant]:
    """Participants who, however many, have the real ones' tempos and hands."""
    quantiles = rng.permutation((np.arange(count) + 0.5) / count)
    medians = np.exp(np.interp(quantiles, np.linspace(0, 1, len(MEDIAN_LENGTHS)), np.log(MEDIAN_LENGTHS)))
    hands = rng.permutation(np.arange(count) % 2)
    ids = rng.choice(np.arange(10_000, 65_000), count, replace=False)
    for participant_id, median, hand in zip(ids, medians, hands, strict=True):
        yield Participant(
            participant_id=int(participant_id),
            traits=signs + rng.normal(0, STYLE, NUM_TRAITS) + rng.normal(0, ACCENT, signs.shape),
            median_length=median,
            left_handed=abs(hand - 0.2 * (rng.random() < 0.15)),  # few change hands
            size=rng.uniform(0.85, 1.15),
            origin=rng.normal((0.5, 0.64), 0.04),
            jitter=0.003 * rng.lognormal(0, 0.3),
            loses_face=rng.random() < 0.2,
        )


def make_block(rng: np.random.Generator, who: Participant, labels: np.ndarray) -> Block:
    """A sequence for each label: the hand's motion, the body around it, and what camera and tracker see of it."""
    timeline = Timeline(rng, draw_lengths(rng, who.median_length, len(labels)))
    traits = who.traits[labels] + rng.normal(0, WOBBLE, (len(labels), NUM_TRAITS))
    bodies = _body(timeline, *_motion(timeline, traits), who.jitter)
    _lose(timeline, bodies, who.loses_face)
    left = timeline.each(rng.random(len(labels)) < who.left_handed)
    bodies[left] = body.mirror(bodies[left])
    size = who.size * rng.lognormal(0, 0.03, len(labels))
    bodies *= (timeline.each(size)[:, None] * [ASPECT, 1, ASPECT])[:, None]
    bodies[..., :2] += timeline.each(who.origin + rng.normal(0, 0.02, (len(labels), 2)))[:, None]
    return Block(
        labels=labels,
        lengths=timeline.lengths,
        first_frame_numbers=np.minimum(rng.lognormal(3, 0.8, len(labels)), 200).astype(np.int64),
        landmarks=bodies,
    )


def draw_lengths(rng: np.random.Generator, median: float, count: int) -> np.ndarray:
    """Frames of ``count`` sequences by one participant: int64 [count]."""
    deviation = 0.6 + 0.4 * np.log(median / MEDIAN_LENGTHS[0])
    logarithms = np.log(median) + deviation * 2.2 * np.tanh(rng.normal(size=count) / 2.2)
    lengths: np.ndarray = np.clip(np.round(np.exp(logarithms)), 2, LONGEST).astype(np.int64)
    return lengths


def _motion(timeline: Timeline, traits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A right hand that signs traits [B, 15]: its wrist [F, 2], and its landmarks about the wrist [F, 21, 3]."""
    rng, count, each = timeline.rng, len(traits), timeline.each
    time = timeline.time + 0.1 * np.sin(np.pi * timeline.time) * timeline.wander(1)
    direction, roundness, cycles, reach, change = each(traits[:, MOVEMENT]).T
    phase = 2 * np.pi * (0.25 + 1.25 * cycles) * (time - 0.5)
    forth, aside = np.sin(phase), (2 * roundness - 1) * np.cos(phase)
    cos, sin = np.cos(2 * np.pi * direction), np.sin(2 * np.pi * direction)
    path = np.stack([cos * forth - sin * aside, sin * forth + cos * aside], axis=-1)
    target = each(traits[:, PLACE] * [0.32, 0.32] + [-0.22, -0.25]) + (0.03 + 0.09 * reach)[:, None] * path

    rise, fall = each(rng.uniform(0.03, 0.25, (count, 2))).T
    lowest = each(rng.uniform(0, 0.6, count))
    raised = np.clip(np.minimum(timeline.time / rise, (1 - timeline.time) / fall), 0, 1)
    raised = (lowest + (1 - lowest) * raised**2 * (3 - 2 * raised))[:, None]
    wrist = LOWERED * (1 - raised) + target * raised + timeline.wander(0.008, 2)

    spread, turn, tilt = each(traits[:, 5:8]).T
    flexion = each(traits[:, :5]) + ((2 * change - 1) * 1.2 * (time - 0.5))[:, None] + timeline.wander(0.05, 5)
    turn = np.radians(100 * (2 * turn - 1)) + timeline.wander(0.12)
    return wrist, body.hand(np.clip(flexion, -0.1, 1.1), 0.4 + spread, turn, np.clip(tilt, 0, 1))


def _body(timeline: Timeline, wrist: np.ndarray, hand: np.ndarray, jitter: float) -> np.ndarray:
    """The body of a right-handed signer, as tracked: float32 [F, 543, 3]. The other hand is at rest."""
    rng, count = timeline.rng, len(wrist)
    other_wrist = body.REST + timeline.wander(0.015, 2)
    speed = np.linalg.norm(np.gradient(wrist, axis=0), axis=-1)
    bodies = body.body(wrist, hand, other_wrist).astype(np.float32)
    bodies[:, FACE_SLICE, :2] += timeline.wander(0.006, 1, 2)
    bodies[:, POSE_SLICE, :2] += timeline.wander(0.004, 1, 2)
    blur = jitter * (1 + 20 * np.minimum(speed, 0.1))[:, None, None]
    for part, deviation in (
        (FACE_SLICE, 0.0006),
        (POSE_SLICE, 0.002),
        (LEFT_HAND_SLICE, blur),
        (RIGHT_HAND_SLICE, blur),
    ):
        noise = rng.standard_normal((count, part.stop - part.start, 3), np.float32)
        bodies[:, part] += noise * np.float32(deviation)
    return bodies


def _lose(timeline: Timeline, body: np.ndarray, loses_face: bool) -> None:
    """Make NaN what the tracker does not find: a hand or the face, always whole. ``body`` [F, 543, 3] is changed."""
    rng, lengths = timeline.rng, timeline.lengths
    mean = 0.24 + 0.16 * np.log10(lengths / 6)
    lost = np.minimum(rng.beta(3 * mean, 3 * (1 - mean)), 1 - 2 / lengths)
    score = timeline.wander(1)
    score[timeline.starts] = score[timeline.starts + lengths - 1] = -np.inf  # a sequence begins and ends with its hand
    body[timeline.highest(score, lost), RIGHT_HAND_SLICE] = np.nan
    found = np.where(rng.random(len(lengths)) < BOTH_HANDS, rng.uniform(0.1, 0.5, len(lengths)), 0)
    body[~timeline.highest(timeline.wander(1), found), LEFT_HAND_SLICE] = np.nan
    lost = np.where(rng.random(len(lengths)) < LOST_FACES * loses_face, rng.uniform(0.2, 1, len(lengths)), 0)
    body[timeline.highest(timeline.wander(1), lost), FACE_SLICE] = np.nan
