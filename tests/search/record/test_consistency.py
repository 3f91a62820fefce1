"""A study goes on with its own database only."""

import contextlib
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.decide.study import SearchStudy
from search.problem.objective import Objective
from search.problem.space import Space
from search.record.consistency import check_database
from search.record.request import Request
from search.record.storage import study_names
from search.record.trials import read_rows
from tests.outcomes import result_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import request_of
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import STUDY_DB, StudyDir


def _study(directory: Path, base: TrainConfig, name: str = "s", **asked: Any) -> tuple[StudyDir, Request]:
    """A study of two trials that have begun."""
    study, request = StudyDir(directory), request_of(Space.parse(TINY_SPACE, base), name=name, **asked)
    request.write(study)
    deciding = SearchStudy(study, request)
    for _ in range(2):
        given = deciding.ask()
        assert given is not None
        study.trial(given.number).write_config(given.config)
    deciding.close()
    return study, request


def _swap_table(study: StudyDir, _: TrainConfig) -> None:
    (study.path / STUDY_DB).unlink()
    with sqlite3.connect(study.path / STUDY_DB) as connection:
        connection.execute("create table t(a)")


def _empty(study: StudyDir, _: TrainConfig) -> None:
    (study.path / STUDY_DB).write_bytes(b"")


def _text(study: StudyDir, _: TrainConfig) -> None:
    (study.path / STUDY_DB).write_text("what somebody wrote into a file of this name")


def _folder(study: StudyDir, _: TrainConfig) -> None:
    (study.path / STUDY_DB).unlink()
    (study.path / STUDY_DB).mkdir()


def _gone(study: StudyDir, _: TrainConfig) -> None:
    (study.path / STUDY_DB).unlink()


def _other_name(study: StudyDir, base: TrainConfig) -> None:
    other, _ = _study(study.path.parent / "other", base, "other")
    (other.path / STUDY_DB).replace(study.path / STUDY_DB)


def _same_name(study: StudyDir, base: TrainConfig) -> None:
    other, _ = _study(study.path.parent / "other", base, seed=7, recipe_points=False)
    (other.path / STUDY_DB).replace(study.path / STUDY_DB)


def _two_values(study: StudyDir, base: TrainConfig) -> None:
    objective = Objective("accuracy,params")
    other, _ = _study(study.path.parent / "other", base, objective=objective, pruner="none", sampler="tpe")
    (other.path / STUDY_DB).replace(study.path / STUDY_DB)


def _older(study: StudyDir, base: TrainConfig) -> None:
    """As a database of last night, or one whose last writes went with the power."""
    config = study.trial(1).read_config()
    study.trial(3).write_config(config.replace(seed=base.seed + 3))
    study.trial(3).write_result(result_of(epochs=4, val_accuracy=0.3, data_fingerprint=""))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_gone, "holds no study named s"),
        (_swap_table, "holds no study named s, .*it has none"),
        (_empty, "holds no study named s, .*it has none"),
        (_text, "cannot be used as a database .*not a database"),
        (_folder, "cannot be used as a database .*unable to open"),
        (_other_name, "holds no study named s, .*it has other"),
        (_same_name, "trial 1 has .*config.json"),  # the first of each study is the middle of the space
        (_two_values, "its study is to maximize and minimize, but this one was asked to maximize"),
    ],
)
def test_another_database_is_refused_and_left_as_it_is(
    damage: Callable[[StudyDir, TrainConfig], None], words: str, tmp_path: Path, base: TrainConfig
) -> None:
    study, request = _study(tmp_path / "s", base, recipe_points=False)
    check_database(study, request)
    damage(study, base)
    file = study.path / STUDY_DB
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(
        UserError, match=words + ".*(own database back, or|whichever was changed, or|whether it is a file, in a folder)"
    ):
        check_database(study, request)
    if damage not in (_same_name, _two_values):  # these are opened as what they are, Optuna's
        assert (file.read_bytes() if file.is_file() else None) == before


def test_behind_a_uri_what_a_lost_driver_had_may_be_missing(tmp_path: Path, base: TrainConfig) -> None:
    study, request = _study(tmp_path / "s", base, recipe_points=False)
    _older(study, base)
    assert check_database(study, request, is_copy=True) == [3]
    _gone(study, base)
    assert check_database(study, request, is_copy=True) == [3]
    _other_name(study, base)
    with pytest.raises(UserError, match="holds no study named s"):
        check_database(study, request, is_copy=True)


def test_a_study_that_was_stopped_before_its_first_trial_goes_on(tmp_path: Path, base: TrainConfig) -> None:
    study, request = StudyDir(tmp_path), request_of(Space.parse(TINY_SPACE, base), name="s")
    request.write(study)
    check_database(study, request)
    (tmp_path / STUDY_DB).write_bytes(b"")
    check_database(study, request)


def test_a_trial_with_a_broken_config_does_not_keep_the_others_from_going_on(tmp_path: Path, base: TrainConfig) -> None:
    study, request = _study(tmp_path / "s", base, recipe_points=False)
    (study.trial(0).path / "config.json").write_text("{")
    check_database(study, request)


@pytest.mark.parametrize(
    ("edit", "words", "stay"),
    [
        (
            "update trial_params set param_value = 1e30 where param_name = 'num_layers'",
            "trial 0: .*IntDistribution",
            [],
        ),
        ("update trials set state = 'FOO' where number = 1", "trial 1: .*'FOO'", [0]),
        ("update trials set datetime_start = 'abc' where number = 1", "trial 1: .*isoformat string: 'abc'", [0]),
        ("update trial_params set distribution_json = '{}' where trial_id = 2", "trial 1: .*'type'", [0]),
        ("insert into trial_user_attributes values (99, 1, 'seconds', '\"x\"')", "trial 0: .*seconds: 'x'", [1]),
        ("insert into trial_user_attributes values (99, 1, 'seconds', '{')", "trial 0: .*double quotes", [1]),
        ("update trials set number = null where number = 1", "trial 1: .*number: None", [0]),
        ("update trials set number = x'00ff' where number = 1", "trial 1: .*number: b'", [0]),
        (
            "update trial_params set param_name = x'30' where trial_id = 2 and param_name = 'num_layers'",
            "trial 1: .*parameter: b'0'",
            [0],
        ),
        ("update trials set state = 'COMPLETE' where number = 1", "trial 1: .*is supposed to be set", [0]),
    ],
)
def test_a_record_that_nobody_has_written_so_is_left_out_and_a_search_does_not_go_on_with_it(
    edit: str, words: str, stay: list[int], tmp_path: Path, base: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    study, request = _study(tmp_path / "s", base, recipe_points=False)
    with contextlib.closing(sqlite3.connect(study.path / STUDY_DB)) as connection:
        connection.execute(edit)
        connection.commit()
    assert [row.number for row in read_rows(study.path)] == stay
    (line,) = capsys.readouterr().out.splitlines()
    assert re.match(rf"warning: .*study\.db: {words}.*; bring the database back as the search left it; trials? ", line)
    with pytest.raises(UserError, match=rf"study\.db: {words}.*; bring the database back"):
        check_database(study, request)


def test_a_database_whose_study_has_another_goal_is_not_shown(tmp_path: Path, base: TrainConfig) -> None:
    study, request = _study(tmp_path / "s", base, recipe_points=False)
    with contextlib.closing(sqlite3.connect(study.path / STUDY_DB)) as connection:
        connection.execute("update study_directions set direction = 'MINIMIZE'")
        connection.commit()
    for act in (lambda: read_rows(study.path), lambda: check_database(study, request)):
        with pytest.raises(UserError, match="its study is to minimize, but this one was asked to maximize"):
            act()


def test_a_database_file_that_is_missing_is_not_made_by_looking(tmp_path: Path) -> None:
    assert study_names(f"sqlite:///{tmp_path}/none.db") == []
    assert not (tmp_path / "none.db").exists()
    assert study_names("sqlite:///:memory:") == []


def test_an_accuracy_that_was_changed_is_refused(tmp_path: Path, base: TrainConfig) -> None:
    study, request = StudyDir(tmp_path / "s"), request_of(Space.parse(TINY_SPACE, base), name="s")
    request.write(study)
    deciding = SearchStudy(study, request)
    given = deciding.ask()
    assert given is not None
    result = result_of(epochs=4, val_accuracy=0.3)
    study.trial(0).write_config(given.config)
    study.trial(0).write_result(result)
    deciding.complete(0, result)
    deciding.close()
    check_database(study, request)
    with contextlib.closing(sqlite3.connect(study.path / STUDY_DB)) as connection:
        connection.execute("insert into trial_intermediate_values values (99, 1, 4, 0.95, 'FINITE')")
        connection.commit()
    with pytest.raises(UserError, match=r"trial 0 has val_accuracy 0.9500 there, and 0.3000 in .*done.json"):
        check_database(study, request)
