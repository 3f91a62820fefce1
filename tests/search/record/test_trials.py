"""Rows of trials in trials.parquet, and what is no study."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from search.decide.stopping import Decision
from search.decide.study import SearchStudy
from search.problem.space import Space
from search.record.trials import read_rows, read_trials, to_rows, write_parquet
from tests.outcomes import metrics_of
from tests.search.conftest import TINY_SPACE
from tests.search.show.test_tables import ROWS
from tests.search.studies import request_of
from trainer.common.errors import UserError
from trainer.common.files import locked
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


def test_parquet_has_one_row_a_trial_by_number(tmp_path: Path) -> None:
    write_parquet(ROWS, tmp_path)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert table["number"].tolist() == [0, 1, 2]
    assert table["state"].tolist() == ["PRUNED", "COMPLETE", "FAIL"]
    assert table["reason"].tolist()[2] == "RuntimeError: [Errno 28] no space"
    assert table["num_heads"].tolist() == [2, 2, 2]
    assert table["bytes"].tolist()[1] == 4 * 1_663_546
    assert table["val_accuracy"].isna().tolist() == [False, False, True]


def test_the_finished_come_first_and_the_failed_last_each_by_accuracy() -> None:
    ended = {"COMPLETE": 0.5, "PRUNED": 0.7, "RUNNING": 0.8, "FAIL": 0.9, "WAITING": None}
    trials = [
        create_trial(
            state=TrialState[state],
            value=accuracy if state == "COMPLETE" else None,
            intermediate_values={} if accuracy is None else {1: accuracy},
        )
        for state, accuracy in [*ended.items(), ("PRUNED", 0.75), ("COMPLETE", 0.6)]
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    assert [row.number for row in to_rows(trials)] == [6, 0, 2, 5, 1, 4, 3]


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no study \(no study.db\); make one with"):
        read_rows(tmp_path)
    StudyDir(tmp_path / "asl").write_request({})
    with pytest.raises(UserError, match=rf"holds no study \(no study.db\); it holds studies: give {tmp_path}/asl$"):
        read_rows(tmp_path)
    (tmp_path / "study.db").write_bytes(b"not a database at all, but long enough to look at" * 9)
    with pytest.raises(UserError, match="cannot be read as a study"):
        read_rows(tmp_path)


def test_a_trial_that_runs_is_interrupted_where_no_search_is_at_work(tmp_path: Path, base: TrainConfig) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), name="s")
    request.write(StudyDir(tmp_path))
    study = SearchStudy(StudyDir(tmp_path), request)
    study.ask()
    study.close()
    assert next(row.state for row in read_rows(tmp_path)) == "interrupted"
    with locked(tmp_path):
        assert next(row.state for row in read_rows(tmp_path)) == "RUNNING"
    assert read_trials(tmp_path)[0].state.name == "RUNNING", "for Optuna, or it could not go on"
    assert next(row.state for row in read_rows(tmp_path)) == "interrupted"


def test_what_a_trial_that_runs_was_described_as_before_is_not_shown_beside_its_last_epoch(
    tmp_path: Path, base: TrainConfig
) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), name="s", trials=1, recipe_points=False)
    request.write(StudyDir(tmp_path))
    study = SearchStudy(StudyDir(tmp_path), request)
    given = study.ask()
    assert given is not None
    study._describe(given.number, 0.5, 3.0)  # as where it paused after an epoch before
    study.report(given.number, metrics_of(1, 0.25))
    study.close()
    (row,) = read_rows(tmp_path)
    assert (row.val_accuracy, row.epochs, row.val_log_loss, row.seconds) == (0.25, 1, None, None)
    run = StudyDir(tmp_path).trial(given.number)
    run.path.mkdir(parents=True)
    for item in (metrics_of(1, 0.25), metrics_of(2, 0.75)):  # the second is not yet in the database
        run.append_metrics(dataclasses.replace(item, val_log_loss=1 / item.epoch, seconds=2.0 + item.epoch))
    (row,) = read_rows(tmp_path)
    assert (row.val_accuracy, row.epochs, row.val_log_loss, row.seconds) == (0.25, 1, 1.0, 3.0)
    study = SearchStudy(StudyDir(tmp_path), request)
    study.ask()
    study.report(given.number, metrics_of(2, 0.75))
    study.close()
    (row,) = read_rows(tmp_path)
    assert (row.val_accuracy, row.epochs, row.val_log_loss, row.seconds) == (0.75, 2, 0.5, 7.0)


def test_a_trial_that_waits_for_others_is_paused_and_one_that_has_not_begun_has_what_is_given(
    tmp_path: Path, base: TrainConfig
) -> None:
    points = [{"num_layers": 1}, {"num_layers": 2}]
    request = request_of(Space.parse(TINY_SPACE, base), name="s", trials=8, recipe_points=False, points=points)
    request.write(StudyDir(tmp_path))
    study = SearchStudy(StudyDir(tmp_path), request)
    given = study.ask()
    assert given is not None
    assert study.report(given.number, metrics_of(1, 0.25)) is Decision.PAUSE
    study.close()
    paused, queued = read_rows(tmp_path)
    assert (paused.state, paused.val_accuracy, paused.val_log_loss) == ("paused", 0.25, 1.0)
    assert (queued.state, queued.params, queued.epochs) == ("WAITING", {"num_layers": 2}, 0)
    with locked(tmp_path):
        assert [row.state for row in read_rows(tmp_path)] == ["paused", "WAITING"]


def test_looking_at_a_database_that_is_not_there_makes_none(tmp_path: Path, base: TrainConfig) -> None:
    request = request_of(Space.parse(TINY_SPACE, base), name="s", storage=f"sqlite:///{tmp_path}/absent.db")
    request.write(StudyDir(tmp_path))
    with pytest.raises(UserError, match=r"absent.db: cannot be read as a study \(there is no such file\)"):
        read_rows(tmp_path)
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(UserError, match=r"^storage: .*absent.db: cannot be read as a study"):
        read_rows(tmp_path, f"sqlite:///{tmp_path}/absent.db")
