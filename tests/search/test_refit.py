"""Refitting: which configurations, with which seeds, and that the new study is one like any other."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

import search.run
from search import refit
from search.decide.study import SearchStudy
from search.execute.driver import run_trials
from search.options import RefitOptions, RunOptions
from search.prepare import best_params, refit_study
from search.problem.space import Space
from search.record.request import Request
from search.record.trials import read_rows, read_trials
from search.show.progress import Progress
from tests.search.conftest import TINY_SPACE
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir
from trainer.studydir import StudyDir, Validation

TWO_RANGES = """\
optimizer = {type = "categorical", choices = ["lion", "adamw"]}
learning_rate = [
    {type = "float", low = 3e-4, high = 1e-2, log = true, when = {optimizer = "adamw"}},
    {type = "float", low = 3e-5, high = 1e-3, log = true},
]
max_frames = 16
"""
RATES = {0: 0.001, 1: 0.002, 2: 0.001, 3: 0.003, 4: 0.004}
ACCURACIES = {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.9}  # 2 has the configuration of 0; 4 failed


@pytest.fixture
def source(tmp_path: Path, packed: Path, base: TrainConfig) -> Path:
    """A study of five trials that nobody trained."""
    directory = tmp_path / "study"
    directory.mkdir()
    space = Space.parse(TINY_SPACE, base)
    options: dict[str, Any] = {"trials": 5, "seed": 3, "sampler": "tpe", "pruner": "median", "recipe_points": True}
    Request.of(space=space, dataset=PackedDataset.open(packed), **options).write(StudyDir(directory))
    study = optuna.create_study(storage=f"sqlite:///{directory / 'study.db'}", direction="maximize")
    kinds = {"num_layers": IntDistribution(1, 2), "learning_rate": FloatDistribution(1e-4, 1e-2, log=True)}
    kinds["mixup_alpha"] = FloatDistribution(0.0, 1.0)
    for number, rate in RATES.items():
        params = {"num_layers": 1, "learning_rate": rate, "mixup_alpha": 0.5}
        state = optuna.trial.TrialState.COMPLETE if number in ACCURACIES else optuna.trial.TrialState.FAIL
        trial = optuna.trial.create_trial(state=state, value=ACCURACIES.get(number), params=params, distributions=kinds)
        study.add_trial(trial)
    return directory


def _options(source: Path, **changes: Any) -> RefitOptions:
    return RefitOptions(**{"study": str(source), "top": 2, "seeds": 2, "epochs": 2, **changes})


def _prepare(source: Path, directory: Path, **changes: Any) -> tuple[Request, PackedDataset]:
    """As the command does, up to the first trial."""
    request, dataset = refit_study(_options(source, **changes))
    study, config = StudyDir(directory), request.to_config()
    held_out = Validation.of(dataset, config.num_folds, config.fold)
    study.write_validation(held_out, tuple(request.label_names))
    request.write(study)
    return request, dataset


def _open(directory: Path, request: Request) -> SearchStudy:
    return SearchStudy(StudyDir(directory), request)


def test_the_best_configurations_come_with_every_seed_in_order(source: Path, tmp_path: Path) -> None:
    request, _ = _prepare(source, tmp_path / "new")
    assert request == Request.read(StudyDir(tmp_path / "new"))
    study = _open(tmp_path / "new", request)
    first = study.ask()
    study.close()
    study = _open(tmp_path / "new", Request.read(StudyDir(tmp_path / "new")))  # as after a SIGKILL
    assignments = [first]
    while (assignment := study.ask()) is not None:
        assignments.append(assignment)
    study.close()
    given = [assignment for assignment in assignments if assignment is not None]
    assert given[0] == given[1]  # the interrupted one, handed out again
    assert [(a.number, a.params["learning_rate"], a.params["seed"]) for a in given[1:]] == [
        (0, 0.003, 0),
        (1, 0.003, 1),
        (2, 0.002, 0),
        (3, 0.002, 1),
    ]
    for assignment in given:
        config = assignment.config
        assert (config.epochs, config.seed, config.all_participants) == (2, assignment.params["seed"], False)
        assert (config.batch_size, config.model.max_frames) == (32, 16)  # what the space holds fixed


def test_a_field_with_several_ranges_is_refitted_at_its_value(tmp_path: Path, packed: Path, base: TrainConfig) -> None:
    source = tmp_path / "study"
    space = Space.parse(TWO_RANGES, base)
    dataset = PackedDataset.open(packed)
    options: dict[str, Any] = {"trials": 6, "seed": 3, "sampler": "random", "pruner": "none", "recipe_points": False}
    request = Request.of(space=space, dataset=dataset, **options)
    request.write(StudyDir(source))
    study = _open(source, request)
    rates = {}
    while (assignment := study.ask()) is not None:
        rates[assignment.number] = (assignment.config.optimizer, assignment.config.learning_rate)
        study.fail(assignment.number, "not trained")
    study.close()
    assert {optimizer for optimizer, _ in rates.values()} == {"lion", "adamw"}
    trials = [
        optuna.trial.create_trial(
            value=1.0 - trial.number, params=trial.params, distributions=trial.distributions, state=TrialState.COMPLETE
        )
        for trial in read_trials(source)
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    with mock.patch("search.prepare.read_trials", return_value=trials):
        request, _ = _prepare(source, tmp_path / "new", top=6, seeds=1)
    study = _open(tmp_path / "new", request)
    for number in range(6):
        given = study.ask()
        assert given is not None
        assert (given.config.optimizer, given.config.learning_rate) == rates[number]
    study.close()


def test_equal_configurations_count_once_and_failed_ones_not(source: Path) -> None:
    assert [params["learning_rate"] for params in best_params(source, 3)] == [0.003, 0.002, 0.001]
    with pytest.raises(UserError, match=r"seeds: 2 configurations x 1000000 are 2,000,000 trainings; at most 10,000"):
        refit_study(_options(source, seeds=1_000_000))
    with pytest.raises(UserError, match=r"^nowhere: not a packed dataset"):  # said before there are too few
        refit_study(_options(source, top=9, data="nowhere"))
    with pytest.raises(UserError, match=r"top: .* has 3 complete configurations"):
        best_params(source, 4)


@pytest.mark.usefixtures("ray_with_two_workers")
@pytest.mark.parametrize("all_participants", [False, True])
def test_a_refit_is_a_study_like_any_other(
    source: Path, tmp_path: Path, progress: Progress, all_participants: bool
) -> None:
    new = tmp_path / "new"
    request, dataset = _prepare(source, new, all_participants=all_participants)
    study = _open(new, request)
    assert run_trials(study, dataset, RunOptions(workers=2), progress)
    study.close()
    rows = read_rows(new)
    assert [row.state for row in rows] == ["COMPLETE"] * 4
    assert len({tuple(row.params.items()) for row in rows}) == 4
    for row in rows:
        run = RunDir(new / "trials" / f"{row.number:04d}")
        assert run.read_config().all_participants == all_participants
        assert (run.path / "val_probs.npy").exists() == (not all_participants)
        assert run.read_metrics()[-1].epoch == row.epochs == 2


@pytest.mark.slow
def test_the_command_leaves_a_finished_study(source: Path) -> None:
    command = [sys.executable, "-m", "search.refit", str(source), "--top", "1", "--seeds", "1", "--epochs", "1"]
    root = Path(search.__path__[0]).parent
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=200, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    new = source.parent / "study-refit"
    assert ended.stdout.splitlines()[-1] == f"next: python -m ensemble.select --budget --results {new}"
    assert [row.state for row in read_rows(new)] == ["COMPLETE"]


def test_a_study_in_a_database_with_a_password_is_refitted_with_its_url(source: Path, tmp_path: Path) -> None:
    dataclasses.replace(Request.read(StudyDir(source)), storage="postgresql://me:***@host/db").write(StudyDir(source))
    with pytest.raises(UserError, match="storage: give postgresql://"):
        _prepare(source, tmp_path / "new")
    made, _ = _prepare(source, tmp_path / "new", storage=f"sqlite:///{source / 'study.db'}")
    assert len(made.points) == 4
    assert made.storage is None
    with (
        mock.patch("sys.argv", ["refit", "results/study", "--storage", "postgresql://me:secret@host/db"]),
        mock.patch("search.execute.driver.carry_out") as carry_out,
        mock.patch("search.ending.show_outcome"),
    ):
        refit.main()
    (_, _, options), others = carry_out.call_args
    assert (options.storage, others) == ("postgresql://me:secret@host/db", {})  # that of the old study alone


def test_what_cannot_be_refitted_is_refused(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "study-refit", all_participants=True)
    with mock.patch("sys.argv", ["refit", str(source)]), pytest.raises(UserError, match="--resume --name study-refit "):
        refit.main()
    with pytest.raises(UserError, match="was trained on all participants"):
        refit_study(_options(tmp_path / "study-refit"))
    with (
        mock.patch("sys.argv", ["refit", str(tmp_path)]),
        pytest.raises(UserError, match=r"holds no study \(no study\.json\)"),
    ):
        refit.main()
    with pytest.raises(UserError, match="not a packed dataset"):
        refit_study(_options(source, data=str(tmp_path)))
    with pytest.raises(UserError, match="all_participants: cannot be set here"):
        Space.parse(TINY_SPACE + "all_participants = true\n", TrainConfig())
