"""How much the likelihood should count beside accuracy when members are selected, by how much there is to select on.

    python -m tests.bench.blends [--pools 36] [--runs results/curves]

Pools of 40 of the real trainings that tests.bench.record_curves left, drawn anew. Members are selected on a few of the
48 people that tests.bench.members has them predict, 45 sequences each, and accuracy is on all others; budgets are 1 to
16 times the parameters of the median candidate, averaged. Told is the accuracy less that of selecting by accuracy
alone, in percentage points, with its standard error over the pools (of other runs, and of which people are seen;
the runs and people to draw from are the same), where a nat of mean log likelihood counts as so many sequences more
right.
"""

import argparse
import concurrent.futures
import functools
import json
import math
import multiprocessing
import os
from pathlib import Path
from typing import Final

import numpy as np
from rich.table import Table

from ensemble.selection import baselines
from ensemble.selection.scores import Accuracy, Blend, LogLoss, Score
from tests.bench.pools import Problem
from tests.bench.recorded import OTHERS, Recorded
from tests.bench.select import MULTIPLES
from trainer.common import cli
from trainer.common.console import console, track
from trainer.common.processes import follow_parent

PEOPLE: Final = (2, 4, 6, 12, 24)
PER_NATS: Final = (2.5, 5.0, 10.0, 20.0, 40.0)
CANDIDATES: Final = 40


def accuracies(folder: Path, seed: int) -> list[list[float]]:
    """For each number of people: percent on the others, selected by accuracy alone and by each blend."""
    recorded = Recorded.read(folder)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(recorded.params))[:CANDIDATES]
    probs, costs = [recorded.other_probs[k] for k in chosen], np.array([float(recorded.sizes[k]) for k in chosen])
    order = rng.permutation(np.unique(recorded.other_participants))
    found = []
    for people in PEOPLE:
        is_seen = np.isin(recorded.other_participants, order[:people])
        problem = Problem.split(probs, recorded.other_labels, is_seen, costs)
        alone = Accuracy.of(problem.seen, problem.seen_labels)
        likelihood = LogLoss.of(problem.seen, problem.seen_labels)
        ways: list[Score] = [alone, *(Blend(alone, likelihood, per_nat) for per_nat in PER_NATS)]
        found.append([_percent(problem, score) for score in ways])
    return found


def _percent(problem: Problem, score: Score) -> float:
    """On people not seen, averaged over budgets."""
    limits = np.median(problem.costs) * np.array(MULTIPLES)[:, None]
    chosen = [baselines.ours(score, problem.costs[:, None], limit) for limit in limits]
    return float(np.mean([problem.unseen_accuracy(counts) for counts in chosen]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.blends")
    parser.add_argument("--pools", type=int, default=36)
    parser.add_argument("--runs", type=Path, default=Path("results/curves"))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="pools at a time")
    options = parser.parse_args()
    sequences = len(Recorded.read(options.runs).other_labels) // OTHERS
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        one = functools.partial(accuracies, options.runs)
        results = np.array(list(track(pool.map(one, range(options.pools)), options.pools, "pools")))
    gains = results[:, :, 1:] - results[:, :, :1]
    means, errors = gains.mean(axis=0), gains.std(axis=0, ddof=1) / math.sqrt(options.pools)
    table = Table(title=f"accuracy on unseen people, points over accuracy alone: {options.pools} pools of {CANDIDATES}")
    for heading in ("sequences", *(f"{per_nat:g} a nat" for per_nat in PER_NATS)):
        table.add_column(heading, justify="right")
    for people, row, its_errors in zip(PEOPLE, means, errors, strict=True):
        cells = [f"{mean:+.2f} ± {error:.2f}" for mean, error in zip(row, its_errors, strict=True)]
        table.add_row(str(people * sequences), *cells)
    console.print(table)
    points = {
        str(people * sequences): dict(
            zip(map(str, PER_NATS), np.stack([row, its], axis=1).round(2).tolist(), strict=True)
        )
        for people, row, its in zip(PEOPLE, means, errors, strict=True)
    }
    print(json.dumps({"bench": "blends", "pools": options.pools, "points_over_accuracy": points}))


if __name__ == "__main__":
    cli.run(main)
