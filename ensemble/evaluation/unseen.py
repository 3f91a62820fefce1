"""Accuracy on participants that a selection has not seen.

An ensemble looks better on the labels that it was selected on than it is. So it is selected again without each
validation participant in turn, and its accuracy is measured on that participant.
"""

import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.table import Table

from ensemble.candidates.pool import Pool
from ensemble.candidates.priced import PricedPool
from ensemble.selection import baselines
from ensemble.selection.scores import Score
from trainer.common.console import left_table, track
from trainer.metrics import SMALLEST_PROBABILITY

RESAMPLES: Final = 10_000
FEWEST: Final = 6  # participants; an interval over fewer is little more than their worst and best
INTERVAL: Final = 0.95
RIGHT, LOG_LIKELIHOOD = 0, 1  # what ``rotated`` gives of each participant's sequences
Interval = tuple[float, float]


@dataclass(frozen=True)
class Accuracies:
    """Shares of sequences whose sign is named correctly."""

    ensemble: float
    single: float
    """The best single candidate that fits the budget"""


@dataclass(frozen=True)
class Unseen(Accuracies):
    """Accuracies on unseen participants, with bootstrap intervals over participants."""

    participants: int
    ensemble_interval: Interval
    single_interval: Interval
    gain_interval: Interval
    """Interval of the ensemble's accuracy minus the single candidate's"""

    @property
    def single_is_as_good(self) -> bool | None:
        """Whether the ensemble is not measurably better; None if there are too few participants to tell."""
        return None if self.participants < FEWEST else self.gain_interval[0] <= 0


def seen_accuracies(priced: PricedPool, score: Score, capacity: np.ndarray, counts: np.ndarray) -> Accuracies:
    """Accuracies on all labels: of the ensemble with these counts, and of the best single candidate."""
    everyone = np.arange(len(priced.pool.validation.labels))
    best = baselines.single(score, priced.costs, capacity)
    ensemble, single = (
        float(_right_and_likelihoods(priced.pool, chosen, everyone)[0].mean()) for chosen in (counts, best)
    )
    return Accuracies(ensemble=ensemble, single=single)


def unseen_accuracies(priced: PricedPool, score: Score, right: np.ndarray | None, room: np.ndarray) -> Unseen | None:
    """Accuracies on each participant of what is selected without them; None if there is only one participant.

    ``right`` [participants] counts what the ensemble that is chosen without each one names rightly of theirs; the best
    single candidate is sought within ``room``, float64 [len(COSTS)].
    """
    participants, sizes = np.unique(priced.pool.validation.participants, return_counts=True)
    if right is None or len(participants) == 1:
        return None
    alone = rotated(priced, score, [baselines.single], [room], len(participants))[RIGHT, 0, 0]
    right = np.stack([right, alone])
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
    priced: PricedPool,
    score: Score,
    rules: Sequence[baselines.Rule],
    capacities: Sequence[np.ndarray],
    folds: int,
) -> np.ndarray:
    """What is selected without each participant's fold does with their sequences.

    Participants are dealt into at most ``folds`` folds; there must be at least 2. Gives float64 [2, rules, capacities,
    participants], participants in sorted order: how many sequences are RIGHT, and the sum of their LOG_LIKELIHOOD in
    nats. This is the slowest step, so it shows a progress bar.
    """
    people = priced.pool.validation.participants
    participants = np.unique(people)
    folds = min(folds, len(participants))
    cases = [(r, c, fold) for fold in range(folds) for r, c in np.ndindex(len(rules), len(capacities))]
    selections = itertools.chain.from_iterable(
        selected(score.on(np.flatnonzero(~np.isin(people, participants[fold::folds]))), rules, priced.costs, capacities)
        for fold in range(folds)
    )
    found = np.zeros((2, len(rules), len(capacities), len(participants)))
    title = "selecting without each participant"
    for (r, c, fold), counts in zip(cases, track(selections, len(cases), title), strict=True):
        for place in range(fold, len(participants), folds):
            rows = np.flatnonzero(people == participants[place])
            right, likelihoods = _right_and_likelihoods(priced.pool, counts, rows)
            found[:, r, c, place] = right.sum(), np.log(likelihoods).sum()
    return found


def selected(
    score: Score, rules: Sequence[baselines.Rule], costs: np.ndarray, capacities: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """Counts int64 [K] that each rule selects within each capacity; all cores share the work."""
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        yield from executor.map(lambda case: case[0](score, costs, case[1]), itertools.product(rules, capacities))


def resampled(right: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Accuracies over participants drawn with replacement: float64 [methods, RESAMPLES].

    ``right`` [methods, participants] and ``sizes`` [participants] count sequences.
    """
    drawn = np.random.default_rng(0).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    accuracies: np.ndarray = right[:, drawn].sum(axis=2) / sizes[drawn].sum(axis=1)
    return accuracies


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2])
    return float(low), float(high)


def to_table(seen: Accuracies, unseen: Unseen | None, names: Mapping[str, str]) -> Table:
    """Accuracies on the labels selected on, and on unseen participants, of the fields of Accuracies in ``names``.

    ``names`` says what the line of each is called.
    """
    table = left_table("accuracy")
    table.add_column("", overflow="fold")
    for name in ("labels\nselected on", "people it\nnever saw", "95% interval\nof that"):
        table.add_column(name, justify="right", no_wrap=True)
    for field, name in names.items():
        elsewhere = interval = "-"
        if unseen is not None:
            elsewhere = f"{getattr(unseen, field):.4f}"
            interval = "{:.4f} to {:.4f}".format(*getattr(unseen, f"{field}_interval"))
        table.add_row(name, f"{getattr(seen, field):.4f}", elsewhere, interval)
    return table


def how_measured(participants: int) -> str:
    """A sentence on how accuracies on unseen participants are made, and what their intervals are worth."""
    few = ", too few for more than a hint" if participants < FEWEST else ""
    return (
        "selected anew without each participant in turn, and scored on that one; the intervals "
        f"are over the {participants} participants{few}"
    )


def verdict(unseen: Unseen | None, members: int, alone: str) -> str:
    """A sentence on whether the ensemble of so many members beats a single model on unseen participants.

    ``alone`` is the budget that would buy a single model.
    """
    if unseen is None:
        return "one participant only was held out: nobody is left whom the selection never saw"
    if members == 1:
        return "a single model ships: within the budget nothing was found that is measurably better"
    gain, (low, high) = unseen.ensemble - unseen.single, unseen.gain_interval
    numbers = f"{gain:+.4f} ({low:+.4f} to {high:+.4f}) on people it never saw"
    if unseen.participants < FEWEST:
        return (
            f"{unseen.participants} participants are too few to say whether the ensemble is better than a single "
            f"model: it has {numbers}; to have the single model, give the budget {alone}"
        )
    if high < 0:
        return (
            f"a single model is better: the ensemble has {numbers}; to have the single model, give the budget {alone}"
        )
    if unseen.single_is_as_good:
        return (
            f"a single model is as good, within what the choice of {unseen.participants} participants explains: the "
            f"ensemble has {numbers}; to have the single model, give the budget {alone}"
        )
    return f"the ensemble beats the best single model: {numbers}"


def ensemble_probs(val_probs: Sequence[np.ndarray], counts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average probabilities by counts: float32 [len(rows), signs]."""
    shares = counts / counts.sum()
    parts = (np.float32(shares[k]) * val_probs[int(k)][rows].astype(np.float32) for k in np.flatnonzero(counts))
    return functools.reduce(np.add, parts)


def _right_and_likelihoods(pool: Pool, counts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether an ensemble names the sign of each sequence correctly, bool [n], and that sign's probability, [n]."""
    probs, labels = ensemble_probs(pool.val_probs, counts, rows), pool.validation.labels[rows]
    likelihoods = np.maximum(probs[np.arange(len(rows)), labels], SMALLEST_PROBABILITY)
    return probs.argmax(axis=1) == labels, likelihoods
