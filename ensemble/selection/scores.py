"""Scores that ensembles are selected by. Pure numpy; reads and writes nothing.

Only what can change a decision is computed. Log loss needs the true sign's probability alone. Accuracy needs
margins to each sequence's strongest rival signs, on the sequences that one more member can still flip; margins
of float16 probabilities add up exactly in float64, so nothing depends on the order of the candidates.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from trainer.metrics import SEQUENCES_PER_NAT, SMALLEST_PROBABILITY

OTHER_SIGNS: Final = 16  # that a sequence's accuracy is decided among during the search
PRODUCT: Final = 32  # probabilities multiplied before one logarithm is taken; 1e-7 to that power is a normal float64
BLOCK: Final = 1 << 19  # numbers worked on at a time, so that they stay in the cache


@dataclass(frozen=True)
class State:
    """An ensemble as a Score sees it: the sum of its members' contributions, and the sum of their counts."""

    total: np.ndarray
    size: int


class Score(Protocol):
    """Scores ensembles of a fixed pool of K candidates on fixed labels; higher is better."""

    @property
    def likelihoods(self) -> np.ndarray:
        """A number per candidate that breaks ties whatever their order: float64 [K]"""

    def on(self, rows: np.ndarray) -> Self:
        """The same score on some of the sequences only, by their indices int64."""

    def state(self, counts: np.ndarray) -> State:
        """The state of an ensemble with counts int64 [K]."""

    def grown(self, state: State, k: int, times: int = 1) -> State:
        """The state after counting candidate k ``times`` more (or less, if negative): exactly what ``state`` gives."""

    def value(self, state: State) -> float:
        """The score of a state, decided among the likeliest signs."""

    def additions(self, state: State) -> np.ndarray:
        """Scores float64 [K] after counting each candidate once more."""

    def exact(self, counts: np.ndarray) -> float:
        """The score of an ensemble with counts int64 [K] among all signs, of which ``value`` may leave some out."""


class Accuracy:
    """Share of sequences whose true sign has the largest probability; a tie for the largest counts as an error."""

    def __init__(
        self,
        margins: np.ndarray,
        likelihoods: np.ndarray,
        probs: Sequence[np.ndarray],
        labels: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """margins float32 [K, rivals, N]: how far each candidate puts a rival above the true sign; ``rows`` int64 [N]
        are the places of the sequences in the matrices and labels."""
        self.likelihoods = likelihoods
        self._probs, self._labels, self._rows = probs, labels, rows
        self._margins = margins
        self._by_sequence = np.ascontiguousarray(margins.transpose(1, 2, 0))  # [rivals, N, K], for ``additions``
        self._high, self._low = margins.max(axis=0), margins.min(axis=0)

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        return cls.from_own(probs, labels, *_own_and_total(probs, labels))

    @classmethod
    def from_own(cls, probs: Sequence[np.ndarray], labels: np.ndarray, own: np.ndarray, total: np.ndarray) -> Self:
        """The same, where ``_own_and_total`` is known."""
        rivals = _strongest_rivals(total, labels)
        margins = np.empty((len(own), *rivals.T.shape), np.float32)
        for matrix, its_own, its_margins in zip(probs, own, margins, strict=True):
            its_margins[:] = np.take_along_axis(matrix, rivals, axis=1).T - its_own
        return cls(margins, own.sum(axis=1, dtype=np.float64), probs, labels, np.arange(len(labels)))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._margins[:, :, rows], self.likelihoods, self._probs, self._labels, self._rows[rows])

    def state(self, counts: np.ndarray) -> State:
        return _summed(self._margins, counts)

    def grown(self, state: State, k: int, times: int = 1) -> State:
        return _grown(self._margins, state, k, times)

    def value(self, state: State) -> float:
        return float((state.total < 0).all(axis=0).mean()) if state.size else 0.0

    def additions(self, state: State) -> np.ndarray:
        contested = state.total + self._high >= 0  # [rivals, N]: some candidate lets this rival win or draw
        stays_right = ~contested.any(axis=0)
        stays_wrong = (state.total + self._low >= 0).any(axis=0)
        rows = np.flatnonzero(~(stays_right | stays_wrong))
        right = np.full(len(self._margins), stays_right.sum())
        step = max(1, BLOCK // len(self._margins))
        for begin in range(0, len(rows), step):
            block = rows[begin : begin + step]
            limits = _round_up(-state.total[:, block])
            ahead = np.ones((len(block), len(self._margins)), np.bool_)
            for rival, its_contested in enumerate(contested[:, block]):
                places = np.flatnonzero(its_contested)
                ahead[places] &= self._by_sequence[rival, block[places]] < limits[rival, places, None]
            right += ahead.sum(axis=0)
        scores: np.ndarray = right / state.total.shape[1]
        return scores

    def exact(self, counts: np.ndarray) -> float:
        members = np.flatnonzero(counts).tolist()
        parts = (np.multiply(self._probs[k][self._rows], counts[k], dtype=np.float64) for k in members)
        total: np.ndarray = functools.reduce(np.add, parts)
        true = np.arange(len(total)), self._labels[self._rows]
        own = total[true]
        total[true] = -1
        return float((own > total.max(axis=1)).mean())


def _summed(contributions: np.ndarray, counts: np.ndarray) -> State:
    """Of the counts int64 [K] of an ensemble, from what each candidate contributes, float32 [K, ...]."""
    total = np.zeros(contributions.shape[1:])
    for k in np.flatnonzero(counts):
        total += np.multiply(contributions[k], counts[k], dtype=np.float64)
    return State(total, int(counts.sum()))


def _grown(contributions: np.ndarray, state: State, k: int, times: int) -> State:
    """``state`` with what candidate k contributes, float32 [K, ...], added so many times: what ``_summed`` gives."""
    return State(state.total + np.multiply(contributions[k], times, dtype=np.float64), state.size + times)


def _round_up(values: np.ndarray) -> np.ndarray:
    """The smallest float32 not below each float64, so that comparing float32 with it is comparing exactly."""
    rounded = values.astype(np.float32)
    limits: np.ndarray = np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)
    return limits


def _likelihoods(probs: Sequence[np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Probability of each true sign: float32 [K, N]."""
    rows = np.arange(len(labels))
    return np.stack([np.asarray(matrix[rows, labels], np.float32) for matrix in probs])


def _own_and_total(probs: Sequence[np.ndarray], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``_likelihoods``, and the sum of all matrices, float64 [N, signs]: from reading each matrix once."""
    own = np.empty((len(probs), len(labels)), np.float32)
    total = np.zeros(probs[0].shape)
    rows = np.arange(len(labels))
    for matrix, its_own in zip(probs, own, strict=True):
        its_own[:] = matrix[rows, labels]
        total += matrix
    return own, total


def _strongest_rivals(total: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The signs likeliest on average over all candidates, the true one left out: int64 [N, at most OTHER_SIGNS]."""
    total = total.copy()
    total[np.arange(len(labels)), labels] = -1
    rivals = min(OTHER_SIGNS, total.shape[1] - 1)
    return np.argpartition(-total, rivals - 1, axis=1)[:, :rivals]


class LogLoss:
    """Mean log of the true sign's probability, in nats: the log loss with its sign changed."""

    def __init__(self, own: np.ndarray) -> None:
        """own float32 [K, N]: each candidate's probability of the true sign."""
        self.likelihoods = own.sum(axis=1, dtype=np.float64)
        self._own = own

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        return cls(_likelihoods(probs, labels))

    @property
    def sequences(self) -> int:
        return int(self._own.shape[1])

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._own[:, rows])

    def state(self, counts: np.ndarray) -> State:
        return _summed(self._own, counts)

    def grown(self, state: State, k: int, times: int = 1) -> State:
        return _grown(self._own, state, k, times)

    def value(self, state: State) -> float:
        average = np.maximum(state.total / max(state.size, 1), SMALLEST_PROBABILITY)
        return float(np.log(average).mean())

    def additions(self, state: State) -> np.ndarray:
        least = np.float32((state.size + 1) * SMALLEST_PROBABILITY)
        before = state.total.astype(np.float32)
        clipped = bool((before < least).any())
        whole = len(before) // PRODUCT * PRODUCT
        total = np.empty(len(self._own))
        step = max(1, BLOCK // len(before))
        for begin in range(0, len(total), step):
            grown = self._own[begin : begin + step] + before
            if clipped:
                np.maximum(grown, least, out=grown)
            factors = grown[:, :whole].reshape(len(grown), PRODUCT, -1)
            logs = np.log(np.multiply.reduce(factors, axis=1, dtype=np.float64)).sum(axis=1)
            total[begin : begin + step] = logs + np.log(grown[:, whole:]).sum(axis=1, dtype=np.float64)
        scores: np.ndarray = total / len(before) - np.log(state.size + 1)
        return scores

    def exact(self, counts: np.ndarray) -> float:
        return self.value(self.state(counts))


class Blend:
    """Accuracy, and likelihood where that says little: a nat of mean log likelihood counts as ``per_nat`` sequences.

    Accuracy alone moves in steps of a sequence, so that of many ensembles the luckiest wins; the likelihood, which
    every sequence has a say in, tells those apart. The more sequences, the less luck, and the less it counts.
    """

    def __init__(self, accuracy: Accuracy, log_loss: LogLoss, per_nat: float = SEQUENCES_PER_NAT) -> None:
        """The two of one pool, on the same labels."""
        self.likelihoods = accuracy.likelihoods
        self._accuracy, self._log_loss, self._per_nat = accuracy, log_loss, per_nat
        self._weight = per_nat / max(log_loss.sequences, 1)

    @classmethod
    def of(cls, probs: Sequence[np.ndarray], labels: np.ndarray) -> Self:
        """From K matrices [N, signs] and labels int64 [N]."""
        own, total = _own_and_total(probs, labels)
        return cls(Accuracy.from_own(probs, labels, own, total), LogLoss(own))

    def on(self, rows: np.ndarray) -> Self:
        return type(self)(self._accuracy.on(rows), self._log_loss.on(rows), self._per_nat)

    def state(self, counts: np.ndarray) -> State:
        margins, own = self._accuracy.state(counts), self._log_loss.state(counts)
        return State(np.concatenate([margins.total, own.total[None]]), margins.size)

    def grown(self, state: State, k: int, times: int = 1) -> State:
        margins, own = self._parts(state)
        margins, own = self._accuracy.grown(margins, k, times), self._log_loss.grown(own, k, times)
        return State(np.concatenate([margins.total, own.total[None]]), margins.size)

    def value(self, state: State) -> float:
        margins, own = self._parts(state)
        return self._accuracy.value(margins) + self._weight * self._log_loss.value(own)

    def additions(self, state: State) -> np.ndarray:
        margins, own = self._parts(state)
        return self._accuracy.additions(margins) + self._weight * self._log_loss.additions(own)

    def exact(self, counts: np.ndarray) -> float:
        return self._accuracy.exact(counts) + self._weight * self._log_loss.exact(counts)

    @staticmethod
    def _parts(state: State) -> tuple[State, State]:
        return State(state.total[:-1], state.size), State(state.total[-1], state.size)


SCORES: Final[dict[str, type[Accuracy] | type[LogLoss] | type[Blend]]] = {
    "blend": Blend,
    "accuracy": Accuracy,
    "log_loss": LogLoss,
}
MEASURES: Final = {
    "blend": f"accuracy + {SEQUENCES_PER_NAT:g} / sequences x mean log likelihood",
    "accuracy": "accuracy",
    "log_loss": "mean log likelihood (log loss with its sign changed)",
}
"""The formula of each score, for the reader; higher is better"""
