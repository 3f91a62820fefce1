"""Memory and database: always the same study, whatever is written, and whatever keeps it from being written."""

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import OperationalError

from search.record.database_url import sqlite_url
from search.record.storage import StudyStorage, has_study
from trainer.common.errors import UserError

NAME = "a study"


def _open(url: str) -> tuple[StudyStorage, optuna.Study]:
    storage = StudyStorage(url, NAME)
    study = optuna.create_study(
        storage=storage,
        study_name=NAME,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
        load_if_exists=True,
    )
    return storage, study


def _suggest(trial: optuna.Trial) -> None:
    trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    trial.suggest_int("num_layers", 1, 9, step=2)
    trial.suggest_categorical("choice", ["a", None, True, 2.5])


def _fields(trial: FrozenTrial) -> dict[str, Any]:
    """All of a trial but its id, as text, so that NaN is equal to NaN."""
    fields = {name: repr(value) for name, value in vars(trial).items() if name != "_trial_id"}
    return fields | {"params": repr(list(trial.params.items()))}  # with their order


def _eventful(study: optuna.Study) -> Iterator[None]:
    """Everything that can happen to a study, yielding where a search would write."""
    study.set_user_attr("what", {"nested": [1, 2]})
    study.enqueue_trial({"learning_rate": 0.5, "choice": True})
    study.enqueue_trial({"num_layers": 3})
    yield
    ends = [(0.75, None), (None, TrialState.FAIL), (None, TrialState.PRUNED), (float("inf"), None)]
    for number, (value, state) in enumerate([*ends, (None, TrialState.RUNNING)]):
        trial = study.ask()
        _suggest(trial)
        yield
        for step, seen in enumerate((float("nan"), float("inf"), 0.25) if number == 1 else (0.1, 0.2), start=1):
            trial.report(seen, step)
            study._storage.set_trial_system_attr(trial._trial_id, "rung", step)
            yield
        trial.set_user_attr("reason", "first thought")
        trial.set_user_attr("reason", "second thought")
        study.set_user_attr("last", number)
        if state != TrialState.RUNNING:
            study.tell(trial, value, state)
        yield
    study.add_trial(optuna.create_trial(state=TrialState.PRUNED, value=0.5, intermediate_values={4: 0.5}))
    study.enqueue_trial({"learning_rate": 0.125})
    yield


def test_memory_a_reopened_memory_and_optunas_own_loader_agree_on_every_field(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    optuna.create_study(storage=url, study_name="another").enqueue_trial({})  # so that ids are not numbers
    storage, study = _open(url)
    states = set()
    for _ in _eventful(study):
        storage.flush()
        reopened, again = _open(url)
        loaded = optuna.load_study(study_name=NAME, storage=url)
        expected = [_fields(trial) for trial in study.trials]
        assert [_fields(trial) for trial in again.trials] == expected
        assert [_fields(trial) for trial in loaded.trials] == expected
        assert study.user_attrs == again.user_attrs == loaded.user_attrs
        assert again.directions == loaded.directions
        reopened.close()
        states |= {trial.state for trial in loaded.trials}
    assert states == set(TrialState)
    storage.close()


def test_nothing_is_written_before_it_is_flushed_and_all_of_it_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    storage, study = _open(url)
    loaded = optuna.load_study(study_name=NAME, storage=url)
    trial = study.ask()
    _suggest(trial)
    trial.report(0.5, 1)
    assert loaded.trials == []
    storage.flush()
    (written,) = loaded.trials
    assert (written.state, len(written.params), written.intermediate_values) == (TrialState.RUNNING, 3, {1: 0.5})
    storage.close()


def test_a_full_disk_leaves_the_study_as_it_was_at_some_flush(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    storage, study = _open(f"sqlite:///{path}")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    flushed: list[dict[str, Any]] = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100_000, limits[1]))

    def fill() -> None:
        for _ in range(1000):
            _suggest(study.ask())
            storage.flush()
            flushed[:] = [_fields(trial) for trial in study.trials]

    try:
        with pytest.raises(UserError, match=r"study.db: cannot be written .*; what was written before is safe"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    storage.close()
    assert flushed
    reopened, again = _open(f"sqlite:///{path}")
    assert [_fields(trial) for trial in again.trials] == flushed
    _suggest(again.ask())
    reopened.flush()
    assert len(optuna.load_study(study_name=NAME, storage=f"sqlite:///{path}").trials) == len(flushed) + 1
    reopened.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:////nowhere/study.db", r"/nowhere/study.db: .*unable to open.*; look whether it is a file"),
        ("nowhere", "storage: not a database URL"),
        (
            "firebird://me:secret@localhost/x",
            r"firebird://\*\*\*@localhost/x: cannot be used as a database .*; give the URL of SQL",
        ),
    ],
)
def test_what_cannot_be_reached_is_named(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        has_study(url, NAME)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named_by_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"used as a database .*; pip install psycopg\[binary\]"):
        has_study("postgresql://localhost/x", NAME)


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"not a database at all, but long enough to look at" * 9)
    with pytest.raises(UserError, match=r"study.db: cannot be used as a database .file is not a database"):
        StudyStorage(f"sqlite:///{path}", NAME)


def test_a_server_whose_answer_was_lost_is_asked_again_and_nothing_is_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, study = _open(url := f"sqlite:///{tmp_path / 'study.db'}")
    engine = storage._rdb.engine
    begin = engine.begin
    pauses: list[float] = []
    faults: list[str] = []
    monkeypatch.setattr(engine.dialect, "name", "postgresql")  # a file would not be asked again
    monkeypatch.setattr("time.sleep", pauses.append)

    @contextlib.contextmanager
    def lose_answer() -> Iterator[Any]:
        if faults and faults.pop(0) == "before":
            raise OperationalError("connect", {}, Exception("refused"))
        with begin() as connection:
            yield connection
        if faults and faults.pop(0) == "after":
            raise OperationalError("commit", {}, Exception("server closed the connection"))

    monkeypatch.setattr(engine, "begin", lose_answer)
    for _ in _eventful(study):
        faults[:] = ["", "after", "before"]
        storage.flush()
    assert set(pauses) == {0.5, 1.0}
    assert [_fields(trial) for trial in optuna.load_study(study_name=NAME, storage=url).trials] == [
        _fields(trial) for trial in study.trials
    ]
    study.enqueue_trial({})
    monkeypatch.setattr("search.record.storage.PATIENCE", 2.0)
    faults[:] = ["before"] * 9
    with pytest.raises(UserError, match=r"cannot be written .refused.; what was written before is safe"):
        storage.flush()


def test_two_searches_cannot_make_a_study_of_one_name_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    first, second = (StudyStorage(url, NAME) for _ in range(2))
    optuna.create_study(storage=first, study_name=NAME)
    with pytest.raises(UserError, match="another search has just made a study named a study"):
        optuna.create_study(storage=second, study_name=NAME, load_if_exists=True)


def _content(trial: FrozenTrial) -> str:
    """What a trial holds, as text; its values are floats, whatever they were given as."""
    values = [list(map(float, trial.values or [])), {step: float(x) for step, x in trial.intermediate_values.items()}]
    attributes = [sorted(held.items()) for held in (trial.params, trial.user_attrs, trial.system_attrs)]
    return repr((trial.number, trial.state, values, attributes))


class TestOptunasContract(StorageTestCase):
    """Optuna's own suite for storages, on ours; what a test of one study left is in the database too, once flushed."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        url = sqlite_url(tmp_path / "study.db")
        storage = StudyStorage(url, "study")
        yield storage
        studies, names = storage.get_all_studies(), optuna.get_all_study_names(url)
        if len(studies) == len(names) == 1:  # more than one are for memory alone
            storage.flush()
            kept = optuna.load_study(study_name=names[0], storage=url)
            here = storage.get_all_trials(studies[0]._study_id)
            assert [_content(trial) for trial in kept.trials] == [_content(trial) for trial in here]
            assert repr(sorted(kept.user_attrs.items())) == repr(sorted(studies[0].user_attrs.items()))
        storage.close()
