"""What is printed of a submission."""

import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ensemble.budget import Budget, Cost
from ensemble.candidates.opening import open_pool
from ensemble.ship.fit import Choice, Member
from ensemble.ship.summary import members_table
from ensemble.tflite.latency import Latency


@pytest.fixture
def chosen(study: Path) -> Choice:
    pool = open_pool(study)
    cost = Cost(parameters=1.5e6, size=3e6, latency=1.25, members=1)
    return Choice(
        members=[Member(candidate, 2, cost) for candidate in pool.candidates[:2]],
        model=b"",
        cost=Cost(parameters=3e6, size=6e6, latency=2.5, members=2),
        latency=Latency(mean=2.5, median=2, p95=4),
        counts=np.array([2, 2, 0, 0]),
        shipped=[],
        capacity=np.full(4, np.inf),
    )


def lines(chosen: Choice, budget: Budget) -> list[str]:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(members_table(chosen, Cost(size=1e4).brief(), budget))
    return [re.sub(" +", " ", line).strip() for line in capture.get().splitlines()]


def test_members_their_shared_part_the_file_and_the_budget_have_a_line_each(chosen: Choice):
    printed = lines(chosen, Budget.parse("40MB,3models"))
    accuracy = chosen.members[0].candidate.val_accuracy
    assert f"0000 2 1 x 1 float32 1.50M 3.00MB 1.25ms {accuracy:.4f}" in printed
    assert "shared 0.00M 0.01MB 0.00ms" in printed
    assert "file, 2 models 3.00M 6.00MB 2.50ms" in printed
    assert "budget, 3 models - 40.00MB -" in printed


def test_without_a_limit_there_is_no_budget(chosen: Choice):
    assert "no budget - - -" in lines(chosen, Budget())
