"""Which configurations are trained again, with which seeds and folds, and that the new study is one like any other."""

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from search.decide.study import SearchStudy
from search.execute.driver import run_trials
from search.options import RefitOptions, RunOptions
from search.problem.space import Space
from search.record.request import Request
from search.record.trials import read_rows, read_trials
from search.repeats import best_params, refit_study
from search.show.progress import Progress
from tests.search.conftest import TINY_SPACE
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir
from trainer.studydir import StudyDir, write_selection
from trainer.validation import Validation

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
    return untrained(tmp_path / "study", packed, base)


def untrained(directory: Path, packed: Path, base: TrainConfig) -> Path:
    """A study of five trials that nobody trained."""
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
    held_out = Validation.of(dataset, config.num_folds, None if request.is_rotated else config.fold)
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
    with mock.patch("search.repeats.read_trials", return_value=trials):
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
    again = r"s: no trial is complete; .* go on with: python -m search\.run --resume --name s$"
    with mock.patch("search.repeats.read_trials", return_value=[]), pytest.raises(UserError, match=again):
        best_params(Path("results/s"), 1)


@pytest.mark.usefixtures("ray_with_two_workers")
@pytest.mark.parametrize(
    "changes",
    [{}, {"all_participants": True}, {"top": 1, "folds": "all", "seeds": 1}],
    ids=["refit", "refit-all", "folds"],
)
def test_a_refit_is_a_study_like_any_other(
    source: Path, tmp_path: Path, progress: Progress, changes: dict[str, Any]
) -> None:
    new = tmp_path / "new"
    request, dataset = _prepare(source, new, **changes)
    all_participants = changes.get("all_participants", False)
    study = _open(new, request)
    assert run_trials(study, dataset, RunOptions(workers=2), progress)
    study.close()
    rows = read_rows(new)
    assert [row.state for row in rows] == ["COMPLETE"] * len(request.points)
    assert len({tuple(row.params.items()) for row in rows}) == len(request.points)
    for row in rows:
        run = RunDir(new / "trials" / f"{row.number:04d}")
        config = run.read_config()
        assert config.all_participants == all_participants
        assert config.fold == row.params.get("fold", 0)
        assert (run.path / "val_probs.npy").exists() == (not all_participants)
        assert run.read_metrics()[-1].epoch == row.epochs == 2
        if not all_participants:
            assert len(run.read_val_probs()) == len(dataset.split(config.num_folds, config.fold)[1])


def test_a_study_in_a_database_with_a_password_is_refitted_with_its_url(source: Path, tmp_path: Path) -> None:
    dataclasses.replace(Request.read(StudyDir(source)), storage="postgresql://me:***@host/db").write(StudyDir(source))
    with pytest.raises(UserError, match="storage: give postgresql://"):
        _prepare(source, tmp_path / "new")
    made, _ = _prepare(source, tmp_path / "new", storage=f"sqlite:///{source / 'study.db'}")
    assert len(made.points) == 4
    assert made.storage is None


def test_what_cannot_be_refitted_is_refused(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "study-refit", all_participants=True)
    with pytest.raises(UserError, match="was trained on all participants"):
        refit_study(_options(tmp_path / "study-refit"))
    with pytest.raises(UserError, match="not a packed dataset"):
        refit_study(_options(source, data=str(tmp_path)))
    with pytest.raises(UserError, match="all_participants: cannot be set here"):
        Space.parse(TINY_SPACE + "all_participants = true\n", TrainConfig())


def test_with_every_fold_each_configuration_and_seed_has_all_of_them(source: Path, tmp_path: Path) -> None:
    request, dataset = _prepare(source, tmp_path / "new", top=2, seeds=2, folds="all")
    folds = range(request.to_config().num_folds)
    assert [(point["learning_rate"], point["seed"], point["fold"]) for point in request.points] == [
        (rate, seed, fold) for rate in (0.003, 0.002) for seed in range(2) for fold in folds
    ]
    validation = StudyDir(tmp_path / "new").read_validation(dataset.num_signs)
    assert validation.folds is not None
    for fold in folds:
        rows = dataset.split(len(folds), fold)[1]
        np.testing.assert_array_equal(np.flatnonzero(validation.folds == fold), rows)
    assert Request.read(StudyDir(tmp_path / "new")) == request
    study = _open(tmp_path / "new", request)
    given = [study.ask() for _ in folds]
    study.close()
    assert [assignment.config.fold for assignment in given if assignment] == list(folds)
    with pytest.raises(UserError, match=rf"2 configurations x 9999 x {len(folds)} folds are .* at most 10,000"):
        refit_study(_options(source, seeds=9999, folds="all"))
    with pytest.raises(UserError, match="fold: must be one value for all trials"):
        Space.parse('fold = {type = "int", low = 0, high = 4}', TrainConfig())


def _add(directory: Path, params: dict[str, Any], value: float, kinds: dict[str, Any]) -> None:
    study = optuna.load_study(storage=f"sqlite:///{directory / 'study.db'}", study_name=None)
    study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=kinds))


def test_the_best_of_trainings_with_several_folds_and_seeds_are_so_in_the_mean(source: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    request, _ = _prepare(source, new, top=3, seeds=1, folds="all")
    optuna.create_study(storage=f"sqlite:///{new / 'study.db'}", direction="maximize")
    kinds = request.to_space().distributions
    worth = {0.003: [0.9, 0.1], 0.002: [0.6, 0.6], 0.001: [0.5, 0.5]}
    for point in request.points:
        if point["fold"] < 2:
            _add(new, point, worth[point["learning_rate"]][point["fold"]], kinds)
    assert [params["learning_rate"] for params in best_params(new, 3)] == [0.002, 0.003, 0.001]
    again, _ = refit_study(_options(new, top=1, seeds=1))
    assert [point["learning_rate"] for point in again.points] == [0.002]
    assert "fold" not in again.space
    assert not again.is_rotated


def test_what_was_selected_is_trained_on_everyone_with_its_own_seed(source: Path, tmp_path: Path) -> None:
    members = [{"trial": "0003"}, {"trial": "0001"}, {"trial": "0003"}]
    write_selection(tmp_path / "ensemble", {"members": members})
    own = Request.read(StudyDir(source))
    for selection in (tmp_path / "ensemble", tmp_path / "ensemble" / "selection.json"):
        options = RefitOptions(study=str(source), ship_of=selection)
        request, _ = refit_study(options)
        assert options.suffix == "-ship"
        assert [(point["learning_rate"], point["seed"]) for point in request.points] == [(0.003, 3), (0.002, 1)]
        space = request.to_space()
        for point, number in zip(request.points, (3, 1), strict=True):
            trial = next(trial for trial in read_trials(source) if trial.number == number)
            assert space.config(point) == own.to_space().config_of(trial).replace(all_participants=True)


def test_members_of_a_configuration_with_all_folds_are_trained_once_on_everyone(source: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    request, _ = _prepare(source, new, top=1, seeds=2, folds="all")
    optuna.create_study(storage=f"sqlite:///{new / 'study.db'}", direction="maximize")
    for point in request.points:
        _add(new, point, 0.5, request.to_space().distributions)
    folds = request.to_config().num_folds
    write_selection(tmp_path / "ensemble", {"members": [{"trial": f"{folds:04d}"}]})
    whole, _ = refit_study(RefitOptions(study=str(new), ship_of=tmp_path / "ensemble"))
    assert [point["seed"] for point in whole.points] == [1]
    assert "fold" not in whole.space
    config = whole.to_space().config(whole.points[0])
    assert (config.epochs, config.fold, config.all_participants) == (2, 0, True)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"members": [{"trial": "0009"}]}, "names trial 0009, which .* has not; give the study that the ensemble was"),
        ({"members": []}, r"members: must be the trials of an ensemble, not .*; run ensemble.select again"),
        ({"members": [{"trial": 3}]}, "members: must be the trials of an ensemble"),
        ({}, "members: must be the trials of an ensemble, not null"),
    ],
)
def test_a_selection_that_does_not_name_trials_of_the_study_is_refused(
    fields: dict[str, Any], words: str, source: Path, tmp_path: Path
) -> None:
    write_selection(tmp_path / "ensemble", fields)
    with pytest.raises(UserError, match=words):
        refit_study(RefitOptions(study=str(source), ship_of=tmp_path / "ensemble"))
    for missing in (tmp_path, tmp_path / "submission.zip"):
        with pytest.raises(UserError, match=r"ship_of: .*: there is no such file; give the selection.json"):
            refit_study(RefitOptions(study=str(source), ship_of=missing))
