"""The best of all affordable ensembles, by trying each: what tests.bench.select holds the search against."""

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from rich.table import Table

from ensemble.selection import greedy
from ensemble.selection.scores import SCORES
from tests.bench.pools import generated
from trainer.common.console import track
from trainer.metrics import SEQUENCES_PER_NAT, SMALLEST_PROBABILITY

POOLS: Final = 10
CANDIDATES: Final = 12
LARGEST_COUNT: Final = 2
ROOM: Final = (2.0, 4.0)  # times the median cost
BATCH: Final = 512


def affordable(costs: np.ndarray, limit: float) -> Iterator[np.ndarray]:
    """Counts of all ensembles that fit, in batches [n, K]."""
    every = np.array(list(itertools.product(range(LARGEST_COUNT + 1), repeat=len(costs))), np.int8)
    fitting = every[((every > 0) @ costs <= limit) & every.any(axis=1)]
    for begin in range(0, len(fitting), BATCH):
        yield fitting[begin : begin + BATCH]


def best_scores(probs: list[np.ndarray], labels: np.ndarray, costs: np.ndarray, limit: float) -> dict[str, float]:
    """The optimum of each score: of accuracy, log likelihood and their blend. Shares no code with the search."""
    matrices = np.stack(probs).astype(np.float32)
    own = matrices[:, np.arange(len(labels)), labels]
    margins = matrices - own[:, :, None]
    margins[:, np.arange(len(labels)), labels] = -1
    best = dict.fromkeys(SCORES, -np.inf)
    for counts in affordable(costs, limit):
        weights = counts.astype(np.float32)
        right = (weights @ margins.reshape(len(costs), -1)).reshape(len(counts), *margins.shape[1:]).max(axis=2) < 0
        average = weights @ own / weights.sum(axis=1, keepdims=True)
        likelihood = np.log(np.maximum(average, SMALLEST_PROBABILITY)).mean(axis=1)
        accuracy = right.mean(axis=1)
        scores = {
            "accuracy": accuracy,
            "log_loss": likelihood,
            "blend": accuracy + SEQUENCES_PER_NAT / len(labels) * likelihood,
        }
        best = {name: max(best[name], float(values.max())) for name, values in scores.items()}
    return best


def mean_gaps() -> tuple[float, Table]:
    """How far the search stays behind the optimum on the labels selected on, on average: of accuracy, in percentage
    points, and a table of all scores. Where it finds better, with larger counts, that counts as no gap."""
    gaps: dict[str, list[float]] = {name: [] for name in SCORES}
    for seed in track(range(POOLS), POOLS, "enumerating"):
        problem = generated(100 + seed, CANDIDATES, signs=20, per_participant=130)
        all_scores = {name: kind.of(problem.seen, problem.seen_labels) for name, kind in SCORES.items()}
        for room in ROOM:
            limit = room * float(np.median(problem.costs))
            best = best_scores(problem.seen, problem.seen_labels, problem.costs, limit)
            for name, score in all_scores.items():
                found = greedy.select(score, problem.costs[:, None], np.array([limit])).score
                gaps[name].append(max(best[name] - found, 0.0))
    table = Table(title=f"gap to the exact optimum, {POOLS} pools of {CANDIDATES}, {len(ROOM)} budgets each")
    for heading in ("score", "mean", "largest", "found the optimum"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, values in gaps.items():
        scale, unit = (1, "nats") if name == "log_loss" else (100, "pp")
        hits = np.mean(np.array(values) <= greedy.TOLERANCE)
        table.add_row(name, f"{scale * np.mean(values):.4f} {unit}", f"{scale * max(values):.4f} {unit}", f"{hits:.0%}")
    return round(100 * float(np.mean(gaps["accuracy"])), 4), table
