"""Which of the ensembles that fit a budget ships: the cheapest that is not measurably worse than the best.

Within the budget there is room for few models and for many, for fast ones and slow ones. An ensemble is selected for
each of several smaller rooms, and each is judged on participants that its selection did not see. Of those within one
standard error of the best the cheapest ships: the one-standard-error rule (Breiman et al. 1984, "Classification and
Regression Trees", section 3.4.3), with the standard error of the difference, over participants.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from ensemble.budget import COSTS, Cost
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation.unseen import rotated, selected
from ensemble.selection import baselines
from ensemble.selection.greedy import shares_of
from ensemble.selection.scores import Score

MEMBERS: Final = 1, 2, 3, 4, 6, 8, 12, 16, 24, 32  # models that smaller rooms are for
LEVELS: Final = 5  # smaller rooms by latency
FOLDS: Final = 5  # at most, that participants are dealt into


@dataclass(frozen=True)
class Best:
    """The ensemble that is estimated to be the best on unseen people."""

    cost: Cost
    """Estimated"""
    gain: float
    """Its accuracy on unseen people minus that of what ships"""
    error: float
    """Standard error of the gain, over participants"""


@dataclass(frozen=True)
class Preferred:
    """The room that the preferred ensemble was selected for."""

    capacity: np.ndarray
    """float64 [len(COSTS)]: what there is for members"""
    best: Best | None = None
    """None where that is what ships, or nobody is left whom no selection has seen"""


def preferred(priced: PricedPool, score: Score, room: np.ndarray, prefer: str) -> Preferred:
    """What ships of the ensembles that fit ``room``, float64 [len(COSTS)].

    ``prefer`` is one of ensemble.budget.PREFERENCES: the cheapest within one standard error of the best on unseen
    participants, or the best. With one participant nobody is unseen, and what scores best within the room ships. Raises
    UnaffordableError if no candidate fits.
    """
    participants, sizes = np.unique(priced.pool.validation.participants, return_counts=True)
    rooms, ensembles = _different(priced, score, room)
    if len(participants) == 1 or len(rooms) == 1:
        return Preferred(room)
    right = rotated(priced, score, [baselines.ours], rooms, min(len(participants), FOLDS))[0]
    shares = [shares_of(priced.costs, room)[counts > 0].sum() for counts in ensembles]
    best, ships = one_standard_error(right, sizes, np.array(shares))
    if prefer == "accuracy" or ships == best:
        return Preferred(rooms[best])
    gained = right[best] - right[ships]
    gain, error = float(gained.sum() / sizes.sum()), standard_error(gained, sizes)
    return Preferred(rooms[ships], Best(priced.total(ensembles[best]), gain, error))


def one_standard_error(right: np.ndarray, sizes: np.ndarray, prices: np.ndarray) -> tuple[int, int]:
    """The best ensemble, and the cheapest that is within one standard error of it; of equals the cheaper one.

    ``right`` int64 [ensembles, participants] of ``sizes`` int64 [participants] sequences each; ``prices`` [ensembles].
    """
    totals = right.sum(axis=1)
    best = int(np.lexsort((prices, -totals))[0])
    lost = (right[best] - right) / sizes.sum()
    errors = np.array([standard_error(row, sizes) for row in right[best] - right])
    within = np.flatnonzero(lost.sum(axis=1) <= errors)
    return best, int(within[np.lexsort((-totals[within], prices[within]))[0]])


def standard_error(differences: np.ndarray, sizes: np.ndarray) -> float:
    """Of a difference of two accuracies, over participants: ``differences`` [P] of right ones of ``sizes`` [P], P > 1.

    That of a ratio of two sums (Cochran 1977, "Sampling Techniques", equation 6.13).
    """
    people, total = len(sizes), sizes.sum()
    residuals = differences - differences.sum() / total * sizes
    return float((people / (people - 1) * (residuals**2).sum()) ** 0.5 / total)


def _different(priced: PricedPool, score: Score, room: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rooms within ``room``, itself first, for each of which another ensemble is selected; these ensembles."""
    largest = baselines.ours(score, priced.costs, room)
    rooms = [room, *_smaller(priced, room, largest)]
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for its, counts in zip(rooms, selected(score, [baselines.ours], priced.costs, rooms), strict=True):
        found.setdefault(counts.tobytes(), (its, counts))
    return [its for its, _ in found.values()], [counts for _, counts in found.values()]


def _smaller(priced: PricedPool, room: np.ndarray, largest: np.ndarray) -> list[np.ndarray]:
    """Rooms for fewer models, and for less time, than an ensemble takes that was selected for ``room``."""
    members, latency = (list(COSTS).index(name) for name in ("members", "latency"))
    affordable = priced.costs[(priced.costs <= room).all(axis=1)]
    least, most = affordable[:, latency].min(), priced.costs[largest > 0, latency].sum()
    limits = [(members, number) for number in MEMBERS if number < (largest > 0).sum()]
    if 0 < least < most:
        limits += [(latency, limit) for limit in np.geomspace(least, most, LEVELS + 1)[:-1]]
    rooms = []
    for column, limit in limits:
        smaller = room.copy()
        smaller[column] = min(room[column], limit)
        rooms.append(smaller)
    return [smaller for smaller in rooms if (priced.costs <= smaller).all(axis=1).any()]
