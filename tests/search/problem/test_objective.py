"""What trials are scored by: two values, what they cost, and the front that they make."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from rich.console import Console

from search.decide.stopping import Decision
from search.decide.study import Assignment, SearchStudy
from search.problem.latency_estimate import LatencyScale
from search.problem.objective import Objective, front, pareto_front
from search.problem.space import DEFAULT_SPACE, Space
from search.record.trials import read_rows, to_rows
from search.show.tables import render
from tests.search.decide.test_study import _metrics, _result
from tests.search.studies import open_study
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters

NUM_TRIALS = 13  # of which TPE draws the last three from a model of the first ten
EPOCHS = 3
SCALE = LatencyScale(lengths=[5, 20, 80], ms_per_million=0.02)
OBJECTIVES = {"params": Objective("accuracy,params"), "latency": Objective("accuracy,latency", SCALE)}


def _open(directory: Path, objective: Objective) -> SearchStudy:
    directory.mkdir(exist_ok=True)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
    return open_study(directory, space, trials=NUM_TRIALS, seed=0, pruner="none", objective=objective)


def _train(study: SearchStudy, assignment: Assignment, epochs: int = EPOCHS) -> None:
    for epoch in range(assignment.last_epoch + 1, epochs + 1):
        metrics = _metrics(assignment.config, epoch)
        assert study.report(assignment.number, metrics) is Decision.CONTINUE
    if epochs == EPOCHS:
        study.complete(assignment.number, _result(_metrics(assignment.config, EPOCHS)))


def _outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.params, trial.values, trial.intermediate_values) for trial in study.trials()]


@pytest.mark.parametrize("cost", OBJECTIVES)
def test_a_search_for_two_values_keeps_every_accuracy_and_resumes_exactly(tmp_path: Path, cost: str) -> None:
    study = _open(tmp_path / "calm", OBJECTIVES[cost])
    while (assignment := study.ask()) is not None:
        _train(study, assignment)
    expected = _outcome(study)
    study.close()

    study = _open(tmp_path / "study", OBJECTIVES[cost])
    for number in range(NUM_TRIALS):
        assignment = study.ask()
        assert assignment is not None
        if number % 4 == 1:
            _train(study, assignment, epochs=2)
            study = _open(tmp_path / "study", OBJECTIVES[cost])  # as after a SIGKILL
            assignment = study.ask()
            assert assignment is not None
            assert assignment.last_epoch == 2
        _train(study, assignment)
    assert _outcome(study) == expected
    study.close()

    for _, params, values, intermediate in expected:
        model = study.space.config(params).model
        assert sorted(intermediate) == [1, 2, 3]
        assert values == [intermediate[3], SCALE.milliseconds(model) if cost == "latency" else num_parameters(model)]
    rows = read_rows(tmp_path / "study")
    loaded = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    assert {row.number for row in rows if row.on_front} == {trial.number for trial in loaded.best_trials}
    assert all((row.latency is not None) == (cost == "latency") for row in rows)
    console = Console(width=300, record=True)
    console.print(render(rows, "study", console))
    text = console.export_text()
    assert all(f" {row.number}*" in f" {text}" for row in rows if row.on_front)
    assert ("about" in text) == (cost == "latency")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_front_is_optunas(values: list[tuple[int, int]]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([create_trial(values=[float(one), float(other)]) for one, other in values])
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert front(study.trials) == {trial.number for trial in study.best_trials}
    single = create_trial(value=1.0)
    assert front([single]) == set()
    assert not to_rows([single])[0].on_front


def test_the_front_of_costs_is_what_no_cheaper_point_reaches() -> None:
    points = [(3.0, 0.7, 0), (1.0, 0.5, 1), (2.0, 0.5, 2), (2.0, 0.6, 3), (4.0, 0.7, 4), (1.0, 0.4, 5), (1.0, 0.5, 6)]
    assert pareto_front(points) == [1, 6, 3, 0]
