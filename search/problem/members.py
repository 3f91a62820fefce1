"""--objective ensemble: a trial is scored by what it adds to the best ensemble that the finished trials can make.

After Levesque, Gagne and Sabourin 2016 (Bayesian hyperparameter optimization for ensemble learning), who score a model
by the ensemble that it completes, and all models anew whenever that changes. Here an ensemble is made whenever a trial
ends, of the trials that have ended before, within --budget: greedily, with replacement (Caruana et al. 2004), the best
prefix kept, and with room for one more. The trial's score is its own, alone, plus what the ensemble gains by it or
loses. It is decided once and never changed, so a resumed search has the scores of an undisturbed one; the trial's own
part is what makes scores comparable, while ensembles get better as the search goes on and are gained less by.

Scores are accuracy plus mean log likelihood, of which a nat counts as ten sequences, as in ensemble.select by default.
Trials' predictions stay on disk, memory-mapped; ensembles are weighed on what can decide alone, the true signs'
probabilities and how far the strongest others are above them.
A member costs its parameters, and on disk two bytes for each of them, as in a float16 file; ensemble.select measures.
Pure numpy; reads and writes nothing.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from trainer.common.units import parse_limits
from trainer.metrics import SEQUENCES_PER_NAT, SMALLEST_PROBABILITY

EXAMPLE: Final = "5.1M,40MB,3models"
BYTES_PER_PARAMETER: Final = 2
RIVALS: Final = 8  # signs, beside the true one, among which a sequence is decided: the likeliest over all trials
TOLERANCE: Final = 1e-9  # scores closer than this are equal
PATIENCE: Final = 4  # greedy steps without a better prefix before it ends
MOST: Final = 64  # greedy steps: likelihoods can grow by less and less for thousands
_UNITS: Final = {
    "k": ("parameters", 1e3),
    "m": ("parameters", 1e6),
    "kb": ("size", 1e3),
    "mb": ("size", 1e6),
    "model": ("members", 1.0),
    "models": ("members", 1.0),
}


@dataclass(frozen=True, kw_only=True)
class MemberBudget:
    """Hard limits on an ensemble; infinity where none was asked for."""

    parameters: float = math.inf
    size: float = math.inf
    """Bytes"""
    members: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a budget such as "5.1M,40MB,3models". Raises ValueError with an example."""
        for part in text.split(","):
            if part.strip().lower().endswith("ms"):
                raise ValueError(
                    f"{part.strip()!r}: milliseconds are measured by ensemble.select; limit parameters or size here, "
                    f"for example {EXAMPLE}"
                )
        return cls(**parse_limits(text, _UNITS, EXAMPLE))

    def to_array(self) -> np.ndarray:
        """float64 [3]: parameters, bytes, members"""
        return np.array([self.parameters, self.size, self.members])

    @property
    def largest(self) -> float:
        """Parameters of the largest model that fits it alone; at most infinite."""
        return min(self.parameters, self.size / BYTES_PER_PARAMETER)


def costs_of(parameters: int) -> np.ndarray:
    """What a member of so many parameters takes, in the order of ``MemberBudget.to_array``."""
    return np.array([parameters, BYTES_PER_PARAMETER * parameters, 1.0])


@dataclass(frozen=True)
class Contribution:
    """What a trial came to as a member."""

    score: float
    beside: list[int]
    """Trials of the ensemble that it was added to, each as often as it counts, in ascending order"""


class Members:
    """The finished trials as members: their predictions of the validation sequences, and what they cost."""

    def __init__(self, labels: np.ndarray, budget: MemberBudget) -> None:
        """labels int64 [N]: of the validation sequences, in the order of every trial's predictions."""
        self._labels = labels
        self._capacity = budget.to_array()
        self._probs: dict[int, np.ndarray] = {}
        self._costs: dict[int, np.ndarray] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._probs

    def add(self, number: int, probs: np.ndarray, parameters: int) -> None:
        """A finished trial: its probabilities [N, signs] and its size."""
        self._probs[number] = probs
        self._costs[number] = costs_of(parameters)

    def contribution(self, probs: np.ndarray, parameters: int) -> Contribution:
        """Of a trial that has ended, with its probabilities [N, signs], to those added before."""
        cost = costs_of(parameters)
        numbers = sorted(self._probs)  # whatever order they were added in
        table = _Table([*(self._probs[number] for number in numbers), probs], self._labels)
        costs = np.array([self._costs[number] for number in numbers]).reshape(-1, len(cost))
        chosen = table.greedy(costs, self._capacity - cost)
        score = table.scores([])[-1]
        if chosen:
            score += table.scores(chosen)[-1] - table.scores(chosen[:-1])[chosen[-1]]
        return Contribution(float(score), sorted(numbers[row] for row in chosen))


class _Table:
    """What decides the scores of ensembles of K models on N sequences."""

    def __init__(self, probs: list[np.ndarray], labels: np.ndarray) -> None:
        """From K matrices [N, signs], each read twice."""
        rows = np.arange(len(labels))
        total: np.ndarray = np.zeros(probs[0].shape, np.float32)
        for matrix in probs:
            total += matrix
        total[rows, labels] = -1.0
        count = min(RIVALS, total.shape[1] - 1)
        rivals = np.argpartition(-total, count - 1, axis=1)[:, :count]
        self._own = np.array([matrix[rows, labels] for matrix in probs], np.float32)
        self._margins = np.empty((*self._own.shape, count), np.float32)
        for matrix, own, margins in zip(probs, self._own, self._margins, strict=True):
            margins[:] = np.take_along_axis(matrix, rivals, axis=1) - own[:, None]

    def scores(self, chosen: list[int]) -> np.ndarray:
        """Of the chosen rows, each as often as it is named, with one more of each row: float64 [K]."""
        own = self._own[chosen].sum(axis=0, dtype=np.float64)
        margins = self._margins[chosen].sum(axis=0, dtype=np.float64)
        found = np.empty(len(self._own))
        for row in range(len(found)):
            right = (margins + self._margins[row] < 0).all(axis=1)
            likelihood = np.maximum((own + self._own[row]) / (len(chosen) + 1), SMALLEST_PROBABILITY)
            found[row] = right.mean() + SEQUENCES_PER_NAT / len(right) * np.log(likelihood).mean()
        return found

    def greedy(self, costs: np.ndarray, capacity: np.ndarray) -> list[int]:
        """Of the first rows, which have these costs [<= K, D]: the best prefix, in the order of choice."""
        chosen: list[int] = []
        best, best_score = 0, -math.inf
        while len(chosen) < min(best + PATIENCE, MOST):
            left = capacity - costs[sorted(set(chosen))].sum(axis=0)
            fits = (costs <= left).all(axis=1)
            fits[chosen] = True  # they are paid for
            if not fits.any():
                break
            scores = np.where(fits, self.scores(chosen)[: len(costs)], -math.inf)
            row = int(scores.argmax())
            chosen.append(row)
            if scores[row] > best_score + TOLERANCE:
                best, best_score = len(chosen), float(scores[row])
        return chosen[:best]
