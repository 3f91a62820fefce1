"""Selection: which candidates, counted how often, under a hard budget. Pure numpy; reads and writes nothing.

Caruana et al. 2004 (greedy selection with replacement, best prefix kept), made aware of costs: the greedy runs
once by gain and once each by gain per share of the budget, at two strengths; then members are removed, swapped and
added for as long as that helps, from each run's best prefix. The best ensemble found is kept.

Only what can change a decision is computed. Log loss needs the true sign's probability alone. Accuracy needs
margins to each sequence's strongest rival signs, on the sequences that one more member can still flip; margins
of float16 probabilities add up exactly in float64, so nothing depends on the order of the candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from trainer.metrics import SMALLEST_PROBABILITY

RIVALS: Final = 16  # signs, beside the true one, that a sequence's accuracy is decided among during the search
PATIENCE: Final = 8  # greedy steps without a better prefix before a run ends
MOST: Final = 64  # largest sum of counts
EXPONENTS: Final = (0.0, 0.5, 1.0)  # of the share of the budget that a gain is divided by
BLOCK: Final = 1 << 18  # numbers worked on at a time, so that they stay in the cache


class UnaffordableError(ValueError):
    """No candidate fits the budget; ``cheapest`` is the index of the one that comes closest."""

    def __init__(self, cheapest: int) -> None:
        super().__init__("no candidate fits the budget")
        self.cheapest = cheapest


@dataclass(frozen=True)
class Selection:
    """An ensemble: how often each candidate counts."""

    counts: np.ndarray
    """int64 [K]; 0 for candidates that are no members"""
    score: float
    """On the labels that it was selected on: accuracy, or log loss with its sign changed; higher is better"""


@dataclass(frozen=True)
class State:
    """An ensemble as an objective sees it: the sum of its members' contributions, and the sum of their counts."""

    total: np.ndarray
    size: int


class Objective(Protocol):
    """Scores ensembles of a fixed pool of K candidates on fixed labels; higher is better."""

    likelihoods: np.ndarray
    """float64 [K]: something to tell candidates apart by that does not depend on their order"""

    def on(self, rows: np.ndarray) -> Self:
        """The same for some of the sequences only: their indices."""

    def state(self, counts: np.ndarray) -> State:
        """Of an ensemble's counts int64 [K]."""

    def score(self, state: State) -> float: ...

    def additions(self, state: State) -> np.ndarray:
        """Scores float64 [K] after counting each candidate once more."""


class Accuracy:
    """Share of sequences whose true sign has the largest probability; a tie for the largest counts as an error."""

    def __init__(self, margins: np.ndarray, likelihoods: np.ndarray) -> None:
        """margins float32 [rivals, N, K]: how far each candidate puts a rival above the true sign."""
        self._all = margins
        self.likelihoods = likelihoods
        # Every candidate right, or every one beaten by the same rival: so is every ensemble of them.
        always_right = (margins < 0).all(axis=(0, 2))
        always_wrong = (margins >= 0).all(axis=2).any(axis=0)
        self._open = margins[:, ~(always_right | always_wrong)]
        self._high, self._low = self._open.max(axis=2), self._open.min(axis=2)
        self._always_right, self._sequences = int(always_right.sum()), margins.shape[1]

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        own = _likelihoods(probs, labels)
        rivals = _strongest_rivals(probs, labels)
        margins = np.empty((rivals.shape[1], *own.shape), np.float32)
        for k, matrix in enumerate(probs):
            margins[:, :, k] = np.take_along_axis(matrix, rivals, axis=1).T - own[:, k]
        return cls(margins, own.sum(axis=0, dtype=np.float64))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._all[:, rows], self.likelihoods)

    def state(self, counts: np.ndarray) -> State:
        members = np.flatnonzero(counts)
        total = np.zeros(self._open.shape[:2])
        for k in members:
            total += counts[k] * self._open[:, :, k].astype(np.float64)
        return State(total, int(counts.sum()))

    def score(self, state: State) -> float:
        right = self._always_right + int((state.total < 0).all(axis=0).sum()) if state.size else 0
        return float(right / self._sequences)

    def additions(self, state: State) -> np.ndarray:
        stays_right = (state.total + self._high < 0).all(axis=0)
        stays_wrong = (state.total + self._low >= 0).any(axis=0)
        rows = np.flatnonzero(~(stays_right | stays_wrong))
        limits = _round_up(-state.total)
        right = np.full(self._open.shape[2], self._always_right + int(stays_right.sum()))
        step = max(1, BLOCK // self._open.shape[2])
        for begin in range(0, len(rows), step):
            block = rows[begin : begin + step]
            beaten = self._open[0, block] < limits[0, block, None]
            for j in range(1, len(limits)):
                beaten &= self._open[j, block] < limits[j, block, None]
            right += beaten.sum(axis=0, dtype=np.int32)
        scores: np.ndarray = right / self._sequences
        return scores


def _round_up(values: np.ndarray) -> np.ndarray:
    """The smallest float32 not below each float64, so that comparing float32 with it is comparing exactly."""
    rounded = values.astype(np.float32)
    limits: np.ndarray = np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return limits


def _likelihoods(probs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Probability of each true sign: float32 [N, K]."""
    rows = np.arange(len(labels))
    return np.stack([np.asarray(matrix[rows, labels], np.float32) for matrix in probs], axis=1)


def _strongest_rivals(probs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The signs likeliest on average over all candidates, the true one left out: int64 [N, at most RIVALS]."""
    signs: int = probs[0].shape[1]
    total = np.zeros((len(labels), signs))
    for matrix in probs:
        total += matrix
    total[np.arange(len(labels)), labels] = -1
    rivals = min(RIVALS, signs - 1)
    return np.argpartition(-total, rivals - 1, axis=1)[:, :rivals]


class LogLoss:
    """Mean log of the true sign's probability, in nats: the log loss with its sign changed."""

    def __init__(self, own: np.ndarray) -> None:
        """own float32 [N, K]: each candidate's probability of the true sign."""
        self._own = own
        self.likelihoods = own.sum(axis=0, dtype=np.float64)

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        return cls(_likelihoods(probs, labels))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._own[rows])

    def state(self, counts: np.ndarray) -> State:
        members = np.flatnonzero(counts)
        return State(self._own[:, members].astype(np.float64) @ counts[members], int(counts.sum()))

    def score(self, state: State) -> float:
        if state.size == 0:
            return float(np.log(SMALLEST_PROBABILITY))
        return float(np.log(np.maximum(state.total / state.size, SMALLEST_PROBABILITY)).mean())

    def additions(self, state: State) -> np.ndarray:
        total = np.zeros(self._own.shape[1])
        smallest = np.float32(SMALLEST_PROBABILITY * (state.size + 1))
        step = max(1, BLOCK // len(total))
        sums = state.total.astype(np.float32)[:, None]
        for begin in range(0, len(sums), step):
            block = np.maximum(self._own[begin : begin + step] + sums[begin : begin + step], smallest)
            total += np.log(block, out=block).sum(axis=0, dtype=np.float64)
        scores: np.ndarray = total / len(sums) - np.log(state.size + 1)
        return scores


OBJECTIVES: Final[dict[str, type[Accuracy] | type[LogLoss]]] = {"accuracy": Accuracy, "log_loss": LogLoss}


def select(objective: Objective, costs: np.ndarray, capacity: np.ndarray) -> Selection:
    """The best ensemble found whose members' costs add up to no more than the capacity, in every dimension.

    ``costs`` float64 [K, D], at least 0; ``capacity`` float64 [D], infinite where there is no limit. A member is
    paid for once, however often it counts. Raises UnaffordableError if no candidate fits.
    """
    shares = _shares(costs, capacity)
    if not (costs <= capacity).all(axis=1).any():
        raise UnaffordableError(int(np.lexsort((*costs.T, shares))[0]))
    search = _Search(objective, costs, capacity, np.maximum(shares, 1e-9))
    best = max((search.improve(search.greedy(exponent)) for exponent in EXPONENTS), key=search.rank)
    return Selection(best, search.rank(best)[0])


def _shares(costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """The largest part of any limit that each candidate takes: float64 [K]; without limits, equal shares."""
    limited = np.isfinite(capacity)
    if not limited.any():
        return np.ones(len(costs))
    spent = np.divide(costs, capacity, out=np.full(costs.shape, np.inf), where=capacity > 0)
    shares: np.ndarray = spent[:, limited].max(axis=1)
    return shares


@dataclass(frozen=True)
class _Search:
    objective: Objective
    costs: np.ndarray
    capacity: np.ndarray
    shares: np.ndarray

    def fits(self, counts: np.ndarray) -> np.ndarray:
        """Which candidates may be counted once more: bool [K]."""
        members = counts > 0
        affordable = (self.costs[members].sum(axis=0) + self.costs <= self.capacity).all(axis=1)
        allowed: np.ndarray = members | affordable
        return allowed

    def rank(self, counts: np.ndarray) -> tuple[float, float]:
        """What ensembles are compared by: score, then how little of the budget they take."""
        return self.objective.score(self.objective.state(counts)), -float(self.shares[counts > 0].sum())

    def greedy(self, exponent: float) -> np.ndarray:
        """Counts of the best prefix of one greedy run that divides gains by (share of the budget) ** exponent."""
        counts = np.zeros(len(self.costs), np.int64)
        best, best_rank, stale = counts, self.rank(counts), 0
        while stale < PATIENCE and counts.sum() < MOST:
            state = self.objective.state(counts)
            gains = self.objective.additions(state) - self.objective.score(state)
            members = counts > 0
            price = np.where(members, self.shares.min(), self.shares) ** exponent
            worth = np.where(self.fits(counts), np.where(gains > 0, gains / price, gains), -np.inf)
            chosen = np.lexsort((self.objective.likelihoods, self.shares, ~members, -worth))[0]
            counts = counts.copy()
            counts[chosen] += 1
            stale += 1
            if (rank := self.rank(counts)) > best_rank:
                best, best_rank, stale = counts, rank, 0
        return best

    def improve(self, counts: np.ndarray) -> np.ndarray:
        """Remove, add or swap one count, or all of a member's, each time the best way, until nothing helps."""
        best_rank = self.rank(counts)
        while True:
            found = counts
            for base in self._reductions(counts):
                state = self.objective.state(base)
                scores = np.where(self.fits(base), self.objective.additions(state), -np.inf)
                added = np.lexsort((self.objective.likelihoods, self.shares, base == 0, -scores))[0]
                grown = base.copy()
                grown[added] += 1
                for changed in (base, grown):
                    if changed.any() and (rank := self.rank(changed)) > best_rank:
                        found, best_rank = changed, rank
            if found is counts:
                return counts
            counts = found

    def _reductions(self, counts: np.ndarray) -> Iterator[np.ndarray]:
        """The counts themselves, and with one or all of each member's counts taken away."""
        yield counts
        for k in np.flatnonzero(counts):
            for left in {counts[k] - 1, 0}:
                reduced = counts.copy()
                reduced[k] = left
                yield reduced
