"""Bagging over participants: what is chosen on many drawings of them, so that no single signer decides.

After Caruana et al. 2004, who bag over candidates; here those whom the selection saw are what varies. Measured, it does
not help (tests.bench.select, part ways), so it is off unless asked for.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ensemble.selection import greedy
from ensemble.selection.scores import Objective, State


@dataclass(frozen=True)
class ByParticipant:
    """An objective that knows whose each sequence is."""

    objective: Objective
    participants: np.ndarray
    """int64 [N]"""

    @property
    def likelihoods(self) -> np.ndarray:
        return self.objective.likelihoods

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self.objective.on(rows), self.participants[rows])

    def state(self, counts: np.ndarray) -> State:
        return self.objective.state(counts)

    def grown(self, state: State, k: int, times: int = 1) -> State:
        return self.objective.grown(state, k, times)

    def score(self, state: State) -> float:
        return self.objective.score(state)

    def additions(self, state: State) -> np.ndarray:
        return self.objective.additions(state)

    def exact(self, counts: np.ndarray) -> float:
        return self.objective.exact(counts)

    def draw(self, rng: np.random.Generator) -> Objective:
        """On the sequences of as many participants, drawn with replacement."""
        participants = np.unique(self.participants)
        drawn = rng.choice(participants, len(participants))
        return self.objective.on(np.concatenate([np.flatnonzero(self.participants == who) for who in drawn]))


def select(objective: Objective, costs: np.ndarray, capacity: np.ndarray, bags: int) -> np.ndarray:
    """Counts int64 [K] by the shares that candidates have, on average, in the ensembles selected on so many drawings:
    of the candidates with the largest shares, as many as fit the capacity together.

    The objective is a ByParticipant; costs and capacity are as in ``greedy.select``. Raises UnaffordableError if no
    candidate fits.
    """
    assert isinstance(objective, ByParticipant)
    rng = np.random.default_rng(0)
    drawn = [greedy.select(objective.draw(rng), costs, capacity).counts for _ in range(bags)]
    shares = np.mean([counts / counts.sum() for counts in drawn], axis=0)
    counts = np.zeros(len(costs), np.int64)
    for k in np.lexsort((objective.likelihoods, *costs.T, -shares)):
        if shares[k] and (costs[counts > 0].sum(axis=0) + costs[k] <= capacity).all():
            counts[k] = max(1, round(greedy.MOST * shares[k]))
    return counts
