"""Pools of candidates whose predictions look like a search's: what the selection benchmarks run on.

A sequence is as hard for all candidates as its signer, its sign and its own luck make it; it is confused with a few
signs, mostly the same for everyone. Candidates of one shape share part of what is left of their errors; larger ones
are better on average, with diminishing returns and exceptions, and cost more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from ensemble.candidates.opening import open_pool

PLAUSIBLE: Final = 16  # signs that a sequence is ever taken for, the true one among them
SHAPES: Final = 12  # of models, in a pool
SHARE: Final = 0.4  # of the variance of candidates' own errors that those of one shape have in common
SURE: Final = 0.99  # probability of all plausible signs together


@dataclass(frozen=True)
class Sequences:
    """What all candidates of a pool are asked."""

    labels: np.ndarray
    """int64 [N]"""
    participants: np.ndarray
    """int64 [N]"""
    plausible: np.ndarray
    """int64 [N, PLAUSIBLE]: signs, the true one first"""
    evidence: np.ndarray
    """float32 [N, PLAUSIBLE]: for each of them, as every candidate sees it"""
    signs: int


@dataclass(frozen=True)
class Candidates:
    """What makes them differ."""

    costs: np.ndarray
    """float64 [K]: milliseconds; several of one shape cost about the same"""
    shapes: np.ndarray
    """int64 [K]"""
    sharpness: np.ndarray
    """float64 [K]: how much evidence outweighs the candidate's own errors"""


def make_sequences(count: int, signs: int, participants: int, rng: np.random.Generator) -> Sequences:
    """Draw sequences of signs by participants: some of both are harder than others."""
    labels, who = rng.integers(0, signs, count), np.sort(rng.integers(0, participants, count))
    others = rng.integers(0, signs - 1, (signs, PLAUSIBLE - 1))  # what a sign is confused with
    others += others >= np.arange(signs)[:, None]
    plausible = np.concatenate([labels[:, None], others[labels]], axis=1)
    evidence = rng.normal(size=(count, PLAUSIBLE)) - 0.2 * np.arange(PLAUSIBLE)
    evidence[:, 0] = 2.2 + rng.normal(0, 1.6, count)
    evidence[:, 0] += rng.normal(0, 0.5, participants)[who] + rng.normal(0, 0.5, signs)[labels]
    return Sequences(labels, who, plausible, evidence.astype(np.float32), signs)


def make_candidates(count: int, rng: np.random.Generator) -> Candidates:
    """Draw candidates from 1 to 30 ms, of SHAPES shapes."""
    shape_costs = np.exp(rng.uniform(0, np.log(30), SHAPES))
    shapes = rng.integers(0, SHAPES, count)
    costs = shape_costs[shapes] * np.exp(rng.normal(0, 0.03, count))
    sharpness = 1.0 + 0.25 * np.log(costs) + rng.normal(0, 0.35, count)
    return Candidates(costs, shapes, np.clip(sharpness, 0.3, None))


def predictions(sequences: Sequences, candidates: Candidates, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Each candidate's probabilities, float16 [N, signs]."""
    count = len(sequences.labels)
    size = sequences.evidence.shape
    participants = int(sequences.participants.max()) + 1
    common = [rng.standard_normal(size, np.float32) for _ in range(SHAPES)]
    rows = np.arange(count)[:, None]
    for shape, sharpness in zip(candidates.shapes, candidates.sharpness, strict=True):
        own = rng.standard_normal(size, np.float32)
        errors = np.float32(SHARE**0.5) * common[shape] + np.float32((1 - SHARE) ** 0.5) * own
        logits = np.float32(sharpness) * sequences.evidence + np.float32(1.2) * errors
        logits[:, 0] += rng.normal(0, 0.4, participants).astype(np.float32)[
            sequences.participants
        ]  # suits some signers
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs = np.full((count, sequences.signs), (1 - SURE) / sequences.signs, np.float16)
        probs[rows, sequences.plausible] = SURE * odds / odds.sum(axis=1, keepdims=True)
        yield probs


@dataclass(frozen=True)
class Problem:
    """A pool, and sequences of participants that a selection may not see."""

    seen: list[np.ndarray]
    """float16 [N, signs], of K candidates"""
    seen_labels: np.ndarray
    unseen: list[np.ndarray]
    unseen_labels: np.ndarray
    costs: np.ndarray
    """float64 [K]"""

    def unseen_accuracy(self, weights: np.ndarray) -> float:
        """Of an ensemble's weights [K], in percent; NaN if it has no members."""
        if not weights.any():
            return float("nan")
        parts = [np.float32(weights[k]) * self.unseen[k].astype(np.float32) for k in np.flatnonzero(weights)]
        total = np.sum(parts, axis=0)
        return 100 * float((total.argmax(axis=1) == self.unseen_labels).mean())

    @classmethod
    def split(
        cls,
        probs: list[np.ndarray],
        labels: np.ndarray,
        is_seen: np.ndarray,
        costs: np.ndarray,
    ) -> Self:
        """From matrices of all sequences; ``is_seen`` bool [N]."""
        return cls(
            seen=[matrix[is_seen] for matrix in probs],
            seen_labels=labels[is_seen],
            unseen=[matrix[~is_seen] for matrix in probs],
            unseen_labels=labels[~is_seen],
            costs=costs,
        )


def generated(seed: int, count: int = 64, signs: int = 60, per_participant: int = 400) -> Problem:
    """A pool by its seed: 3 participants seen, 10 unseen."""
    rng = np.random.default_rng(seed)
    sequences = make_sequences(13 * per_participant, signs, 13, rng)
    candidates = make_candidates(count, rng)
    probs = list(predictions(sequences, candidates, rng))
    participants = sequences.participants
    return Problem.split(probs, sequences.labels, participants < 3, candidates.costs)


def large_pool(count: int) -> tuple[Iterator[np.ndarray], np.ndarray]:
    """Matrices of 10,000 sequences x 250 signs, made as they are asked for, and the labels."""
    rng = np.random.default_rng(0)
    sequences = make_sequences(10_000, 250, 20, rng)
    return predictions(sequences, make_candidates(count, rng), rng), sequences.labels


def of_study(study: Path, halves: int = 5) -> list[Problem]:
    """A study's candidates; half of its validation participants seen, the others not, and the other way round.

    As many times as asked for, the halves drawn anew, always the same ones. Costs are parameters.
    """
    pool = open_pool(study)
    probs = [np.array(matrix) for matrix in pool.val_probs]
    costs = np.array([float(candidate.num_parameters) for candidate in pool.candidates])
    people = np.unique(pool.validation.participants)
    rng = np.random.default_rng(0)
    drawn = [np.isin(pool.validation.participants, rng.permutation(people)[: len(people) // 2]) for _ in range(halves)]
    splits = [is_seen for half in drawn for is_seen in (half, ~half)]
    return [Problem.split(probs, pool.validation.labels, is_seen, costs) for is_seen in splits]
