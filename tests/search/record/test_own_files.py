"""The files of a finished trial are the truth: what a database or study.json says otherwise is named."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch

from search.decide.study import SearchStudy
from search.problem.space import Space
from search.record import own_files
from search.record.consistency import check_database
from search.record.own_files import OwnFiles
from search.record.request import Request
from search.record.trials import read_rows, read_trials
from tests.outcomes import metrics_of, result_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import request_of
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.rundir import DONE, RunDir
from trainer.studydir import STUDY_DB, StudyDir

ACCURACIES = (0.3, 0.4, 0.5)


@pytest.fixture
def study(tmp_path: Path, base: TrainConfig) -> StudyDir:
    """Three finished trials of four."""
    return _make(tmp_path / "s", base)


def _make(directory: Path, base: TrainConfig) -> StudyDir:
    study = StudyDir(directory)
    request = request_of(Space.parse(TINY_SPACE, base), name="s", recipe_points=False, sampler="random")
    request.write(study)
    deciding = SearchStudy(study, request)
    for accuracy in ACCURACIES:
        given = deciding.ask()
        assert given is not None
        run = study.trial(given.number)
        run.write_config(given.config)
        for epoch in range(1, 5):
            deciding.report(given.number, metrics_of(epoch, accuracy))
        run.write_result(result_of(epochs=4, val_accuracy=accuracy))
        deciding.complete(given.number, run.read_result())
    deciding.close()
    return study


def _edit(study: StudyDir, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(study.path / STUDY_DB)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _forget(study: StudyDir, *numbers: int) -> None:
    """As a database that is older than the study."""
    tables = ("trial_values", "trial_intermediate_values", "trial_params", "trial_user_attributes", "trials")
    others = ("trial_system_attributes",)
    _edit(study, *(f"delete from {table} where trial_id = {n + 1}" for n in numbers for table in (*others, *tables)))


def _check(study: StudyDir, **changes: Any) -> list[int]:
    return check_database(study, Request.read(study), **changes)


def _finish(study: StudyDir) -> list[tuple[int, str, float | None]]:
    """Go on with a study, as a search does whose workers find trials finished; what it then has of those."""
    deciding = SearchStudy(study, Request.read(study))
    while (given := deciding.ask()) is not None and study.trial(given.number).is_done:
        run = study.trial(given.number)
        assert given.config == run.read_config()
        for epoch in range(given.last_epoch + 1, 5):
            deciding.report(given.number, metrics_of(epoch, run.read_result().val_accuracy))
        deciding.complete(given.number, run.read_result())
    deciding.close()
    rows = sorted(read_rows(study.path), key=lambda row: row.number)
    return [(row.number, row.state, row.val_accuracy) for row in rows[:3]]


COMPLETE = [(number, "COMPLETE", accuracy) for number, accuracy in enumerate(ACCURACIES)]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            "update trial_user_attributes set value_json = '1e308' where trial_id = 2 and key = 'seconds'",
            r"trial 1 has seconds 1e\+308 there, and 1 in .*0001/done.json",
        ),
        (
            "update trial_values set value = 0.99 where trial_id = 2",
            "trial 1 has val_accuracy 0.9900 there, and 0.4000 in",
        ),
        (
            "update trial_intermediate_values set intermediate_value = 0.99 where trial_id = 2 and step = 4",
            "trial 1 has val_accuracy 0.9900 there, and 0.4000 in .*0001/done.json",
        ),
        (
            "update trial_params set param_value = 0.005 where trial_id = 2 and param_name = 'learning_rate'",
            "trial 1 has learning_rate 0.005 there, and .*0001/config.json",
        ),
        (
            "delete from trial_params where trial_id = 2 and param_name = 'learning_rate'",
            "trial 1 has no learning_rate there, and .*0001/config.json has",
        ),
        (
            "update trial_user_attributes set value_json = '0.1' where trial_id = 2 and key = 'val_log_loss'",
            "trial 1 has val_log_loss 0.1000 there, and 1 in .*0001/done.json",
        ),
        (
            "update trial_user_attributes set value_json = '7' where trial_id = 2 and key = 'num_parameters'",
            "trial 1 has num_parameters 7 there, and .*0001/config.json",
        ),
        (
            "insert into trial_intermediate_values values (99, 2, -1, 0.5, 'FINITE')",
            "trial 1 has an accuracy after epoch -1 there, and .*0001/config.json has epochs 1 to 4",
        ),
    ],
)
def test_what_was_changed_in_a_database_is_left_out_of_tables_and_stops_a_search(
    edit: str, words: str, study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [(row.number, row.val_accuracy) for row in read_rows(study.path)] == [(2, 0.5), (1, 0.4), (0, 0.3)]
    assert _check(study) == []
    assert capsys.readouterr().out == ""
    _edit(study, edit)
    with pytest.raises(UserError, match=words + ".*; bring back whichever was changed, or begin under another name$"):
        _check(study)
    assert [row.number for row in read_rows(study.path)] == [2, 0]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: {study.path / STUDY_DB}: trial 1 has ")
    assert "; trial 1 left out: bring back whichever was changed" in line


def test_a_trial_with_more_values_than_the_objective_has_is_left_out(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit(study, "insert into trial_values values (99, 2, 1, 0.5, 'FINITE')")
    assert [row.number for row in read_rows(study.path)] == [2, 0]
    assert "trial 1 has 2 values there, and the objective accuracy of" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"study.db: trial 1 has 2 values there, .*; bring back whichever was changed"):
        _check(study)


@pytest.mark.parametrize("state", ["FAIL", "PRUNED", "RUNNING", "WAITING"])
def test_a_finished_trial_that_the_database_has_otherwise_ends_by_its_own_files(
    state: str, study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = "" if state in ("FAIL", "PRUNED") else ", datetime_complete = null"
    _edit(
        study,
        f"update trials set state = '{state}'{ended} where number = 1",
        "delete from trial_values where trial_id = 2",
    )
    read_rows(study.path)
    assert ("does not know that trial 1 ended" in capsys.readouterr().out) == (state != "RUNNING")
    assert _check(study) == [1]
    assert _finish(study) == COMPLETE
    assert _check(study) == []


@pytest.mark.parametrize("lost", [(2,), (1, 2), (0, 1, 2)])
def test_a_database_older_than_its_study_learns_of_later_trials(
    lost: tuple[int, ...], study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    _forget(study, *lost)
    read_rows(study.path)
    assert "does not know that trial" in capsys.readouterr().out
    assert _check(study) == list(lost)
    assert _finish(study) == COMPLETE
    assert _check(study) == []


def test_a_folder_that_is_no_trial_of_the_study_is_not_taken_in(study: StudyDir, base: TrainConfig) -> None:
    run = study.trial(7)
    run.write_config(study.trial(1).read_config().replace(seed=base.seed + 7))
    run.write_result(result_of(epochs=4, val_accuracy=0.4))
    with pytest.raises(UserError, match=r"0007: is finished, but .*study.json was asked for 4 trials, 0 to 3: "):
        _check(study)
    run.path.rename(study.trial(3).path)
    with pytest.raises(UserError, match=r"study.json: base_config: seed is 3, but trial 3 was trained with 7"):
        _check(study)
    study.trial(3).path.rename(study.path / "trials" / "00001")
    assert _check(study) == []
    assert [int(run.path.name) for run in study.trials()] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fold", 1, "fold is 1, but trial 0 was trained with 0"),
        ("seed", 5, "seed is 5, but trial 0 was trained with 0"),
        ("label_smoothing", 0.5, "label_smoothing is 0.5, but trial 0 was trained with 0.0"),
        ("num_signs", 99, "num_signs is 99, but trial 0 was trained with 4"),
    ],
)
def test_a_study_json_that_its_trials_contradict_is_refused(
    name: str, value: Any, words: str, study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    content = study.read_request()
    content["base_config"] = TrainConfig.from_json(content["base_config"]).replace(**{name: value}).to_json()
    study.write_request(content)
    with pytest.raises(UserError, match=rf"study.json: base_config: {words} .*; bring the file back as it was written"):
        _check(study)
    assert len(read_rows(study.path)) == 3
    assert f"base_config: {words}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"sampler": "tpe"}, {"pruner": "median"}, {"max_params": 10**9}, {"points": [{"num_layers": 1}]}],
)
def test_a_study_json_that_asks_for_another_search_is_refused(change: dict[str, Any], study: StudyDir) -> None:
    content = study.read_request()
    study.write_request(content | {"trials": 9, "data": "elsewhere"})  # which may change
    assert _check(study) == []
    study.write_request(content | change)
    with pytest.raises(UserError, match=r"study.json: asks for another search than was begun; bring the file back"):
        _check(study)


def test_another_dataset_and_a_space_that_a_trial_is_not_of_are_refused(study: StudyDir) -> None:
    content = study.read_request()
    study.write_request(content | {"data_fingerprint": "0" * 64})
    with pytest.raises(UserError, match=r"study.json: data_fingerprint: is another dataset's than that of trial 0"):
        _check(study)
    narrow = content["space"] | {"mixup_alpha": {"type": "float", "low": 0.0, "high": 1e-9}}
    study.write_request(content | {"space": narrow})
    with pytest.raises(UserError, match=r"study.json: space: mixup_alpha is never .*trial 0 was trained so"):
        _check(study)
    wide = content["space"] | {"mixup_alpha": {"type": "float", "low": 0.0, "high": 2.0}}
    study.write_request(content | {"space": wide})
    with pytest.raises(UserError, match=r"space: mixup_alpha has another range, .* than trial 0 drew it from; bring"):
        _check(study)


def test_a_trial_that_is_finished_without_its_file_is_named(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.trial(1).path / DONE).unlink()
    assert len(read_rows(study.path)) == 3
    assert "has no done.json of trial 1" in capsys.readouterr().out
    assert OwnFiles(study, Request.read(study)).departure(study.trial(1)) is None


def test_files_are_read_once_and_of_a_study_that_goes_on_only_those_of_trials_that_have_not_ended(
    study: StudyDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    read_config = RunDir.read_config

    def counted(run: RunDir) -> TrainConfig:
        read.append(run.path.name)
        return read_config(run)

    begun = SearchStudy(study, Request.read(study))
    given = begun.ask()
    assert given is not None
    study.trial(given.number).write_config(given.config)
    begun.close()
    monkeypatch.setattr(RunDir, "read_config", counted)
    assert _check(study) == []
    assert read == ["0000", "0001", "0002", "0003"]
    SearchStudy(study, Request.read(study)).close()
    assert read[4:] == ["0003"]


def test_a_field_that_no_configuration_has_is_named(study: StudyDir, capsys: pytest.CaptureFixture[str]) -> None:
    _edit(study, "update trial_params set param_name = 'zzz' where trial_id = 2 and param_name = 'num_layers'")
    assert [row.number for row in read_rows(study.path)] == [2, 0]
    assert "trial 1 has a field 'zzz' there, and" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"trial 1 has a field 'zzz' there, and .*config.json has none; bring back"):
        _check(study)


@pytest.mark.parametrize(
    ("edit", "words", "out", "stay"),
    [
        ("set number = 9 where number = 1", "has a trial 9, and study.json asks for trials 0 to 3", "1 9", [2, 0]),
        ("set number = 2 where number = 1", "has 2 trials 2", "2", [0]),
    ],
)
def test_a_trial_of_a_number_that_it_cannot_have_is_left_out(
    edit: str, words: str, out: str, stay: list[int], study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    _edit(study, f"update trials {edit}")
    with pytest.raises(UserError, match=rf"study.db: {words}; bring .*'s own database back"):
        _check(study)
    assert [row.number for row in read_rows(study.path)] == stay
    first = capsys.readouterr().out.splitlines()[0]
    assert f"study.db: {words}; trial" in first
    assert f" {out} left out" in first


def test_a_search_does_not_go_on_where_an_early_trial_was_removed(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    _forget(study, 0)
    with pytest.raises(UserError, match=r"study.db: has no trial 0, and later ones; bring .*'s own database back"):
        _check(study)
    assert [row.number for row in read_rows(study.path)] == [2, 1]
    assert "has no trial 0, and later ones; trial 0 left out" in capsys.readouterr().out


def test_a_record_of_epochs_must_be_what_the_database_has(study: StudyDir) -> None:
    run = study.trial(1)
    (trial,) = [its for its in read_trials(study.path) if its.number == 1]
    for epoch in range(1, 5):
        run.append_metrics(metrics_of(epoch, trial.intermediate_values[epoch]))
    assert [item.epoch for item in own_files.metrics_of(run, trial)] == [1, 2, 3, 4]
    run.keep_metrics(3)
    with pytest.raises(UserError, match=r"metrics.jsonl: ends after epoch 3, the trial after 4; bring"):
        own_files.metrics_of(run, trial)
    run.append_metrics(metrics_of(4, 0.99))
    with pytest.raises(UserError, match=r"metrics.jsonl: has an accuracy of 0.9900 after epoch 4, and the database 0"):
        own_files.metrics_of(run, trial)
    run.append_metrics(metrics_of(4, 0.99))
    with pytest.raises(UserError, match=r"metrics.jsonl: line 5: epoch: must be at least 5, not 4"):
        own_files.metrics_of(run, trial)


def test_finished_trials_without_weights_are_told(study: StudyDir, capsys: pytest.CaptureFixture[str]) -> None:
    read_rows(study.path)
    assert capsys.readouterr().out == ""  # as of a copy of a study behind a URI: none has any
    for number in (0, 2):
        study.trial(number).write_weights({"a": torch.ones(2)})
    assert len(read_rows(study.path)) == 3
    assert "has no weights.safetensors of trial 1, which cannot be selected; bring it back" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["done.json", "config.json"])
def test_finished_trials_whose_files_cannot_be_read_are_told(
    name: str, study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    (study.trial(1).path / name).write_text("{")
    assert len(read_rows(study.path)) == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: {study.trial(1).path / name}: cannot be read")
    assert line.endswith("; trial 1 cannot be selected")
