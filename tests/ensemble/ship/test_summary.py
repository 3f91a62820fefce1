"""What is printed of a submission."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from rich.console import Console

from ensemble.budget import Budget, Cost
from ensemble.candidates.opening import open_pool
from ensemble.evaluation.unseen import Accuracies, Unseen
from ensemble.ship.fit import Choice, Member
from ensemble.ship.pipeline import Outcome
from ensemble.ship.summary import answer, members_table
from ensemble.tflite.latency import Latency
from trainer.studydir import Folder


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
    assert f"0000 2/4 1 x 1 float32 1.50M 3.00MB 1.25ms {accuracy:.4f}" in printed
    assert "preprocessing and merge 0.00M 0.01MB 0.00ms" in printed
    assert "file, 2 models 3.00M 6.00MB 2.50ms" in printed
    assert "budget, 3 models - 40.00MB -" in printed


def test_without_a_limit_there_is_no_budget(chosen: Choice):
    assert "no budget - - -" in lines(chosen, Budget())


def test_members_have_no_words_broken_on_80_columns(chosen: Choice):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(members_table(chosen, Cost(size=1e4).brief(), Budget.parse("40MB,100ms,3models")))
    first = [line[:15].strip() for line in capture.get().splitlines()]
    assert "preprocessing" in first
    assert "and merge" in first
    assert max(map(len, capture.get().splitlines())) <= 80


def outcome(chosen: Choice, tmp_path: Path, unseen: Unseen | None) -> Outcome:
    opened = SimpleNamespace(folders=[Folder("here", tmp_path, None)], out=Path("results/asl/ensemble"))
    found = SimpleNamespace(opened=opened, chosen=chosen, unseen=unseen, seen=Accuracies(ensemble=0.91234, single=0.9))
    return cast("Outcome", found)


def test_the_answer_is_one_line(chosen: Choice, tmp_path: Path):
    chosen = dataclasses.replace(chosen, cost=Cost(parameters=3e6, size=9.1e6, latency=11.23, members=3))
    unseen = Unseen(
        ensemble=0.9065,
        single=0.9,
        participants=8,
        ensemble_interval=(0.8812, 0.9271),
        single_interval=(0.88, 0.92),
        gain_interval=(0.001, 0.04),
    )
    assert answer(outcome(chosen, tmp_path, unseen)) == (
        "3 models, 9.1 MB, 11.2 ms a sequence, 0.9065 (0.88 to 0.93) on people it never saw: "
        "results/asl/ensemble/submission.zip"
    )
    one = dataclasses.replace(chosen, cost=Cost(parameters=3e6, size=42e3, latency=0.5, members=1))
    assert answer(outcome(one, tmp_path, None)) == (
        "1 model, 0.042 MB, 0.5 ms a sequence, 0.9123 on the labels it was selected on: "
        "results/asl/ensemble/submission.zip"
    )
