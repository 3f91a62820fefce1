"""Candidates with what each costs: the one object that selection, evaluation and shipping take."""

from dataclasses import dataclass

import numpy as np

from ensemble.budget import COSTS, Budget, Cost
from ensemble.candidates.pool import Pool


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
