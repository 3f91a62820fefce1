"""What each budget buys: the ensembles selected as the asked budget shrinks, beside the single models."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble import greedy
from ensemble.budget import FORMATS, Budget
from ensemble.honest import ensemble_probs
from ensemble.pool import Pool
from trainer.cli import track
from trainer.files import atomic_path
from trainer.metrics import accuracy, log_loss

SHARES: Final = (1.0, 0.7, 0.5, 0.35, 0.25, 0.175, 0.125)


def sweep(
    pool: Pool, objective: greedy.Objective, base: np.ndarray, costs: np.ndarray, budget: Budget
) -> list[dict[str, Any]]:
    """One row a single candidate, and one for each share of the budget that still buys an ensemble.

    Costs are estimates: the members' own plus what all share. Accuracies are on the labels selected on.
    """
    rows = [_row(pool, "single", None, counts, base, costs) for counts in np.eye(len(costs), dtype=np.int64)]
    for share in track(SHARES, len(SHARES), "selecting for smaller budgets"):
        limits = Budget.from_array(share * budget.to_array())
        try:
            selection = greedy.select(objective, costs, limits.to_array() - base)
        except greedy.UnaffordableError:
            break
        rows.append(_row(pool, "ensemble", str(limits), selection.counts, base, costs))
    return rows


def _row(
    pool: Pool, kind: str, budget: str | None, counts: np.ndarray, base: np.ndarray, costs: np.ndarray
) -> dict[str, Any]:
    probs = ensemble_probs(pool.val_probs, counts, np.arange(len(pool.labels)))
    return {
        "kind": kind,
        "budget": budget,
        "trials": [pool.candidates[k].name for k in np.flatnonzero(counts)],
        "precisions": [pool.candidates[k].precision for k in np.flatnonzero(counts)],
        "counts": [int(count) for count in counts[counts > 0]],
        **dict(zip(FORMATS, (base + costs[counts > 0].sum(axis=0)).tolist(), strict=True)),
        "val_accuracy": accuracy(probs, pool.labels),
        "val_log_loss": log_loss(probs, pool.labels),
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write frontier.parquet, whole or not at all."""
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
