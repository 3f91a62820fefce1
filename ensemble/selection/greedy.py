"""Selection: which candidates, counted how often, under a hard budget. Pure numpy; reads and writes nothing.

Caruana et al. 2004 (greedy selection with replacement, best prefix kept), made aware of costs. The greedy search runs
three times: by gain, and by gain per share of the budget, at two strengths. From each run's best prefix, members are
removed, swapped and added as long as that helps. The results and the best single candidate are compared by exact
scores; during the search accuracy is decided among the likeliest signs alone.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from ensemble.selection.scores import Score, State

PATIENCE: Final = 8  # greedy steps without a better prefix before a run ends
MOST: Final = 64  # largest sum of counts
EXPONENTS: Final = (0.0, 0.5, 1.0)  # of the share of the budget that a gain is divided by
SINGLES: Final = 16  # candidates alone, the best by the search, that are compared exactly at most
EXACT_MOST: Final = 12  # candidates whose subsets are all tried
TOLERANCE: Final = 1e-6  # scores closer than this are equal: less than one sequence in a million, or rounding


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
    """What the score gives it, on the labels that it was selected on; higher is better"""


def select(
    score: Score, costs: np.ndarray, capacity: np.ndarray, exact: bool = False, trials: np.ndarray | None = None
) -> Selection:
    """The best ensemble found whose members' costs add up to no more than the capacity, in every dimension.

    ``costs`` float64 [K, D], at least 0; ``capacity`` float64 [D], infinite where there is no limit. A member is
    paid for once, however often it counts. ``exact`` also tries every affordable set of candidates counted once, and
    improves the best of them; it asks for at most EXACT_MOST affordable candidates. Candidates with the same number in
    ``trials`` int64 [K] are one model at several precisions: at most one of them is a member, as another has nothing to
    add. Raises UnaffordableError if no candidate fits, and ValueError if there are too many for ``exact``.
    """
    require_affordable(costs, capacity)
    shares = shares_of(costs, capacity)
    trials = np.arange(len(costs)) if trials is None else trials
    search = _Search(score, costs, capacity, np.maximum(shares, 1e-9), trials)
    starts = [search.greedy(exponent) for exponent in EXPONENTS]
    if exact:
        starts.append(search.best_subset())
    different = {counts.tobytes(): counts for counts in starts}.values()
    finalists = [*(search.improve(counts) for counts in different), best_single(score, costs, capacity)]
    best = _Best(finalists[0])
    for found in finalists:
        best.offer(found, search.exact_rank(found))
    return Selection(best.counts, best.rank.score)


def best_single(score: Score, costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Counts int64 [K] of the best affordable candidate alone. Raises UnaffordableError if no candidate fits.

    Scores of the search are at least the exact ones, so that no candidate further down can be better than one found.
    """
    affordable = np.flatnonzero(require_affordable(costs, capacity))
    scores = score.additions(score.state(np.zeros(len(costs), np.int64)))
    order = np.lexsort((score.likelihoods, shares_of(costs, capacity), -scores))
    best, best_score = np.zeros(len(costs), np.int64), -np.inf
    for k in order[np.isin(order, affordable)][:SINGLES]:
        if scores[k] <= best_score:
            break
        alone = np.zeros(len(costs), np.int64)
        alone[k] = 1
        if (value := score.exact(alone)) > best_score + TOLERANCE:
            best, best_score = alone, value
    return best


def require_affordable(costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """Which candidates fit alone: bool [K]. Raises UnaffordableError, which names the closest, if none does."""
    fits = np.asarray((costs <= capacity).all(axis=1))
    if not fits.any():  # where not even the shared part fits, every share is infinite
        largest = np.maximum(costs.max(axis=0), np.finfo(np.float64).tiny)
        over = (np.maximum(costs - capacity, 0) / largest).max(axis=1)
        raise UnaffordableError(int(np.lexsort((*costs.T, over, shares_of(costs, capacity)))[0]))
    return fits


def shares_of(costs: np.ndarray, capacity: np.ndarray) -> np.ndarray:
    """The largest part of any limit that each candidate takes: float64 [K]; without limits, of what all take."""
    limited = np.isfinite(capacity)
    if not limited.any():
        capacity = costs.sum(axis=0)
        limited = capacity > 0
    spent = np.divide(costs, capacity, out=np.full(costs.shape, np.inf), where=capacity > 0)
    shares: np.ndarray = spent[:, limited].max(axis=1, initial=0.0)
    return shares


class _Rank(NamedTuple):
    """What ensembles are compared by."""

    score: float
    share: float
    """Of the budget, summed over members"""


NO_RANK: Final = _Rank(-np.inf, 0.0)


class _Best:
    """The best of what it was offered: what scores higher, or about the same for less."""

    def __init__(self, counts: np.ndarray, rank: _Rank = NO_RANK) -> None:
        self.counts, self.rank = counts, rank
        self._highest = rank.score

    def offer(self, counts: np.ndarray, rank: _Rank) -> bool:
        """Whether it is taken.

        Nothing scores about the same as the highest score but what is that near to it: by many small losses, each for
        less, one would come back to what was left behind for good, without end.
        """
        gain = rank.score - self.rank.score
        is_cheaper = rank.share < self.rank.share and rank.score >= self._highest - TOLERANCE
        if not (gain > TOLERANCE or is_cheaper):
            return False
        self.counts, self.rank = counts, rank
        self._highest = max(self._highest, rank.score)
        return True


@dataclass(frozen=True)
class _Search:
    score: Score
    costs: np.ndarray
    capacity: np.ndarray
    shares: np.ndarray
    trials: np.ndarray

    def fits(self, counts: np.ndarray) -> np.ndarray:
        """Which candidates may be counted once more: bool [K]."""
        members = counts > 0
        affordable = (self.costs[members].sum(axis=0) + self.costs <= self.capacity).all(axis=1)
        allowed: np.ndarray = members | (affordable & ~np.isin(self.trials, self.trials[members]))
        return allowed

    def rank(self, counts: np.ndarray) -> _Rank:
        return self._rank(self.score.value(self.score.state(counts)), counts)

    def exact_rank(self, counts: np.ndarray) -> _Rank:
        return self._rank(self.score.exact(counts), counts)

    def _rank(self, score: float, counts: np.ndarray) -> _Rank:
        return _Rank(float(score), float(self.shares[counts > 0].sum()))

    def greedy(self, exponent: float) -> np.ndarray:
        """Counts of the best prefix of one greedy run that divides gains by (share of the budget) ** exponent."""
        counts = np.zeros(len(self.costs), np.int64)
        state = self.score.state(counts)
        best, stale = _Best(counts), 0
        while stale < PATIENCE and state.size < MOST:
            scores = self.score.additions(state)
            gains = scores - self.score.value(state)
            price = np.where(counts > 0, self.shares.min(), self.shares) ** exponent
            chosen = self._best(np.where(gains > 0, gains / price, gains), counts)
            counts, state = counts.copy(), self.score.grown(state, chosen)
            counts[chosen] += 1
            stale = 0 if best.offer(counts, self._rank(scores[chosen], counts)) else stale + 1
        return best.counts

    def best_subset(self) -> np.ndarray:
        """Counts, all 0 or 1, of the best of all affordable subsets."""
        affordable = np.flatnonzero((self.costs <= self.capacity).all(axis=1))
        if len(affordable) > EXACT_MOST:
            raise ValueError(f"{len(affordable)} candidates have too many subsets to try; at most {EXACT_MOST} can be")
        best = _Best(np.zeros(len(self.costs), np.int64))
        for subset in itertools.product((0, 1), repeat=len(affordable)):
            counts = np.zeros(len(self.costs), np.int64)
            counts[affordable] = subset
            members = counts > 0
            are_different = len(np.unique(self.trials[members])) == members.sum()
            if members.any() and are_different and (self.costs[members].sum(axis=0) <= self.capacity).all():
                best.offer(counts, self.rank(counts))
        return best.counts

    def improve(self, counts: np.ndarray) -> np.ndarray:
        """Remove, add or swap one count, or all of a member's, each time the best way, until nothing helps."""
        best = _Best(counts, self.rank(counts))
        is_better = True
        while is_better:
            is_better = False
            for base, state in self._reductions(best.counts):
                if base.any():
                    is_better |= best.offer(base, self._rank(self.score.value(state), base))
                if state.size < MOST:
                    scores = self.score.additions(state)
                    grown = base.copy()
                    grown[added := self._best(scores, base)] += 1
                    is_better |= best.offer(grown, self._rank(scores[added], grown))
        return best.counts

    def _best(self, worth: np.ndarray, counts: np.ndarray) -> int:
        """The affordable candidate worth most; among equals a member, then the cheapest."""
        worth = np.where(self.fits(counts), worth, -np.inf)
        return int(np.lexsort((self.score.likelihoods, self.shares, counts == 0, -worth))[0])

    def _reductions(self, counts: np.ndarray) -> Iterator[tuple[np.ndarray, State]]:
        """The counts themselves, and with one or all of each member's counts taken away."""
        state = self.score.state(counts)
        yield counts, state
        for k in np.flatnonzero(counts).tolist():
            for fewer in {1, int(counts[k])}:
                reduced = counts.copy()
                reduced[k] -= fewer
                yield reduced, self.score.grown(state, k, -fewer)
