"""What each budget buys: single models, and the ensembles selected as one limit after another is loosened.

Written as frontier.parquet, drawn as frontier.svg, and printed as a table.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.table import Table

from ensemble import greedy, recipe
from ensemble.budget import FORMATS, Budget, brief
from ensemble.honest import ensemble_probs, unseen_accuracies
from ensemble.pool import Pool
from trainer.cli import track
from trainer.files import atomic_path, write_bytes
from trainer.metrics import accuracy, log_loss

LEVELS: Final = 6  # budgets of each kind
LIMITS: Final = ("parameters", "size", "latency")
_PANEL: Final = (300, 240)  # pixels of one plot's inside
_MARGIN: Final = (56, 44)


def sweep(
    pool: Pool, objective: greedy.Objective, base: np.ndarray, costs: np.ndarray, asked: Budget
) -> list[dict[str, Any]]:
    """A row a candidate alone; a row for the asked budget; for each kind of limit rows from what the cheapest
    candidate takes to what an ensemble without limits takes; and one for what the recipe's author shipped, if the pool
    has such models.

    Costs are estimates: the members' own plus what all share. ``val_accuracy`` is on the labels selected on,
    ``unseen_accuracy`` on participants that the selection did not see (None if there is one participant only).
    """
    rows = [_row(pool, "single", None, counts, base, costs, None) for counts in np.eye(len(costs), dtype=np.int64)]
    unlimited = base + costs[greedy.select(objective, costs, np.full(4, np.inf)).counts > 0].sum(axis=0)
    budgets = [("asked", asked)]
    for kind, least, most in zip(FORMATS, base + costs.min(axis=0), unlimited, strict=True):
        if kind in LIMITS:
            budgets += [
                (kind, replace(Budget(), **{kind: float(limit)}))
                for limit in np.geomspace(least * 1.01, most * 1.01, LEVELS)
            ]
    for kind, budget in track(budgets, len(budgets), "selecting for each budget"):
        capacity = budget.to_array() - base
        counts = greedy.select(objective, costs, capacity).counts
        unseen = unseen_accuracies(pool, objective, costs, capacity)
        rows.append(_row(pool, kind, str(budget), counts, base, costs, None if unseen is None else unseen.ensemble))
    if (of_recipe := recipe.counts(pool, objective, costs)) is not None:
        unseen_accuracy = recipe.unseen_accuracy(pool, objective, costs)
        rows.append(_row(pool, "recipe", recipe.NAME, of_recipe, base, costs, unseen_accuracy))
    return rows


def _row(
    pool: Pool,
    kind: str,
    budget: str | None,
    counts: np.ndarray,
    base: np.ndarray,
    costs: np.ndarray,
    unseen_accuracy: float | None,
) -> dict[str, Any]:
    probs = ensemble_probs(pool.val_probs, counts, np.arange(len(pool.labels)))
    members = np.flatnonzero(counts)
    return {
        "kind": kind,
        "budget": budget,
        "trials": [pool.candidates[k].name for k in members],
        "precisions": [pool.candidates[k].precision for k in members],
        "counts": [int(counts[k]) for k in members],
        **dict(zip(FORMATS, (base + costs[members].sum(axis=0)).tolist(), strict=True)),
        "val_accuracy": accuracy(probs, pool.labels),
        "unseen_accuracy": unseen_accuracy,
        "val_log_loss": log_loss(probs, pool.labels),
    }


def write(directory: Path, rows: list[dict[str, Any]]) -> None:
    """Write frontier.parquet and frontier.svg, each whole or not at all."""
    with atomic_path(directory / "frontier.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    write_bytes(directory / "frontier.svg", draw(rows).encode())


def to_table(rows: list[dict[str, Any]]) -> Table:
    """The ensembles, one line a budget; budgets that buy the same as the one before are skipped."""
    table = Table(
        title="accuracy by budget, on labels that the selection saw and on unseen people",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("budget", "members", *LIMITS, "seen", "unseen"):
        table.add_column(name, justify="left" if name == "budget" else "right", no_wrap=True)
    before: dict[str, Any] = {}
    for row in rows:
        same = all(row[name] == before.get(name) for name in ("kind", "trials", "precisions", "counts"))
        if row["kind"] != "single" and not same:
            unseen = "-" if row["unseen_accuracy"] is None else f"{row['unseen_accuracy']:.4f}"
            costs = brief(np.array([row[name] for name in FORMATS]))
            budget = row["budget"]
            if row["kind"] != "recipe":
                budget = ",".join(_three_digits(limit) for limit in budget.split(",") if limit) or "none"
            table.add_row(budget, str(len(row["trials"])), *costs, f"{row['val_accuracy']:.4f}", unseen)
        before = row
    return table


def _three_digits(limit: str) -> str:
    """A limit as Budget writes it, to three significant digits."""
    number = limit.rstrip("KMBmsodel")
    return f"{float(number):.3g}{limit[len(number) :]}"


def draw(rows: list[dict[str, Any]]) -> str:
    """An SVG: accuracy against each kind of cost; grey dots are single models, blue the ensembles selected for it."""
    accuracies = [row["val_accuracy"] for row in rows]
    low, high = min(accuracies), max(accuracies)
    panels = [_panel(i, kind, rows, low, max(high, low + 1e-3)) for i, kind in enumerate(LIMITS)]
    width = len(LIMITS) * (_PANEL[0] + _MARGIN[0]) + 16
    height = _PANEL[1] + 2 * _MARGIN[1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(panels)}</svg>\n'
    )


def _panel(index: int, kind: str, rows: list[dict[str, Any]], low: float, high: float) -> str:
    left, top = index * (_PANEL[0] + _MARGIN[0]) + _MARGIN[0], _MARGIN[1] / 2
    least, most = (f(math.log(row[kind]) for row in rows) for f in (min, max))

    def place(row: dict[str, Any]) -> tuple[float, float]:
        across = (math.log(row[kind]) - least) / max(most - least, 1e-9)
        return left + across * _PANEL[0], top + (high - row["val_accuracy"]) / (high - low) * _PANEL[1]

    singles = [place(row) for row in rows if row["kind"] == "single"]
    chosen = [place(row) for row in rows if row["kind"] == kind]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in chosen)
    right, bottom = left + _PANEL[0], top + _PANEL[1]
    least_text, most_text = (_three_digits(FORMATS[kind](math.exp(value))) for value in (least, most))
    texts = [
        (left - 5, top + 4, "end", f"{high:.3f}"),
        (left - 5, bottom + 4, "end", f"{low:.3f}"),
        (left, bottom + 14, "start", least_text),
        (right, bottom + 14, "end", most_text),
        ((left + right) / 2, bottom + 28, "middle", kind),
    ]
    return "".join(
        [
            f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#aaa"/>' for x, y in singles),
            f'<polyline points="{line}" fill="none" stroke="#1565c0"/>',
            *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1565c0"/>' for x, y in chosen),
            *(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts),
        ]
    )
