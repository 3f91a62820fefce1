"""Selection: which candidates, counted how often, under a hard budget. Pure numpy; reads and writes nothing.

Caruana et al. 2004 (greedy selection with replacement, best prefix kept), made aware of costs: the greedy runs
once by gain and once each by gain per share of the budget, at two strengths; then members are removed, swapped and
added for as long as that helps, from each run's best prefix. The best ensemble found is kept.

Only what can change a decision is computed. Log loss needs the true sign's probability alone. Accuracy needs
margins to each sequence's strongest rival signs, on the sequences that one more member can still flip; margins
of float16 probabilities add up exactly in float64, so nothing depends on the order of the candidates.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self

import numpy as np

from trainer.metrics import SMALLEST_PROBABILITY

RIVALS: Final = 16  # signs, beside the true one, that a sequence's accuracy is decided among during the search
PATIENCE: Final = 8  # greedy steps without a better prefix before a run ends
MOST: Final = 64  # largest sum of counts
EXPONENTS: Final = (0.0, 0.5, 1.0)  # of the share of the budget that a gain is divided by
EXACT_MOST: Final = 12  # candidates whose subsets are all tried
PRODUCT: Final = 4  # probabilities multiplied before one logarithm is taken; 1e-7 to the fourth is a normal float32
TOLERANCE: Final = 1e-6  # scores closer than this are equal: less than one sequence in a million, or rounding
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
        """margins float32 [K, rivals, N]: how far each candidate puts a rival above the true sign."""
        self.likelihoods = likelihoods
        self._margins = margins
        self._by_sequence = np.ascontiguousarray(margins.transpose(1, 2, 0))  # [rivals, N, K], for ``additions``
        self._high, self._low = margins.max(axis=0), margins.min(axis=0)

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        own = _likelihoods(probs, labels)
        rivals = _strongest_rivals(probs, labels)
        margins = np.empty((len(own), *rivals.T.shape), np.float32)
        for matrix, its_own, its_margins in zip(probs, own, margins, strict=True):
            its_margins[:] = np.take_along_axis(matrix, rivals, axis=1).T - its_own
        return cls(margins, own.sum(axis=1, dtype=np.float64))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._margins[:, :, rows], self.likelihoods)

    def state(self, counts: np.ndarray) -> State:
        total = np.zeros(self._margins.shape[1:])
        for k in np.flatnonzero(counts):
            total += np.multiply(self._margins[k], counts[k], dtype=np.float64)
        return State(total, int(counts.sum()))

    def score(self, state: State) -> float:
        return float((state.total < 0).all(axis=0).mean()) if state.size else 0.0

    def additions(self, state: State) -> np.ndarray:
        contested = state.total + self._high >= 0  # [rivals, N]: some candidate lets this rival win or draw
        stays_right = ~contested.any(axis=0)
        stays_wrong = (state.total + self._low >= 0).any(axis=0)
        rows = np.flatnonzero(~(stays_right | stays_wrong))
        limits = _round_up(-state.total)
        right = np.full(len(self._margins), stays_right.sum())
        step = max(1, BLOCK // len(self._margins))
        for begin in range(0, len(rows), step):
            block = rows[begin : begin + step]
            ahead = np.ones((len(block), len(self._margins)), np.bool_)
            for rival, its_contested in enumerate(contested[:, block]):
                places = np.flatnonzero(its_contested)
                chosen = block[places]
                ahead[places] &= self._by_sequence[rival, chosen] < limits[rival, chosen, None]
            right += ahead.sum(axis=0)
        scores: np.ndarray = right / state.total.shape[1]
        return scores


def _round_up(values: np.ndarray) -> np.ndarray:
    """The smallest float32 not below each float64, so that comparing float32 with it is comparing exactly."""
    rounded = values.astype(np.float32)
    limits: np.ndarray = np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return limits


def _likelihoods(probs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Probability of each true sign: float32 [K, N]."""
    rows = np.arange(len(labels))
    return np.stack([np.asarray(matrix[rows, labels], np.float32) for matrix in probs])


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
        """own float32 [K, N]: each candidate's probability of the true sign."""
        self.likelihoods = own.sum(axis=1, dtype=np.float64)
        self._own = own
        self._by_sequence = np.ascontiguousarray(own.T)

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        return cls(_likelihoods(probs, labels))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._own[:, rows])

    def state(self, counts: np.ndarray) -> State:
        total = np.zeros(self._own.shape[1])
        for k in np.flatnonzero(counts):
            total += np.multiply(self._own[k], counts[k], dtype=np.float64)
        return State(total, int(counts.sum()))

    def score(self, state: State) -> float:
        average = np.maximum(state.total / max(state.size, 1), SMALLEST_PROBABILITY)
        return float(np.log(average).mean())

    def additions(self, state: State) -> np.ndarray:
        total = np.zeros(len(self._own))
        average = (state.total / (state.size + 1)).astype(np.float32)[:, None]
        share = np.float32(1 / (state.size + 1))
        step = PRODUCT * max(1, BLOCK // (PRODUCT * len(self._own)))
        for begin in range(0, len(average), step):
            block = self._by_sequence[begin : begin + step] * share
            block += average[begin : begin + step]
            np.maximum(block, np.float32(SMALLEST_PROBABILITY), out=block)
            whole = len(block) // PRODUCT * PRODUCT
            products = block[:whole].reshape(-1, PRODUCT, len(self._own)).prod(axis=1)
            total += np.log(products).sum(axis=0, dtype=np.float64) + np.log(block[whole:]).sum(axis=0)
        scores: np.ndarray = total / len(average)
        return scores


OBJECTIVES: Final[dict[str, type[Accuracy] | type[LogLoss]]] = {"accuracy": Accuracy, "log_loss": LogLoss}


def select(objective: Objective, costs: np.ndarray, capacity: np.ndarray, exact: bool = False) -> Selection:
    """The best ensemble found whose members' costs add up to no more than the capacity, in every dimension.

    ``costs`` float64 [K, D], at least 0; ``capacity`` float64 [D], infinite where there is no limit. A member is
    paid for once, however often it counts. ``exact`` also tries every affordable set of candidates counted once, and
    improves the best of them; it asks for at most EXACT_MOST affordable candidates. Raises UnaffordableError if no
    candidate fits, and ValueError if there are too many for ``exact``.
    """
    shares = _shares(costs, capacity)
    if not (costs <= capacity).all(axis=1).any():
        raise UnaffordableError(int(np.lexsort((*costs.T, shares))[0]))
    search = _Search(objective, costs, capacity, np.maximum(shares, 1e-9))
    starts = [search.greedy(exponent) for exponent in EXPONENTS]
    if exact:
        starts.append(search.best_subset())
    best, *others = (search.improve(counts) for counts in starts)
    for found in others:
        if search.rank(found).beats(search.rank(best)):
            best = found
    return Selection(best, search.rank(best).score)


def _shares(costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """The largest part of any limit that each candidate takes: float64 [K]; without limits, equal shares."""
    limited = np.isfinite(capacity)
    if not limited.any():
        return np.ones(len(costs))
    spent = np.divide(costs, capacity, out=np.full(costs.shape, np.inf), where=capacity > 0)
    shares: np.ndarray = spent[:, limited].max(axis=1)
    return shares


class _Rank(NamedTuple):
    """What ensembles are compared by."""

    score: float
    share: float
    """Of the budget, summed over members"""

    def beats(self, other: "_Rank") -> bool:
        """Scores higher, or about the same for less."""
        gain = self.score - other.score
        return gain > TOLERANCE or (gain >= -TOLERANCE and self.share < other.share)


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

    def rank(self, counts: np.ndarray) -> _Rank:
        return self._rank(self.objective.score(self.objective.state(counts)), counts)

    def _rank(self, score: float, counts: np.ndarray) -> _Rank:
        return _Rank(float(score), float(self.shares[counts > 0].sum()))

    def greedy(self, exponent: float) -> np.ndarray:
        """Counts of the best prefix of one greedy run that divides gains by (share of the budget) ** exponent."""
        counts = np.zeros(len(self.costs), np.int64)
        best, best_rank, stale = counts, _Rank(-np.inf, 0.0), 0
        while stale < PATIENCE and counts.sum() < MOST:
            state = self.objective.state(counts)
            scores = self.objective.additions(state)
            gains = scores - self.objective.score(state)
            price = np.where(counts > 0, self.shares.min(), self.shares) ** exponent
            chosen = self._best(np.where(gains > 0, gains / price, gains), counts)
            counts = counts.copy()
            counts[chosen] += 1
            stale += 1
            if (rank := self._rank(scores[chosen], counts)).beats(best_rank):
                best, best_rank, stale = counts, rank, 0
        return best

    def best_subset(self) -> np.ndarray:
        """Counts, all 0 or 1, of the best of all affordable subsets."""
        affordable = np.flatnonzero((self.costs <= self.capacity).all(axis=1))
        if len(affordable) > EXACT_MOST:
            raise ValueError(f"{len(affordable)} candidates have too many subsets to try; at most {EXACT_MOST} can be")
        best, best_rank = np.zeros(len(self.costs), np.int64), _Rank(-np.inf, 0.0)
        for subset in itertools.product((0, 1), repeat=len(affordable)):
            counts = np.zeros(len(self.costs), np.int64)
            counts[affordable] = subset
            if counts.any() and (self.costs[counts > 0].sum(axis=0) <= self.capacity).all():
                rank = self.rank(counts)
                if rank.beats(best_rank):
                    best, best_rank = counts, rank
        return best

    def improve(self, counts: np.ndarray) -> np.ndarray:
        """Remove, add or swap one count, or all of a member's, each time the best way, until nothing helps."""
        best_rank = self.rank(counts)
        while True:
            found = counts
            for base in self._reductions(counts):
                state = self.objective.state(base)
                scores = self.objective.additions(state)
                grown = base.copy()
                grown[added := self._best(scores, base)] += 1
                for changed, score in ((base, self.objective.score(state)), (grown, scores[added])):
                    if changed.any() and (rank := self._rank(score, changed)).beats(best_rank):
                        found, best_rank = changed, rank
            if found is counts:
                return counts
            counts = found

    def _best(self, worth: np.ndarray, counts: np.ndarray) -> int:
        """The affordable candidate worth most; among equals a member, then the cheapest."""
        worth = np.where(self.fits(counts), worth, -np.inf)
        return int(np.lexsort((self.objective.likelihoods, self.shares, counts == 0, -worth))[0])

    def _reductions(self, counts: np.ndarray) -> Iterator[np.ndarray]:
        """The counts themselves, and with one or all of each member's counts taken away."""
        yield counts
        for k in np.flatnonzero(counts):
            for left in {counts[k] - 1, 0}:
                reduced = counts.copy()
                reduced[k] = left
                yield reduced
