"""Budgets and the table of costs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble import budget as budgets
from ensemble.budget import CONTEST, COSTS, Budget, BuiltFile, Cost, CostKind

AMOUNTS = st.integers(1, 999_999)


def test_reads_every_unit():
    assert Budget.parse("5.1M,40MB,100ms,3models") == Budget(parameters=5.1e6, size=40e6, latency=100, members=3)
    assert Budget.parse(" 900k , 512KB ") == Budget(parameters=900e3, size=512e3)
    assert Budget.parse("1model")["members"] == 1
    assert Budget.parse(CONTEST) == Budget(size=40e6, latency=100)
    assert Budget()["latency"] == math.inf


@pytest.mark.parametrize(
    "text", ["", "40", "MB", "40 GB", "-1ms", "1e3ms", "40MB,", "40MB,512KB", "0ms", "nanms", "1.2.3M", "1.5models"]
)
def test_refuses_with_an_example(text: str):
    with pytest.raises(ValueError, match=r"write for example 5\.1M,40MB,100ms"):
        Budget.parse(text)


@given(st.fixed_dictionaries({}, optional={"K": AMOUNTS, "KB": AMOUNTS, "ms": AMOUNTS, "models": AMOUNTS}).filter(bool))
def test_reads_back_what_it_writes(limits: dict[str, int]):
    text = ",".join(f"{amount}{unit}" for unit, amount in limits.items())
    budget = Budget.parse(text)
    assert Budget.parse(str(budget)) == budget
    assert (budget["parameters"], budget["latency"]) == (1000 * limits.get("K", math.inf), limits.get("ms", math.inf))


def test_a_limit_itself_fits_and_every_broken_one_is_named():
    budget = Budget.parse("1M,2MB,3ms,1model")
    assert budget.exceeded(Cost(parameters=1e6, size=2e6, latency=3, members=1)) == []
    assert budget.exceeded(Cost(parameters=2e6, size=2e6 + 10_000, latency=3, members=2)) == [
        "parameters 2M over 1M",
        "size 2.01MB over 2MB",
        "members 2models over 1model",
    ]


def test_a_cost_is_one_entry_of_the_table(monkeypatch: pytest.MonkeyPatch):
    """Given, measured, summed, exceeded and shown: nothing else names it."""
    kind = CostKind(
        measure=lambda file: file.content.count(b"op"),
        units={"ops": 1.0},
        show=lambda amount: f"{amount:g}ops",
        brief=lambda amount: f"{amount:.0f}",
    )
    monkeypatch.setitem(COSTS, "operators", kind)
    budget = Budget.parse("40MB,2ops")
    cost = Cost.of(BuiltFile(content=b"op op op", parameters=5, members=1, milliseconds=2.0))
    assert budget.exceeded(cost) == ["operators 3ops over 2ops"]
    assert str(budget) == "40MB,2ops"
    assert cost.to_array().tolist() == [5, 8, 2, 1, 3]
    assert Cost.from_array(cost.to_array()) == cost
    assert list(budgets.columns()) == ["parameters", "size", "latency", "operators"]
    assert budget.brief() == ["-", "40.00MB", "-", "2"]


def test_amounts_that_are_no_costs_are_refused():
    with pytest.raises(TypeError, match="no such cost: speed; there are parameters, size, latency, members"):
        Budget(speed=3)


def test_replacing_a_limit_leaves_the_others():
    budget = Budget.parse("40MB,100ms")
    assert str(budget.replace(members=1)) == "40MB,100ms,1model"
    assert str(budget) == "40MB,100ms"
