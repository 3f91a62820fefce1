"""The frontier: which accuracy each budget buys, by our selection and by the rules it is compared with.

Written as frontier.parquet and printed as a table; search.report draws it.
"""

import itertools
import math
from typing import Any, Final, NamedTuple

import numpy as np
from rich.table import Table

from ensemble import budget as budgets
from ensemble.budget import COSTS, Budget, Cost
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation import recipe_ensemble
from ensemble.evaluation.unseen import RIGHT, ensemble_probs, rotated, selected
from ensemble.selection import baselines
from ensemble.selection.scores import Score
from trainer.common.console import left_table, track
from trainer.metrics import accuracy, log_loss

LEVELS: Final = 6  # budgets of each kind, at most
ROUND: Final = ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,))
"""Digits that a round number begins with, from the finest series to the coarsest"""
FOLDS: Final = 3  # at most, that participants are dealt into for ``unseen_accuracy``
OURS: Final = "ours"
Row = dict[str, Any]


class Asked(NamedTuple):
    """The budget that was asked for, and what was chosen for it."""

    budget: Budget
    counts: np.ndarray
    """int64 [K]"""
    unseen_accuracy: float | None
    """Of what was chosen so, on participants that the choice did not see"""


def sweep(priced: PricedPool, score: Score, ours: baselines.Rule, asked: Asked) -> list[Row]:
    """The rows of the frontier.

    There is one row per single candidate (kind single), one per rule for the budget that was asked for (asked), one per
    rule and round budget of each kind of cost, from what the cheapest candidate costs to what an ensemble without
    limits costs, and one for what the recipe's author shipped, if the pool has such models (recipe). Rules are ours and
    ``baselines.RIVALS``. In each row:

    - costs are estimates: the members' own plus the shared part;
    - ``val_accuracy`` and ``val_log_loss`` are on the labels selected on;
    - ``unseen_accuracy`` is on participants the selection did not see, None if there is only one participant;
    - ``rival_accuracy`` is the best ``unseen_accuracy`` of the other rules at the same budget, None without one;
    - ``buys_more`` is False if the ensemble is the same as for the budget before.
    """
    rules = {OURS: ours} | baselines.RIVALS
    limits = [("asked", asked.budget), *_budgets(priced, score, ours)]
    capacities = [priced.room(budget) for _, budget in limits]
    unseen = _unseen(priced, score, list(rules.values()), capacities)
    unseen[0][0] = asked.unseen_accuracy
    places = list(itertools.product(rules, range(len(limits))))
    selections = selected(score, list(rules.values()), priced.costs, capacities)
    found = dict(zip(places, track(selections, len(places), "selecting for each budget"), strict=True))
    found[OURS, 0] = asked.counts
    rows = [_row(priced, ("single", OURS, None), counts) for counts in np.eye(len(priced.costs), dtype=np.int64)]
    before: dict[tuple[str, str], np.ndarray] = {}
    for place, ((kind, budget), accuracies) in enumerate(zip(limits, unseen, strict=True)):
        rivals = [value for name, value in zip(rules, accuracies, strict=True) if name != OURS and value is not None]
        for name, unseen_accuracy in zip(rules, accuracies, strict=True):
            smaller = before.get((kind, name))
            counts = _at_least(score, found[name, place], smaller)
            row = _row(priced, (kind, name, str(budget)), counts, unseen_accuracy)
            row["rival_accuracy"] = max(rivals, default=None) if name == OURS else None
            row["buys_more"] = smaller is None or not np.array_equal(counts, smaller)
            rows.append(row)
            before[kind, name] = counts
    if (shipped := recipe_ensemble.counts(priced, score)) is not None:
        there = recipe_ensemble.unseen_accuracy(priced, score)
        rows.append(_row(priced, ("recipe", OURS, recipe_ensemble.NAME), shipped, there))
    return rows


def _budgets(priced: PricedPool, score: Score, ours: baselines.Rule) -> list[tuple[str, Budget]]:
    """Round budgets of one limit each, for each kind of cost that has a column."""
    most = priced.total(ours(score, priced.costs, priced.room(Budget())))
    least = Cost.from_array(priced.base.to_array() + priced.costs.min(axis=0))
    return [
        (kind, Budget(**{kind: limit}))
        for kind in budgets.columns()
        for limit in round_between(least[kind], most[kind])
    ]


def round_between(least: float, most: float) -> list[float]:
    """Up to LEVELS round numbers above ``least``, the last of them above ``most``; both are above 0.

    >>> round_between(0.6e6, 17e6)
    [1000000.0, 2000000.0, 5000000.0, 10000000.0, 20000000.0]
    """
    least, most = (amount * (1 + 1e-9) for amount in (least, most))  # sums are rounded
    for digits in ROUND:
        powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
        limits = [float(f"{digit}e{power}") for power in powers for digit in digits]
        last = next(place for place, limit in enumerate(limits) if limit >= most)
        found = [limit for limit in limits[: last + 1] if limit >= least]
        if len(found) <= LEVELS:
            break
    return found[-LEVELS:]


def _at_least(score: Score, counts: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """What was chosen, or what a smaller budget bought if that is better."""
    if before is None:
        return counts
    return max(before, counts, key=score.exact)


def _unseen(
    priced: PricedPool, score: Score, rules: list[baselines.Rule], capacities: list[np.ndarray]
) -> list[list[float | None]]:
    """Accuracy on unseen participants: for each capacity, by each rule."""
    people = priced.pool.validation.participants
    if len(np.unique(people)) == 1:
        return [[None] * len(rules)] * len(capacities)
    right = rotated(priced, score, rules, capacities, FOLDS)[RIGHT].sum(axis=2)
    accuracies: list[list[float | None]] = (right / len(people)).T.tolist()
    return accuracies


def _row(
    priced: PricedPool,
    what: tuple[str, str, str | None],
    counts: np.ndarray,
    unseen_accuracy: float | None = None,
) -> Row:
    """The row of an ensemble; ``what`` is its kind, rule and budget."""
    pool = priced.pool
    labels = pool.validation.labels
    probs = ensemble_probs(pool.val_probs, counts, np.arange(len(labels)))
    members = np.flatnonzero(counts)
    kind, rule, budget = what
    return {
        "kind": kind,
        "rule": rule,
        "budget": budget,
        "trials": [pool.candidates[k].name for k in members],
        "precisions": [pool.candidates[k].precision for k in members],
        "counts": [int(counts[k]) for k in members],
        **priced.total(counts),
        "val_accuracy": accuracy(probs, labels),
        "unseen_accuracy": unseen_accuracy,
        "val_log_loss": log_loss(probs, labels),
        "rival_accuracy": None,
        "buys_more": True,
    }


def to_table(rows: list[Row]) -> Table:
    """What each budget buys, one line per budget that buys more than the one before, beside the best other rule."""
    names = ["estimated\nlatency" if name == "latency" else name for name in budgets.columns()]
    table = left_table("what a budget buys")
    table.add_column("budget", overflow="fold")
    accuracies = ("labels\nselected\non", "people\nit never\nsaw", "other\nrules\nthere")
    for name in ("models", *names, *accuracies):
        table.add_column(name, justify="right", no_wrap=True)
    kinds = [row for row in rows if row["kind"] != "single" and row["rule"] == OURS and row["buys_more"]]
    for kind, its in itertools.groupby(kinds, key=lambda row: row["kind"]):
        table.add_section()
        for row in its:
            budget = (row["budget"] or "no limit").replace(",", ", ")  # broken there
            costs = Cost(**{name: row[name] for name in COSTS}).brief()
            measured = (row[f"{name}_accuracy"] for name in ("val", "unseen", "rival"))
            texts = ("-" if value is None else f"{value:.4f}" for value in measured)
            asked = "bold" if kind == "asked" else None
            name = f"{budget} (asked)" if asked else budget
            table.add_row(name, str(len(row["trials"])), *costs, *texts, style=asked)
    return table
