"""Which of the ensembles that fit a budget ships: the cheapest that is not measurably worse than the best.

Within the budget there is room for few models and for many, for fast ones and slow ones. An ensemble is selected for
the whole room and for several smaller ones, and each is judged on participants that its selection did not see. Of those
within one standard error of the best the cheapest ships: the one-standard-error rule (Breiman et al. 1984,
"Classification and Regression Trees", section 3.4.3), with the standard error of the difference, over participants.
Where few people tell, that error is large, and the rule alone gives away one or two points of accuracy: at most
MOST_LOST is given away (results/reference/preference.txt).

Whoever prefers accuracy gets the ensemble that is selected for the whole room, unless another is measured to be better
by more than CLEAR standard errors. The best estimate of many is the luckiest one too.

The room was chosen by these participants. What is reported of each of them is therefore what the room does with them
that is chosen by the others.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from ensemble.budget import COSTS, Cost
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation.unseen import LOG_LIKELIHOOD, RIGHT, rotated, selected
from ensemble.selection.baselines import Rule
from ensemble.selection.greedy import shares_of
from ensemble.selection.scores import Score

MEMBERS: Final = 1, 2, 3, 4, 6, 8, 12, 16, 24, 32  # models that smaller rooms are for
LEVELS: Final = 5  # smaller rooms by latency
FOLDS: Final = 10  # at most, that participants are dealt into
MOST_LOST: Final = 0.005
"""Accuracy (or nats of log loss) that is given away at most for a cheaper ensemble"""
CLEAR: Final = 2.0
"""Standard errors by which an ensemble must be better than that for the whole room, to be preferred for its accuracy"""


@dataclass(frozen=True)
class Best:
    """The ensemble that is estimated to be the best on unseen people."""

    cost: Cost
    """Estimated"""
    gain: float
    """Its accuracy on unseen people minus that of what ships; where log loss is preferred by, its gain in nats"""
    error: float
    """Standard error of the gain, over participants"""


@dataclass(frozen=True)
class Preferred:
    """The room that the preferred ensemble was selected for."""

    capacity: np.ndarray
    """float64 [len(COSTS)]: what there is for members"""
    unseen_right: np.ndarray | None
    """Sequences of each participant that are right where neither room nor ensemble was chosen by them: float64
    [participants]; None if there is only one"""
    best: Best | None = None
    """None where that is what ships, or nobody is left whom no selection has seen"""

    @classmethod
    def of_room(cls, priced: PricedPool, score: Score, room: np.ndarray, rule: Rule) -> Self:
        """The ensemble for a room that was not chosen by its accuracy."""
        people = len(np.unique(priced.pool.validation.participants))
        return cls(room, None if people == 1 else rotated(priced, score, [rule], [room], people)[RIGHT, 0, 0])


def preferred(
    priced: PricedPool, score: Score, room: np.ndarray, rule: Rule, prefer: str, by_log_loss: bool = False
) -> Preferred:
    """What ships of the ensembles that a rule selects within ``room``, float64 [len(COSTS)].

    ``prefer`` is one of ensemble.choices.PREFERENCES. They are judged by accuracy, or by log loss. With one participant
    nobody is unseen, and what is selected for the whole room ships. Raises UnaffordableError if no candidate fits, and
    ValueError if the rule cannot deal with so many.
    """
    rooms, ensembles = different(priced, score, room, rule)
    participants, sizes = np.unique(priced.pool.validation.participants, return_counts=True)
    if len(participants) == 1 or len(rooms) == 1:
        return Preferred.of_room(priced, score, room, rule)
    found = rotated(priced, score, [rule], rooms, FOLDS)[:, 0]
    values = found[LOG_LIKELIHOOD if by_log_loss else RIGHT]
    prices = np.array([shares_of(priced.costs, room)[counts > 0].sum() for counts in ensembles])
    ships = choose(values, sizes, prices, prefer)
    others = [np.delete(np.arange(len(sizes)), person) for person in range(len(sizes))]
    without = [choose(values[:, rest], sizes[rest], prices, prefer) for rest in others]
    right = found[RIGHT][without, np.arange(len(sizes))]
    best = int(np.lexsort((prices, -values.sum(axis=1)))[0])
    if prefer == "accuracy" or ships == best:
        return Preferred(rooms[ships], right)
    gained = values[best] - values[ships]
    gain, error = float(gained.sum() / sizes.sum()), standard_error(gained, sizes)
    return Preferred(rooms[ships], right, Best(priced.total(ensembles[best]), gain, error))


def choose(values: np.ndarray, sizes: np.ndarray, prices: np.ndarray, prefer: str, most_lost: float = MOST_LOST) -> int:
    """Which ensemble ships, of those whose values [ensembles, participants] are sums over ``sizes`` [participants].

    The first one is that for the whole room. ``prices`` [ensembles].
    """
    gains = values - values[0]
    best = int(np.lexsort((prices, -values.sum(axis=1)))[0])
    if prefer == "accuracy":
        return best if gains[best].sum() / sizes.sum() > CLEAR * standard_error(gains[best], sizes) else 0
    lost = values[best] - values
    most = np.array([min(standard_error(row, sizes), most_lost) for row in lost])
    within = np.flatnonzero(lost.sum(axis=1) / sizes.sum() <= most)
    return int(within[np.lexsort((lost[within].sum(axis=1), prices[within]))[0]])


def standard_error(differences: np.ndarray, sizes: np.ndarray) -> float:
    """Of a mean difference, over participants: ``differences`` [P] are sums over ``sizes`` [P] sequences.

    That of a ratio of two sums (Cochran 1977, "Sampling Techniques", equation 6.13). 0 of one participant.
    """
    people, total = len(sizes), sizes.sum()
    residuals = differences - differences.sum() / total * sizes
    return float((people / max(people - 1, 1) * (residuals**2).sum()) ** 0.5 / total)


def different(
    priced: PricedPool, score: Score, room: np.ndarray, rule: Rule
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rooms within ``room``, itself first, for each of which another ensemble is selected; these ensembles."""
    largest = rule(score, priced.costs, room)
    rooms = _smaller(priced, room, largest)
    found = {largest.tobytes(): (room, largest)}
    for its, counts in zip(rooms, selected(score, [rule], priced.costs, rooms), strict=True):
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
