"""Trials scored as members of an ensemble: scores, budgets, and a study that keeps them through interruptions."""

import itertools
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import search.run
from search.decide.study import Assignment, SearchStudy, Verdict
from search.execute import cluster
from search.problem.members import BYTES_PER_PARAMETER, MOST, PATIENCE, MemberBudget, Members
from search.problem.objective import ENSEMBLE, Objective
from search.problem.space import DEFAULT_SPACE, Space
from search.record.remote_copy import StudyMirror
from search.record.request import VALIDATION, write_validation
from search.show.progress import Progress
from search.table import read_rows, render
from tests.search.conftest import TINY_SPACE
from tests.search.decide.test_study import EPOCHS, _metrics, _result
from trainer.common.errors import UserError
from trainer.common.storage import Remote
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.metrics import SEQUENCES_PER_NAT, accuracy, log_loss
from trainer.model.classifier import num_parameters
from trainer.rundir import RunDir

SEQUENCES, SIGNS = 12, 4
NUM_TRIALS = 13  # of which TPE draws the last three from a model of the first ten
LABELS = np.arange(SEQUENCES) % SIGNS


def _probs(generator: np.random.Generator) -> np.ndarray:
    return generator.dirichlet(np.ones(SIGNS), SEQUENCES).astype(np.float16)


def _score(models: list[np.ndarray]) -> float:
    mean = np.mean([model.astype(np.float64) for model in models], axis=0)
    own = mean[np.arange(SEQUENCES), LABELS]
    right = (mean >= own[:, None]).sum(axis=1) == 1  # of float16, two signs can be equally likely: that is wrong
    return float(right.mean()) - SEQUENCES_PER_NAT / SEQUENCES * log_loss(mean, LABELS)


@given(st.integers(0, 10**6), st.integers(0, 5), st.sampled_from(["3models", "1models", "25K", "41KB,3models", "1M"]))
def test_a_trial_is_scored_by_what_it_adds_within_the_budget(seed: int, others: int, text: str) -> None:
    generator = np.random.default_rng(seed)
    pool = [_probs(generator) for _ in range(others)]
    sizes = generator.integers(1_000, 20_000, others + 1).tolist()
    own = _probs(generator)
    budget = MemberBudget.parse(text)
    forward, backward = Members(LABELS, budget), Members(LABELS, budget)
    for number in range(others):
        forward.add(number, pool[number], sizes[number])
        backward.add(others - 1 - number, pool[others - 1 - number], sizes[others - 1 - number])
    found = forward.contribution(own, sizes[-1])
    assert found == backward.contribution(own, sizes[-1])  # as after a resume
    beside = [pool[number] for number in found.beside]
    gain = _score([*beside, own]) - _score(beside) if beside else 0.0
    assert found.score == pytest.approx(_score([own]) + gain, abs=1e-6)
    spent = [sizes[number] for number in set(found.beside)] + [sizes[-1]]
    if beside:
        assert sum(spent) <= budget.parameters
        assert BYTES_PER_PARAMETER * sum(spent) <= budget.size
        assert len(spent) <= budget.members
    affordable = [
        number
        for number in range(others)
        if sizes[number] + sizes[-1] <= min(budget.parameters, budget.size / BYTES_PER_PARAMETER) and budget.members > 1
    ]
    assert bool(beside) == bool(affordable)
    if beside:  # greedy: no better than the best, no worse than the best of the first step
        assert _score(beside) >= max(_score([pool[number]]) for number in affordable) - 1e-6


def test_a_copy_of_what_is_there_adds_nothing_and_a_complement_adds_much() -> None:
    """Two models that are each right on half of the sequences, and a third like the first."""
    sure = np.eye(SIGNS)[LABELS] * 0.7 + 0.075
    flat = np.full((SEQUENCES, SIGNS), 0.25)
    wrong = np.roll(np.eye(SIGNS)[LABELS], 1, axis=1) * 0.01 + 0.2475
    is_first = (np.arange(SEQUENCES) < SEQUENCES // 2)[:, None]
    first, second = np.where(is_first, sure, wrong), np.where(is_first, wrong, sure)
    assert accuracy(first, LABELS) == accuracy(second, LABELS) == 0.5
    members = Members(LABELS, MemberBudget.parse("3models"))
    members.add(0, first, 10)
    again, complement = members.contribution(first, 10), members.contribution(second, 10)
    assert again.beside == complement.beside == [0]
    assert complement.score > again.score + 0.4
    assert members.contribution(flat, 10).score < again.score


def test_an_ensemble_does_not_grow_forever() -> None:
    """Of these two models the best prefix has 857 steps, each for less than the last."""
    generator = np.random.default_rng(22)
    members = Members(LABELS, MemberBudget())
    for number in range(2):
        members.add(number, _probs(generator), 1_000)
    assert MOST - PATIENCE <= len(members.contribution(_probs(generator), 1_000).beside) <= MOST


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("100ms", "milliseconds are measured by ensemble.select"),
        ("5", "'5' is not a number with a unit"),
        ("1M,2M", "limits parameters twice"),
        ("0KB", "leaves room for nothing"),
    ],
)
def test_bad_budgets_are_refused_with_an_example(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}.*for example 5.1M,40MB,3models"):
        MemberBudget.parse(text)


def _open(directory: Path, mirror: StudyMirror | None = None) -> SearchStudy:
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"label": LABELS}), directory / VALIDATION)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
    objective = Objective(ENSEMBLE, budget="30M,3models")
    options: dict[str, Any] = {"pruner": "median", "objective": objective, "mirror": mirror}
    return SearchStudy(directory, space, num_trials=NUM_TRIALS, seed=0, **options)


def _train(study: SearchStudy, assignment: Assignment, epochs: int = EPOCHS) -> bool:
    """Play a worker; False if it is cut off after so many epochs."""
    for epoch in range(assignment.last_epoch + 1, EPOCHS + 1):
        if epoch > epochs:
            return False
        metrics = _metrics(assignment.config, epoch)
        if study.report(assignment.number, metrics) is Verdict.STOPS:
            study.prune(assignment.number, metrics)
            return True
    run = RunDir(study.run_place(assignment.number).removeprefix("file://"))
    run.write_val_probs(_probs(np.random.default_rng(assignment.number)))
    study.complete(assignment.number, _result(_metrics(assignment.config, EPOCHS)))
    return True


def _outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    return [(trial.state, trial.params, trial.value, trial.user_attrs) for trial in study.trials()]


def test_a_search_for_members_resumes_exactly_and_keeps_accuracies(tmp_path: Path) -> None:
    study = _open(tmp_path / "calm")
    while (assignment := study.ask()) is not None:
        assert _train(study, assignment)
    expected = _outcome(study)
    study.close()
    study = _open(tmp_path / "study")
    for turn in itertools.count():
        if (assignment := study.ask()) is None:
            break
        if not _train(study, assignment, epochs=assignment.last_epoch + turn % 7):
            study = _open(tmp_path / "study")  # as after a SIGKILL
    assert _outcome(study) == expected
    study.close()

    members = Members(LABELS, MemberBudget.parse("30M,3models"))
    rows = sorted(read_rows(tmp_path / "study"), key=lambda row: row.number)
    scored = [row for row in rows if row.state == "COMPLETE"]
    assert 3 < len(scored) < NUM_TRIALS
    for row in scored:
        probs, parameters = _probs(np.random.default_rng(row.number)), row.num_parameters or 0
        assert row.as_member == members.contribution(probs, parameters).score
        members.add(row.number, probs, parameters)
        assert row.val_accuracy == expected[row.number][3]["val_accuracy"]
    assert all(row.as_member is None for row in rows if row.state == "PRUNED")
    console = Console(width=200, record=True)
    console.print(render(rows, "study", console))
    assert f"{scored[0].as_member:.4f}" in console.export_text()


def test_predictions_behind_a_uri_are_fetched_also_by_another_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = _open(tmp_path / "study")
    for _ in range(5):
        _train(local, cast(Assignment, local.ask()))
    expected = _outcome(local)[:5]
    assert [bool(attributes.get("beside")) for *_, attributes in expected][:3] == [False, True, True]
    local.close()

    remote = Remote.open((tmp_path / "storage" / "study").as_uri())
    for driver, count in (("one", 3), ("another", 2)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / driver))
        mirror = StudyMirror(remote)
        mirror.fetch()
        study = _open(mirror.directory, mirror)
        for _ in range(count):
            _train(study, cast(Assignment, study.ask()))
    assert _outcome(study)[:5] == expected
    study.close()


def test_predictions_that_are_gone_are_named(tmp_path: Path) -> None:
    study = _open(tmp_path)
    assignment = study.ask()
    assert assignment is not None
    _train(study, assignment)
    (study.run_dir(assignment.number).path / "val_probs.npy").unlink()
    study = _open(tmp_path)
    assignment = study.ask()
    assert assignment is not None
    with pytest.raises(UserError, match=r"0000/val_probs.npy: cannot be read"):
        _train(study, assignment)


@pytest.mark.usefixtures("ray_with_two_workers")
def test_a_real_search_for_members(
    tmp_path: Path, packed: Path, base: TrainConfig, progress: Progress, resources: cluster.Resources
) -> None:
    dataset = PackedDataset.open(packed)
    space = Space.parse(TINY_SPACE, base)
    write_validation(dataset, space.base, tmp_path)
    labels = pq.read_table(tmp_path / VALIDATION)["label"].to_numpy()
    objective = Objective(ENSEMBLE, budget="2models")
    study = SearchStudy(tmp_path, space, num_trials=4, seed=0, pruner="none", objective=objective)
    assert search.run.search(study, dataset, resources, 2, progress)
    ended = sorted(study.trials(), key=lambda trial: trial.datetime_complete)
    members = Members(labels, MemberBudget.parse("2models"))
    for trial in ended:
        probs = study.run_dir(trial.number).read_val_probs()
        parameters = num_parameters(space.config(trial.params).model)
        found = members.contribution(probs, parameters)
        assert (trial.value, trial.user_attrs["beside"]) == (found.score, found.beside)
        assert trial.user_attrs["val_accuracy"] == trial.intermediate_values[4]
        members.add(trial.number, probs, parameters)
    assert [bool(trial.user_attrs["beside"]) for trial in ended] == [False, True, True, True]
    study.close()
