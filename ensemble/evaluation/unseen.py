"""Accuracy on people whom the selection never saw: chosen on all validation participants but one, reported on that one,
for each in turn. What was selected on the same labels that it is reported on looks better than it is.
"""

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich import box
from rich.table import Table

from ensemble.candidates.pool import Pool
from ensemble.selection import baselines
from ensemble.selection.scores import Objective
from trainer.common.console import track

RESAMPLES: Final = 10_000
FEWEST: Final = 6  # participants; intervals over fewer span little more than their worst and best
INTERVAL: Final = 0.95
Interval = tuple[float, float]


@dataclass(frozen=True)
class Accuracies:
    """Share of sequences that are right."""

    ensemble: float
    single: float
    """The best single candidate that fits the budget"""


@dataclass(frozen=True)
class Unseen(Accuracies):
    """Of participants that the selection did not see, with bootstrap intervals over participants."""

    participants: int
    ensemble_interval: Interval
    single_interval: Interval
    gain_interval: Interval
    """Of the ensemble's accuracy less the single candidate's"""

    @property
    def single_is_as_good(self) -> bool | None:
        """Whether nothing says that the ensemble is better; None where participants are too few to say anything."""
        return None if self.participants < FEWEST else self.gain_interval[0] <= 0


def seen_accuracies(
    pool: Pool, objective: Objective, costs: np.ndarray, capacity: np.ndarray, counts: np.ndarray
) -> Accuracies:
    """Accuracies on all labels, of the ensemble with these counts and of the best single candidate."""
    everyone = np.arange(len(pool.labels))
    best = baselines.single(objective, costs, capacity)
    return Accuracies(
        ensemble=float(_right(pool, counts, everyone).mean()), single=float(_right(pool, best, everyone).mean())
    )


def unseen_accuracies(
    pool: Pool, objective: Objective, rule: baselines.Rule, costs: np.ndarray, capacity: np.ndarray
) -> Unseen | None:
    """Accuracies of a rule's selections without each participant on that participant; None if there is only one."""
    participants, sizes = np.unique(pool.participants, return_counts=True)
    if len(participants) == 1:
        return None
    right = rotated(pool, objective, (rule, baselines.single), costs, [capacity], len(participants))[:, 0]
    ensemble, single = right.sum(axis=1) / sizes.sum()
    drawn = resampled(right, sizes)
    return Unseen(
        ensemble=float(ensemble),
        single=float(single),
        participants=len(participants),
        ensemble_interval=_interval(drawn[0]),
        single_interval=_interval(drawn[1]),
        gain_interval=_interval(drawn[0] - drawn[1]),
    )


def rotated(
    pool: Pool,
    objective: Objective,
    chosen_by: Sequence[baselines.Rule],
    costs: np.ndarray,
    capacities: Sequence[np.ndarray],
    folds: int,
) -> np.ndarray:
    """How many sequences of each participant are right if that one's fold is kept from the selection.

    Participants are dealt into at most so many folds, of which there must be 2. Gives int64 [rules, capacities,
    participants], participants in sorted order. The costliest step, hence a progress bar.
    """
    participants = np.unique(pool.participants)
    folds = min(folds, len(participants))
    cases = [(r, c, fold) for fold in range(folds) for r, c in np.ndindex(len(chosen_by), len(capacities))]
    selections = itertools.chain.from_iterable(
        selected(
            objective.on(np.flatnonzero(~np.isin(pool.participants, participants[fold::folds]))),
            chosen_by,
            costs,
            capacities,
        )
        for fold in range(folds)
    )
    right = np.zeros((len(chosen_by), len(capacities), len(participants)), np.int64)
    title = "selecting without each participant"
    for (r, c, fold), counts in zip(cases, track(selections, len(cases), title), strict=True):
        for place in range(fold, len(participants), folds):
            rows = np.flatnonzero(pool.participants == participants[place])
            right[r, c, place] = _right(pool, counts, rows).sum()
    return right


def selected(
    objective: Objective, chosen_by: Sequence[baselines.Rule], costs: np.ndarray, capacities: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """Counts int64 [K] by each rule, for each capacity; all cores share the work."""
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        yield from executor.map(
            lambda case: case[0](objective, costs, case[1]), itertools.product(chosen_by, capacities)
        )


def resampled(right: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Accuracies over participants drawn with replacement, [methods, RESAMPLES].

    ``right`` [methods, participants] and ``sizes`` [participants] count sequences.
    """
    drawn = np.random.default_rng(0).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    accuracies: np.ndarray = right[:, drawn].sum(axis=2) / sizes[drawn].sum(axis=1)
    return accuracies


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


def to_table(seen: Accuracies, unseen: Unseen | None) -> Table:
    """Both numbers of both."""
    caption = "never saw: selected anew without each participant in turn, scored on that one"
    if unseen is not None:
        caption += f"; 95% intervals by drawing the {unseen.participants} participants"
        if unseen.participants < FEWEST:
            caption += ", which are too few for intervals to be more than a hint"
    table = Table(
        title="accuracy",
        caption=caption,
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for name in ("labels it was selected on", "participants it never saw"):
        table.add_column(name, justify="right")
    for name, title in (("single", "best single model"), ("ensemble", "ensemble")):
        honest = "-"
        if unseen is not None:
            low, high = getattr(unseen, f"{name}_interval")
            honest = f"{getattr(unseen, name):.4f} ({low:.4f} to {high:.4f})"
        table.add_row(title, f"{getattr(seen, name):.4f}", honest)
    return table


def verdict(unseen: Unseen | None, members: int, alone: str) -> str:
    """What the numbers on unseen participants say of an ensemble of so many members, in a sentence; ``alone`` is the
    budget for a single model."""
    if members == 1:
        return "a single model was chosen: within the budget no ensemble was found that scores higher"
    if unseen is None:
        return "validated on one participant only: nobody is left whom the selection never saw"
    gain, (low, high) = unseen.ensemble - unseen.single, unseen.gain_interval
    numbers = f"{gain:+.4f} ({low:+.4f} to {high:+.4f}) on participants that the selection never saw"
    if unseen.participants < FEWEST:
        return (
            f"{unseen.participants} participants are too few to say whether the ensemble is better than a single "
            f"model: it has {numbers}; to have that one: --budget {alone}"
        )
    if high < 0:
        return f"a single model is better: the ensemble has {numbers}; to have that one: --budget {alone}"
    if unseen.single_is_as_good:
        return (
            f"a single model is as good, within what the choice of {unseen.participants} participants explains: the "
            f"ensemble has {numbers}; to have that one: --budget {alone}"
        )
    return f"the ensemble beats the best single model: {numbers}"


def ensemble_probs(val_probs: Sequence[np.ndarray], counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average probabilities by counts: float32 [len(rows), signs]."""
    shares = counts / counts.sum()
    parts = (np.float32(shares[k]) * val_probs[int(k)][rows].astype(np.float32) for k in np.flatnonzero(counts))
    return functools.reduce(np.add, parts)


def _right(pool: Pool, counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which of the sequences an ensemble names rightly: bool [len(rows)]."""
    right: np.ndarray = ensemble_probs(pool.val_probs, counts, rows).argmax(axis=1) == pool.labels[rows]
    return right
