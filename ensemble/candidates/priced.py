"""Candidates with what each costs: the one object that selection, evaluation and shipping take."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ensemble.budget import COSTS, Budget, Cost
from ensemble.candidates.pool import Pool, require_any


@dataclass(frozen=True)
class PricedPool:
    """A pool whose candidates were measured.

    >>> priced.costs_of("size")[0], str(priced.alone(0))  # doctest: +SKIP
    """

    pool: Pool
    base: Cost
    """What every ensemble costs before it has a member"""
    costs: np.ndarray
    """float64 [K, len(COSTS)], at least 0: what each candidate adds, a column per cost in the order of COSTS"""

    def without(self, reasons: Mapping[str, str]) -> "PricedPool":
        """The pool without some trials, in any precision, that are left out for these reasons.

        Raises UserError if none is left.
        """
        stay = [k for k, candidate in enumerate(self.pool.candidates) if candidate.name not in reasons]
        candidates, left_out = [self.pool.candidates[k] for k in stay], {**self.pool.left_out, **reasons}
        require_any(self.pool.studies, candidates, left_out)
        return PricedPool(self.pool.replace(candidates=candidates, left_out=left_out), self.base, self.costs[stay])

    @property
    def trials(self) -> np.ndarray:
        """A number for each candidate, the same for those that are one trial at several precisions: int64 [K]."""
        _, numbers = np.unique([candidate.name for candidate in self.pool.candidates], return_inverse=True)
        return numbers

    def costs_of(self, name: str) -> np.ndarray:
        """What each candidate adds of one cost: float64 [K]."""
        column: np.ndarray = self.costs[:, list(COSTS).index(name)]
        return column

    def added(self, k: int) -> Cost:
        """What candidate k adds."""
        return Cost.from_array(self.costs[k])

    def alone(self, k: int) -> Cost:
        """The estimated cost of candidate k's own file."""
        return Cost.from_array(self.base.to_array() + self.costs[k])

    def total(self, counts: np.ndarray) -> Cost:
        """The estimated cost of an ensemble's file, from its counts int64 [K]; a member costs once."""
        return Cost.from_array(self.base.to_array() + self.costs[counts > 0].sum(axis=0))

    def room(self, budget: Budget) -> np.ndarray:
        """What a budget leaves for members: float64 [len(COSTS)], infinite where there is no limit."""
        room: np.ndarray = budget.to_array() - self.base.to_array()
        return room
