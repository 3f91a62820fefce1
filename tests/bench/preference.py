"""What ships of the ensembles that fit a budget: rules beside each other, on pools of made-up candidates.

python -m tests.bench.preference --pools 16

Of each rule: the accuracy of what it ships on people that nobody saw, minus that of the ensemble that is selected for
the whole budget; what it costs; and the accuracy that is stated, minus the truth. The last is stated in two ways: of
the room that was chosen (plain), and, of each participant, of the room that the others choose (crossed).
"""

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import numpy as np
from rich.table import Table

from ensemble.budget import Budget, Cost
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation import unseen
from ensemble.evaluation.preference import FOLDS, choose, different
from ensemble.evaluation.unseen import RIGHT, rotated
from ensemble.selection import baselines
from ensemble.selection.greedy import shares_of
from ensemble.selection.scores import Blend
from tests.bench.pools import make_candidates, make_sequences, predictions
from trainer.common.console import console

POOLS: Final = ((3, 144), (5, 80), (4, 600), (12, 40), (13, 25))  # participants held out, sequences of each
OTHERS, FEW_OTHERS = 30, 12  # people that nobody saw; fewer where each has many sequences
CANDIDATES, SIGNS = 16, 60


class Problem(NamedTuple):
    """What is known of the rooms of a pool, the whole one first, and what is true."""

    right: np.ndarray
    """[rooms, participants]"""
    sizes: np.ndarray
    prices: np.ndarray
    truth: np.ndarray
    """Accuracies [rooms] on people that nobody saw"""
    milliseconds: np.ndarray
    members: np.ndarray


Chooser = Callable[[np.ndarray, np.ndarray, np.ndarray], int]
RULES: Final[dict[str, Chooser]] = {
    "the whole budget's": lambda *_: 0,
    "best estimate": lambda right, *_: int(right.sum(axis=1).argmax()),
    "prefer accuracy": lambda right, sizes, prices: choose(right, sizes, prices, "accuracy"),
    "one standard error": lambda right, sizes, prices: choose(right, sizes, prices, "cheapest", np.inf),
    "prefer cheapest": lambda right, sizes, prices: choose(right, sizes, prices, "cheapest"),
}


def make(participants: int, each: int, seed: int) -> Problem:
    """A pool of candidates, and what is selected from it for each room."""
    rng = np.random.default_rng(seed)
    others = OTHERS if each < 300 else FEW_OTHERS
    sequences = make_sequences((participants + others) * each, SIGNS, participants + others, rng)
    candidates = make_candidates(CANDIDATES, rng)
    probs = list(predictions(sequences, candidates, rng))
    held_out = sequences.participants < participants
    known, labels = [matrix[held_out] for matrix in probs], sequences.labels[held_out]
    people = sequences.participants[held_out]
    pool: Any = SimpleNamespace(val_probs=known, validation=SimpleNamespace(labels=labels, participants=people))
    latencies = candidates.costs
    costs = np.stack([latencies * 1e5, latencies * 4e5, latencies, np.ones(CANDIDATES)], axis=1)
    priced, score = PricedPool(pool, Cost(), costs), Blend.of(known, labels)
    room = priced.room(Budget(size=40e6, latency=100))
    rooms, ensembles = different(priced, score, room, baselines.ours)
    right = rotated(priced, score, [baselines.ours], rooms, FOLDS)[RIGHT, 0]
    rest = np.flatnonzero(~held_out)
    told = (unseen.ensemble_probs(probs, counts, rest).argmax(axis=1) for counts in ensembles)
    return Problem(
        right=right,
        sizes=np.unique(people, return_counts=True)[1],
        prices=np.array([shares_of(costs, room)[counts > 0].sum() for counts in ensembles]),
        truth=np.array([(signs == sequences.labels[rest]).mean() for signs in told]),
        milliseconds=np.array([latencies[counts > 0].sum() for counts in ensembles]),
        members=np.array([(counts > 0).sum() for counts in ensembles]),
    )


def outcome(problem: Problem, rule: Chooser) -> list[float]:
    """Gain in points, milliseconds, members, and what is stated minus the truth in points: plain, and crossed."""
    right, sizes, prices, truth, milliseconds, members = problem
    ships = rule(right, sizes, prices)
    people = range(len(sizes))
    others = [np.delete(np.arange(len(sizes)), person) for person in people]
    crossed = sum(
        right[rule(right[:, rest], sizes[rest], prices), person] for person, rest in zip(people, others, strict=True)
    )
    stated = np.array([right[ships].sum(), crossed]) / sizes.sum()
    gain = 100 * (truth[ships] - truth[0])
    return [gain, milliseconds[ships], members[ships], *(100 * (stated - truth[ships]))]


def show(title: str, problems: list[Problem]) -> None:
    table = Table(title=title)
    for heading in ("rule", "gain, points", "worst", "ms", "members", "stated - truth, plain", "crossed"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for name, rule in RULES.items():
        found = np.array([outcome(problem, rule) for problem in problems])
        mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / len(found) ** 0.5
        gain, plain, crossed = (f"{mean[at]:+.2f} ± {error[at]:.2f}" for at in (0, 3, 4))
        table.add_row(name, gain, f"{found[:, 0].min():.1f}", f"{mean[1]:.0f}", f"{mean[2]:.1f}", plain, crossed)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=16, help="pools of each kind")
    arguments = parser.parse_args()
    for participants, each in POOLS:
        problems = [make(participants, each, 5000 + seed) for seed in range(arguments.pools)]
        show(f"{participants} participants x {each} sequences, {arguments.pools} pools", problems)


if __name__ == "__main__":
    main()
