"""The frontier's rows and its table."""

import re

import numpy as np
import pytest

from ensemble.budget import COSTS, Budget
from ensemble.candidates.priced import PricedPool
from ensemble.evaluation import frontier, recipe_ensemble
from ensemble.evaluation.frontier import Asked, Row
from ensemble.selection import baselines
from tests.ensemble.evaluation.conftest import accuracy_of


@pytest.fixture
def rows(priced: PricedPool, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Rows for the budget of one model, with few budgets besides."""
    monkeypatch.setattr(frontier, "LEVELS", 3)
    one, score = Budget(members=1), accuracy_of(priced)
    chosen = baselines.ours(score, priced.costs, priced.room(one))
    return frontier.sweep(priced, score, baselines.ours, Asked(one, chosen, 0.625))


def test_has_rows_of_every_kind(priced: PricedPool, rows: list[Row]):
    kinds = [row["kind"] for row in rows]
    rules = 1 + len(baselines.RIVALS)
    assert kinds.count("single") == len(priced.costs)
    assert kinds.count("asked") == rules
    for kind in ("parameters", "size", "latency"):
        assert kinds.count(kind) in (rules, 2 * rules, 3 * rules)
    assert "members" not in kinds


def test_has_a_row_of_the_recipe(priced: PricedPool, rows: list[Row]):
    row = rows[-1]
    assert row["kind"] == "recipe"
    assert row["parameters"] == 3e6
    assert len(row["trials"]) == 3
    assert row["unseen_accuracy"] == recipe_ensemble.unseen_accuracy(priced, accuracy_of(priced))


def test_rival_accuracy_is_the_best_of_the_other_rules_at_the_same_budget(rows: list[Row]):
    compared = 0
    for row in rows:
        others = [
            other["unseen_accuracy"]
            for other in rows
            if (other["kind"], other["budget"]) == (row["kind"], row["budget"]) and other["rule"] != frontier.OURS
        ]
        if row["rule"] == frontier.OURS and others:
            assert row["rival_accuracy"] == max(others)
            compared += 1
        else:
            assert row["rival_accuracy"] is None
    assert compared == 1 + len({row["budget"] for row in rows if row["kind"] in COSTS})


def test_a_budget_buys_more_unless_the_ensemble_is_the_same_as_before(rows: list[Row]):
    before: dict[tuple[str, str], object] = {}
    found = set()
    for row in rows:
        if row["kind"] in COSTS:
            ensemble = (row["trials"], row["precisions"], row["counts"])
            assert row["buys_more"] == (before.get((row["kind"], row["rule"])) != ensemble)
            before[row["kind"], row["rule"]] = ensemble
            found.add(row["buys_more"])
        else:
            assert row["buys_more"]
    assert found == {True, False}


def test_a_larger_budget_buys_no_less(rows: list[Row]):
    for kind in ("parameters", "size", "latency"):
        bought = [row["val_accuracy"] for row in rows if (row["kind"], row["rule"]) == (kind, frontier.OURS)]
        assert (np.diff(bought) >= 0).all()


def test_the_table_has_a_line_per_budget_that_buys_more(rows: list[Row]):
    table = frontier.to_table(rows)
    ours = [row for row in rows if row["rule"] == frontier.OURS and row["kind"] != "single"]
    assert table.row_count == sum(row["buys_more"] for row in ours) < len(ours)
    budgets = list(table.columns[0].cells)
    assert budgets[0] == "1model (asked)"
    assert budgets[-1] == recipe_ensemble.NAME
    assert [column.header for column in table.columns][2:5] == ["parameters", "size", "estimated\nlatency"]


def test_with_one_participant_nobody_is_unseen(priced: PricedPool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frontier, "LEVELS", 1)
    priced.pool.validation.participants[:] = 7
    everything, score = Budget(), accuracy_of(priced)
    room = priced.room(everything)
    asked = Asked(everything, baselines.ours(score, priced.costs, room), None)
    rows = frontier.sweep(priced, score, baselines.ours, asked)
    assert {row["unseen_accuracy"] for row in rows} == {None} == {row["rival_accuracy"] for row in rows}
    assert frontier.to_table(rows).row_count > 0


@pytest.mark.parametrize(
    ("least", "most", "expected"),
    [
        (0.6e6, 17e6, [1e6, 2e6, 5e6, 10e6, 20e6]),
        (3, 40, [5, 10, 20, 50]),
        (0.25, 0.9, [0.3, 0.4, 0.5, 0.6, 0.8, 1]),
        (0.25, 1.9, [0.3, 0.5, 0.7, 1, 1.5, 2]),
        (5.1, 5.9, [6]),
        (2, 2, [2.5]),
        (1e-3, 1e9, [1e5, 1e6, 1e7, 1e8, 1e9, 1e10]),
    ],
)
def test_budgets_are_round(least: float, most: float, expected: list[float]):
    assert frontier.round_between(least, most) == expected


def test_budgets_of_the_table_are_round(rows: list[Row]):
    limits = {row["budget"] for row in rows if row["kind"] in COSTS}
    digits = {float(re.sub("[^0-9.]", "", limit)) for limit in limits}
    assert digits <= {digit * power for digit in (*frontier.ROUND[0], 7) for power in (1, 10, 100)}
