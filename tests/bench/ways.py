"""Which way of ours to select does best on unseen participants: for tests.bench.select, on pools of its own.

Blends in which the likelihood counts more or less.
"""

from typing import Final

import numpy as np
from rich.table import Table

from ensemble.selection import baselines
from ensemble.selection.scores import Accuracy, Blend, LogLoss, Score
from tests.bench.pools import Problem, generated
from trainer.common.console import track
from trainer.metrics import SEQUENCES_PER_NAT

SEEDS: Final = 1000  # the first; pools that rivals are met on have smaller ones
PER_NATS: Final = (2.5, 10.0, 40.0, 160.0)  # sequences that a nat counts as in the blend
DEFAULT: Final = f"blend, {SEQUENCES_PER_NAT:g}"


def ways(problem: Problem) -> dict[str, Score]:
    accuracy = Accuracy.of(problem.seen, problem.seen_labels)
    log_loss = LogLoss.of(problem.seen, problem.seen_labels)
    blends = {f"blend, {per_nat:g}": Blend(accuracy, log_loss, per_nat) for per_nat in PER_NATS}
    return {"accuracy": accuracy, **blends, "log_loss": log_loss}


def compare(pools: int, multiples: tuple[float, ...]) -> tuple[dict[str, tuple[float, float]], Table]:
    """For each way its accuracy less the default's, averaged over budgets, in percentage points, with its standard
    error over the pools; and a table of each budget."""
    accuracies: dict[str, list[list[float]]] = {}
    for seed in track(range(SEEDS, SEEDS + pools), pools, "pools"):
        problem = generated(seed)
        for name, score in ways(problem).items():
            limits = np.median(problem.costs) * np.array(multiples)[:, None]
            chosen = [baselines.ours(score, problem.costs[:, None], limit) for limit in limits]
            accuracies.setdefault(name, []).append([problem.unseen_accuracy(counts) for counts in chosen])
    table = Table(title=f"accuracy on unseen participants less the default's, percentage points: {pools} other pools")
    for heading in ("selected by", *(f"x{multiple:g}" for multiple in multiples), "mean"):
        table.add_column(heading, justify="left" if heading == "selected by" else "right")
    means = {}
    for name, rows in accuracies.items():
        margins = np.array(rows) - np.array(accuracies[DEFAULT])
        columns = [*margins.T, margins.mean(axis=1)]
        found = [(column.mean(), column.std(ddof=1) / pools**0.5) for column in columns]
        table.add_row(name, *(f"{mean:+.2f} ± {error:.2f}" for mean, error in found))
        means[name] = (round(float(found[-1][0]), 3), round(float(found[-1][1]), 3))
    return means, table
