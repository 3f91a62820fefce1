"""What trials are scored by: two values, what they cost, and the front that they make."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from rich.console import Console

from search.decide.stopping import Decision
from search.decide.study import Assignment, SearchStudy
from search.problem.latency_estimate import LatencyScale, multiply_adds
from search.problem.objective import Objective, front, pareto_front
from search.problem.space import DEFAULT_SPACE, Space, num_parameters
from search.record.request import Request
from search.record.trials import read_rows, to_rows
from search.show.tables import render
from tests.search.conftest import TINY_SPACE
from tests.search.decide.test_study import _metrics, _result
from tests.search.studies import open_study
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.model.classifier import SignClassifier
from trainer.studydir import StudyDir

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


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("landmarks", ["all", "hands"])
def test_multiply_adds_are_those_of_the_models_matrix_products(pooling: str, landmarks: str) -> None:
    """Those of its layers are counted as they run; attention takes 2 * tokens * tokens * width a block."""
    config = ModelConfig(num_heads=2, num_layers=3, num_signs=7, pooling=pooling, landmarks=landmarks)
    model = SignClassifier(config).eval()
    counted = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, torch.nn.Linear)
        counted += inputs[0].shape[0] * module.in_features * module.out_features

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.zeros(9, 85, 2), np.array([9]))
    tokens = 10 if pooling == "cls" else 9
    attended = 2 * tokens**2 * config.width * 2 + 2 * tokens * (1 if pooling == "cls" else tokens) * config.width
    assert multiply_adds(config, 9) == counted + attended


def test_latency_grows_with_every_head_layer_and_frame() -> None:
    for pooling in ("cls", "mean"):
        for heads in range(1, 5):
            for layers in range(1, 4):
                model = ModelConfig(num_heads=heads, num_layers=layers, pooling=pooling, max_frames=60)
                here = SCALE.milliseconds(model)
                assert here < SCALE.milliseconds(ModelConfig(num_heads=heads + 1, num_layers=layers, pooling=pooling))
                assert here < SCALE.milliseconds(ModelConfig(num_heads=heads, num_layers=layers + 1, pooling=pooling))
                assert multiply_adds(model, 20) < multiply_adds(model, 21)
                assert multiply_adds(model, 60) == multiply_adds(model, 61)  # longer ones are resized


def test_the_latency_scale_is_measured_once_and_kept(tmp_path: Path, packed: Path, base: TrainConfig) -> None:
    dataset = PackedDataset.open(packed)
    threads = torch.get_num_threads()
    scale = LatencyScale.measure(dataset.lengths)
    assert torch.get_num_threads() == threads
    assert scale.ms_per_million > 0
    assert min(dataset.lengths) <= min(scale.lengths) <= max(scale.lengths) <= max(dataset.lengths)
    request = Request.of(
        space=Space.parse(TINY_SPACE, base),
        dataset=dataset,
        trials=2,
        seed=0,
        sampler="tpe",
        pruner="none",
        recipe_points=True,
        objective=Objective("accuracy,latency", scale),
    )
    request.write(StudyDir(tmp_path))
    assert Request.read(StudyDir(tmp_path)).to_objective() == Objective("accuracy,latency", scale)
    content = json.loads((tmp_path / "study.json").read_text())
    del content["objective"], content["latency"]
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert Request.read(StudyDir(tmp_path)).to_objective() == Objective()
