"""The study alone, without Ray: what it hands out, decides and remembers."""

import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.decide.stopping import STOPPING_RULES, Decision
from search.decide.study import MAX_START_LOSSES, MAX_WORKER_LOSSES, Assignment, SearchStudy
from search.problem.space import DEFAULT_SPACE, RECIPE, Space
from tests.outcomes import metrics_of, result_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import open_study
from trainer.config import TrainConfig
from trainer.rundir import EpochMetrics, Result
from trainer.studydir import StudyDir

EPOCHS = 27
NUM_TRIALS = 14  # of which TPE and GP draw the last four from a model of the first ten, CMA-ES the last four too
OTHERS = [("gp", "none"), ("cmaes", "median"), ("qmc", "none"), ("random", "none")]


def _open(directory: Path, seed: int = 0, num_trials: int = NUM_TRIALS, **options: Any) -> SearchStudy:
    directory.mkdir(exist_ok=True)
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
    return open_study(directory, space, trials=num_trials, seed=seed, **options)


def _metrics(config: TrainConfig, epoch: int) -> EpochMetrics:
    """A learning curve that depends on the configuration, and crosses others."""
    best = 0.9 - config.model.dropout - abs(config.model.num_heads - 5) / 20
    accuracy = best * (1 - (0.9 - 200 * config.learning_rate) ** epoch) if config.learning_rate < 1e-3 else best
    return metrics_of(epoch, accuracy, val_log_loss=1 - accuracy, learning_rate=config.learning_rate)


def _result(metrics: EpochMetrics) -> Result:
    return result_of(metrics.epoch, metrics.val_accuracy, val_log_loss=metrics.val_log_loss)


def _train(study: SearchStudy, assignment: Assignment, epochs: int = EPOCHS) -> bool:
    """Play a worker from the last epoch that the study knows; False if it is cut off after ``epochs`` of its own."""
    first = max(1, assignment.last_epoch)
    for epoch in range(first, assignment.config.epochs + 1):
        if epoch - first == epochs:
            return False
        metrics = _metrics(assignment.config, epoch)
        match study.report(assignment.number, metrics):
            case Decision.STOP:
                study.prune(assignment.number, metrics)
                return True
            case Decision.PAUSE:
                return True
    study.complete(assignment.number, _result(metrics))
    return True


def _outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    return [
        (trial.number, trial.state, trial.params, trial.value, trial.intermediate_values) for trial in study.trials()
    ]


def _ask(study: SearchStudy) -> Assignment | None:
    study.give_up()
    return study.ask()


def _run_undisturbed(directory: Path, **options: Any) -> list[tuple[Any, ...]]:
    study = _open(directory, **options)
    while (assignment := _ask(study)) is not None:
        assert _train(study, assignment)
    assert study.is_finished
    outcome = _outcome(study)
    study.close()
    return outcome


def test_configurations_of_the_users_own_come_next_once_each_also_after_interruptions(tmp_path: Path) -> None:
    tries: list[dict[str, Any]] = [{"num_heads": 3, "dropout": 0.25}, {"mixup_alpha": 0.5}]
    drawn = []
    for directory, interrupted in ((tmp_path / "calm", False), (tmp_path / "cut", True)):
        study = _open(directory, num_trials=5, sampler="random", tries=tries[:1])
        first = study.ask()
        assert first is not None
        assert (first.params["num_heads"], first.params["dropout"]) == (3, 0.25)
        study.close()
        study = _open(directory, num_trials=5, sampler="random", tries=tries)  # one more is asked for
        if interrupted:
            study.close()
            study = _open(directory, num_trials=5, sampler="random", tries=tries)
        asked = [study.ask() for _ in range(5)]  # the first anew, the recipe's, which were queued, and the new one
        assert [item.number for item in asked if item is not None] == [0, 1, 2, 3, 4]
        by_hand = {trial.number: trial.user_attrs.get("by_hand") for trial in study.trials()}
        assert by_hand == {0: 0, 1: None, 2: None, 3: 1, 4: None}
        assert study.trials()[3].params["mixup_alpha"] == 0.5
        assert study.ask() is None
        drawn.append([trial.params for trial in study.trials()])
        study.close()
    assert drawn[0] == drawn[1]


def test_a_lost_database_leaves_no_room_for_more_trials_than_were_asked_for(tmp_path: Path) -> None:
    space = Space.parse(TINY_SPACE, TrainConfig(epochs=EPOCHS))
    for number in range(2):
        run = StudyDir(tmp_path).trial(number)
        run.path.mkdir(parents=True)
        run.write_config(space.config({"num_layers": 1, "learning_rate": 1e-3, "mixup_alpha": 0.5}))
    study = open_study(tmp_path, space, trials=2, sampler="random", tries=[{"num_layers": 2}])
    assert len(study.trials()) == 2
    study.close()


def test_other_tools_find_names_and_what_was_searched_in_the_database(tmp_path: Path) -> None:
    study = open_study(tmp_path, Space.parse(TINY_SPACE, TrainConfig(epochs=4)), trials=1, sampler="random")
    given = study.ask()
    assert given is not None
    study.complete(given.number, result_of(4, 0.75))
    study.close()
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/study.db")
    assert loaded.metric_names == ["accuracy"]
    assert loaded.user_attrs["space"]["learning_rate"] == "a number from 0.0001 to 0.01 (log)"
    assert (loaded.user_attrs["data"], loaded.user_attrs["epochs"]) == ("/nowhere", 4)
    assert loaded.trials_dataframe()["value_accuracy"].tolist() == [0.75]


def test_a_study_made_before_names_were_kept_goes_on_as_it_is(tmp_path: Path) -> None:
    space = Space.parse(TINY_SPACE, TrainConfig(epochs=4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchStudy, "_describe_study", lambda _: None)
        study = open_study(tmp_path, space, trials=1, sampler="random")
        assert study.ask() is not None
        study.close()
    study = open_study(tmp_path, space, trials=1, sampler="random")
    assert study.ask() is not None
    study.close()
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path}/study.db")
    assert (loaded.metric_names, loaded.user_attrs) == (None, {"trials": 1})


@pytest.mark.parametrize(("sampler", "pruner"), [*(("tpe", pruner) for pruner in STOPPING_RULES), *OTHERS])
def test_a_search_interrupted_everywhere_decides_as_an_undisturbed_one(
    tmp_path: Path, sampler: str, pruner: str
) -> None:
    options: dict[str, Any] = {"sampler": sampler, "pruner": pruner}
    expected = _run_undisturbed(tmp_path / "study", **options)
    assert [outcome[0] for outcome in expected] == list(range(NUM_TRIALS))
    (tmp_path / "study").rename(tmp_path / "undisturbed")  # hyperband's brackets depend on the name

    study = _open(tmp_path / "study", **options)
    for turn in itertools.count():
        assignment = _ask(study)
        if assignment is None:
            break
        if not _train(study, assignment, epochs=turn % 8):
            study = _open(tmp_path / "study", **options)  # as after a SIGKILL: the old one was not closed
    assert _outcome(study) == expected


def test_pruned_trials_keep_every_value_and_the_last_epoch_prunes_nothing(tmp_path: Path) -> None:
    outcomes = _run_undisturbed(tmp_path / "study")
    states = {outcome[1] for outcome in outcomes}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for _, state, _, value, intermediate in outcomes:
        last = max(intermediate)
        assert sorted(intermediate) == list(range(1, last + 1))
        assert value == intermediate[last]
        assert (state == TrialState.COMPLETE) == (last == EPOCHS)


def test_seeds_differ_and_seed_points_come_first(tmp_path: Path) -> None:
    first = _run_undisturbed(tmp_path / "a", num_trials=6)
    again = _run_undisturbed(tmp_path / "b", num_trials=6)
    other = _run_undisturbed(tmp_path / "c", num_trials=6, seed=1)
    without = _run_undisturbed(tmp_path / "d", num_trials=6, recipe_points=False)
    assert first == again
    assert [outcome[2] for outcome in first[:2]] == list(RECIPE)
    assert [outcome[2] for outcome in first[2:]] != [outcome[2] for outcome in other[2:]]
    assert not any(outcome[2] in RECIPE for outcome in without)


def test_exactly_the_asked_number_of_trials(tmp_path: Path) -> None:
    for wanted, before in ((1, 0), (4, 1), (4, 4)):
        study = _open(tmp_path / "study", num_trials=wanted)
        assert study.is_finished == (wanted == before)
        assignments = []
        while (assignment := study.ask()) is not None:
            assignments.append(assignment)
        assert [assignment.number for assignment in assignments] == list(range(before, wanted))
        for assignment in assignments:
            _train(study, assignment)
        assert study.is_finished
        assert len(study.trials()) == wanted
        study.close()


def test_a_plain_optuna_reads_the_study(tmp_path: Path) -> None:
    study = _open(tmp_path / "study", num_trials=3)
    finishing, failing, running = study.ask(), study.ask(), study.ask()
    assert finishing is not None
    assert failing is not None
    assert running is not None
    _train(study, finishing)
    study.fail(failing.number, "the loss became nan in epoch 2")
    study.close()
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE", "FAIL", "RUNNING"]
    assert loaded.trials[1].user_attrs["reason"] == "the loss became nan in epoch 2"
    assert round(loaded.trials[0].user_attrs["num_parameters"] / 1e6, 1) == 1.8
    assert loaded.best_trial.number == 0


def test_a_trial_whose_worker_dies_is_handed_out_again_until_it_is_the_likely_cause(tmp_path: Path) -> None:
    study = _open(tmp_path / "study", num_trials=2)
    first = study.ask()
    assert first is not None
    for _ in range(MAX_WORKER_LOSSES - 1):
        assert study.lose_worker(first.number)
        again = study.ask()
        assert again is not None
        assert (again.number, again.config) == (first.number, first.config)
    assert study.report(first.number, metrics_of(1, 0.5)) is Decision.CONTINUE
    for _ in range(MAX_WORKER_LOSSES - 1):  # it got on, so these are counted anew
        assert study.lose_worker(first.number)
        assert study.ask() is not None
        study.report(first.number, metrics_of(1, 0.5))
    for _ in range(MAX_START_LOSSES - 1):  # no worker lived until it began: no fault of its own
        assert study.lose_worker(first.number, had_begun=False)
        assert study.ask() is not None
    assert not study.lose_worker(first.number)
    study.fail(first.number, "its worker died")
    second = study.ask()
    assert second is not None
    assert second.number == 1
    study.close()


def test_a_trial_that_is_ended_for_memory_fails_only_alone_and_twice_without_an_epoch_between(tmp_path: Path) -> None:
    study = _open(tmp_path / "study", num_trials=1)
    trial = study.ask()
    assert trial is not None
    for alone in (True, False, False, False):  # in company as often as it may be
        assert study.run_out_of_memory(trial.number, alone=alone)
        assert study.ask() == trial
    study.report(trial.number, metrics_of(1, 0.5))
    assert study.run_out_of_memory(trial.number, alone=True)
    assert study.ask() is not None
    assert not study.run_out_of_memory(trial.number, alone=True)
    study.close()


@pytest.mark.parametrize("pruner", ["none", "successive-halving"])
def test_failed_trials_are_tried_again_when_asked_for_under_their_numbers(tmp_path: Path, pruner: str) -> None:
    options: dict[str, Any] = {"num_trials": 6, "pruner": pruner}
    expected = _run_undisturbed(tmp_path / "study", **options)
    (tmp_path / "study").rename(tmp_path / "undisturbed")
    study = _open(tmp_path / "study", **options)
    failed = []
    for number in range(6):
        assignment = study.ask()
        assert assignment is not None
        if number in (1, 4):
            if pruner == "none":  # halving would have it wait
                study.report(assignment.number, _metrics(assignment.config, 1))
            checkpoint = study.run_dir(number).path / "checkpoint.safetensors"
            checkpoint.parent.mkdir(parents=True)
            checkpoint.touch()
            study.fail(assignment.number, "out of memory")
            assert checkpoint.exists()
            failed.append(assignment)
        else:
            _train(study, assignment)
    study.close()

    study = _open(tmp_path / "study", **options)  # nobody asked
    assert [trial.state.name for trial in study.trials()].count("FAIL") == 2
    study.close()
    study = _open(tmp_path / "study", retry_failed=True, **options)
    assert not study.is_finished
    first = study.ask()
    assert first is not None
    assert (first.number, first.params, first.last_epoch) == (1, failed[0].params, int(pruner == "none"))
    study = _open(tmp_path / "study", **options)  # as after a SIGKILL: that they are tried again is in the database
    again = []
    while (assignment := _ask(study)) is not None:
        again.append(assignment.number)
        _train(study, assignment)
    assert again[:2] == [1, 4]
    assert study.is_finished
    assert study.ask() is None
    trials = study.trials()
    assert [(trial.number, trial.params) for trial in trials] == [(outcome[0], outcome[2]) for outcome in expected]
    assert TrialState.FAIL not in {trial.state for trial in trials}
    for number in (1, 4):
        attributes = trials[number].user_attrs
        assert (attributes["reason"], attributes["earlier_reason"]) == (None, "out of memory")
    if pruner == "none":
        assert _outcome(study) == expected
    study.close()
    loaded = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    assert [trial.state for trial in loaded.trials] == [trial.state for trial in trials]


def test_a_waiting_trial_is_shown_to_samplers_as_pruned_as_it_was_when_it_began_to_wait(
    tmp_path: Path, base: TrainConfig
) -> None:
    space = Space.parse(TINY_SPACE, base)
    asked: dict[str, Any] = {"trials": 12, "sampler": "random", "pruner": "successive-halving", "recipe_points": False}
    study = open_study(tmp_path, space, **asked)
    assert [study.ask() is not None for _ in range(2)] == [True, True]
    assert study.report(0, metrics_of(1, 0.5)) is Decision.PAUSE
    shown = study.paused[0]
    assert (shown.state, shown.value, study.trials()[0].state) == (TrialState.PRUNED, 0.5, TrialState.RUNNING)
    with study._storage.showing(study.paused):
        assert study.trials()[0] is shown
    study.ask()
    assert study.paused[0] is shown  # of thousands that wait, none is copied for another's draw
    study.close()

    study = open_study(tmp_path, space, **asked)
    assert (list(study.paused), study.paused[0].value) == ([0], 0.5)
    for _ in range(2):  # that were interrupted
        study.ask()
    for number in (1, 2):
        study.report(number, metrics_of(1, 0.4))
    resumed = study.ask()
    assert resumed is not None
    assert resumed.number == 0
    assert list(study.paused) == [1, 2]
    study.close()
