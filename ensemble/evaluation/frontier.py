"""What each budget buys: single models, and the ensembles selected as one limit after another is loosened.

Written as frontier.parquet and printed as a table; search.report draws it.
"""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from ensemble.budget import FORMATS, Budget, brief
from ensemble.candidates.pool import Pool
from ensemble.evaluation import recipe_ensemble
from ensemble.evaluation.unseen import ensemble_probs, rotated, selected
from ensemble.selection import baselines
from ensemble.selection.scores import Objective
from trainer.common.console import track
from trainer.common.files import atomic_path
from trainer.metrics import accuracy, log_loss

LEVELS: Final = 6  # budgets of each kind
FOLDS: Final = 3  # at most, that participants are dealt into for ``unseen_accuracy``
OURS: Final = "ours"
PARQUET: Final = "frontier.parquet"
LIMITS: Final = ("parameters", "size", "latency")
Asked = tuple[Budget, np.ndarray, np.ndarray]
"""A budget, the capacity float64 [4] that it left for members in the end, and what was chosen: counts int64 [K]"""


def sweep(
    pool: Pool, objective: Objective, ours: baselines.Rule, base: np.ndarray, costs: np.ndarray, asked: Asked
) -> list[dict[str, Any]]:
    """A row a candidate alone; rows for the asked budget; for each kind of limit rows from what the cheapest candidate
    takes to what an ensemble without limits takes, one of ours and one of each of ``baselines.RIVALS``; and one for
    what the recipe's author shipped, if the pool has such models.

    Costs are estimates: the members' own plus what all share. ``val_accuracy`` is on the labels selected on,
    ``unseen_accuracy`` on participants that the selection did not see (None if there is one participant only).
    """
    rows = [_row(pool, "single", OURS, None, counts, base, costs) for counts in np.eye(len(costs), dtype=np.int64)]
    unlimited = base + costs[ours(objective, costs, np.full(4, np.inf)) > 0].sum(axis=0)
    budget, capacity, chosen = asked
    budgets = [("asked", budget)]
    for kind, least, most in zip(FORMATS, base + costs.min(axis=0), unlimited, strict=True):
        if kind in LIMITS:
            budgets += [
                (kind, replace(Budget(), **{kind: float(limit)}))
                for limit in np.geomspace(least * 1.01, most * 1.01, LEVELS)
            ]
    chosen_by = {OURS: ours} | baselines.RIVALS
    capacities = [capacity, *(budget.to_array() - base for _, budget in budgets[1:])]
    unseen = _unseen(pool, objective, list(chosen_by.values()), costs, capacities)
    places = list(itertools.product(chosen_by, range(len(budgets))))
    selections = selected(objective, list(chosen_by.values()), costs, capacities)
    found = dict(zip(places, track(selections, len(places), "selecting for each budget"), strict=True))
    found[OURS, 0] = chosen
    before: dict[tuple[str, str], np.ndarray] = {}
    for place, ((kind, budget), honest) in enumerate(zip(budgets, unseen, strict=True)):
        for name, accuracy_there in zip(chosen_by, honest, strict=True):
            counts = _at_least(objective, found[name, place], before.get((kind, name)))
            before[kind, name] = counts
            rows.append(_row(pool, kind, name, str(budget), counts, base, costs) | {"unseen_accuracy": accuracy_there})
    if (of_recipe := recipe_ensemble.counts(pool, objective, costs)) is not None:
        there = recipe_ensemble.unseen_accuracy(pool, objective, costs)
        row = _row(pool, "recipe", OURS, recipe_ensemble.NAME, of_recipe, base, costs)
        rows.append(row | {"unseen_accuracy": there})
    return rows


def _at_least(objective: Objective, counts: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """What was chosen, or what a smaller budget bought if that is better."""
    if before is None:
        return counts
    return max(before, counts, key=objective.exact)


def _unseen(
    pool: Pool, objective: Objective, chosen_by: list[baselines.Rule], costs: np.ndarray, capacities: list[np.ndarray]
) -> list[list[float | None]]:
    """Accuracy on unseen participants, for each capacity by each rule."""
    if len(np.unique(pool.participants)) == 1:
        return [[None] * len(chosen_by)] * len(capacities)
    right = rotated(pool, objective, chosen_by, costs, capacities, FOLDS).sum(axis=2)
    accuracies: list[list[float | None]] = (right / len(pool.labels)).T.tolist()
    return accuracies


def _row(
    pool: Pool,
    kind: str,
    rule: str,
    budget: str | None,
    counts: np.ndarray,
    base: np.ndarray,
    costs: np.ndarray,
) -> dict[str, Any]:
    probs = ensemble_probs(pool.val_probs, counts, np.arange(len(pool.labels)))
    members = np.flatnonzero(counts)
    return {
        "kind": kind,
        "rule": rule,
        "budget": budget,
        "trials": [pool.candidates[k].name for k in members],
        "precisions": [pool.candidates[k].precision for k in members],
        "counts": [int(counts[k]) for k in members],
        **dict(zip(FORMATS, (base + costs[members].sum(axis=0)).tolist(), strict=True)),
        "val_accuracy": accuracy(probs, pool.labels),
        "unseen_accuracy": None,
        "val_log_loss": log_loss(probs, pool.labels),
    }


def write(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write frontier.parquet, whole or not at all."""
    with atomic_path(directory / PARQUET) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def to_table(rows: list[dict[str, Any]]) -> Table:
    """Our ensembles, one line a budget, beside the best rival on unseen people; budgets that buy the same as the one
    before are skipped."""
    table = Table(
        title="accuracy by budget, on labels that the selection saw and on unseen people",
        caption="others: on the same unseen people, the best of top-k, drop the weakest and weighted",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("budget", "members", *LIMITS, "seen", "unseen", "others"):
        table.add_column(name, justify="left" if name == "budget" else "right", no_wrap=True)
    rivals: dict[tuple[str, str], float] = {}
    for row in rows:
        if row["rule"] != OURS and row["unseen_accuracy"] is not None:
            at = (row["kind"], row["budget"])
            rivals[at] = max(rivals.get(at, 0.0), row["unseen_accuracy"])
    before: dict[str, Any] = {}
    for row in rows:
        same = all(row[name] == before.get(name) for name in ("kind", "trials", "precisions", "counts"))
        if row["kind"] == "single" or row["rule"] != OURS:
            continue
        if not same:
            unseen = "-" if row["unseen_accuracy"] is None else f"{row['unseen_accuracy']:.4f}"
            rival = rivals.get((row["kind"], row["budget"]))
            rival_text = "-" if rival is None else f"{rival:.4f}"
            costs = brief(np.array([row[name] for name in FORMATS]))
            budget = row["budget"]
            if row["kind"] != "recipe":
                budget = ",".join(_three_digits(limit) for limit in budget.split(",") if limit) or "none"
            table.add_row(budget, str(len(row["trials"])), *costs, f"{row['val_accuracy']:.4f}", unseen, rival_text)
        before = row
    return table


def _three_digits(limit: str) -> str:
    """A limit as Budget writes it, to three significant digits."""
    number = limit.rstrip("KMBmsodel")
    return f"{float(number):.3g}{limit[len(number) :]}"
