"""The study in memory, where it is decided, and in a database, where it is remembered.

Samplers and pruners read the trials from memory. Every change also goes to a database that Optuna and its dashboard
load as it is: study.db (SQLite), or any that Optuna knows. ``flush`` writes all changes since the last
time in their order and in one transaction, so that the database always holds the study as it was at some ``flush``;
opening it again rebuilds the memory. Trials are written through Optuna's own tables: its public methods commit each
value by itself, eleven transactions a trial.
"""

import contextlib
import copy
import itertools
import json
import sqlite3
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, Table, bindparam, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import InternalError, SQLAlchemyError

from search.record.database_errors import BRING_BACK, explained, may_pass
from search.record.database_url import shown, without_password
from search.record.reading import PARAMS, STEPS, SYSTEM_ATTRS, TRIALS, USER_ATTRS, VALUES, read_all
from trainer.common.errors import UserError
from trainer.common.patience import PATIENCE, patiently

CONNECT_SECONDS: Final = 8  # to be answered by PostgreSQL
BUSY_SECONDS: Final = 60.0  # to wait while somebody else writes to the same SQLite file

_STUDY_USER_ATTRS: Final[Table] = models.StudyUserAttributeModel.__table__
_STUDY_SYSTEM_ATTRS: Final[Table] = models.StudySystemAttributeModel.__table__
_NAMES: Final = {  # of the column that tells the rows of one trial, or of one study, from each other
    PARAMS: "param_name",
    VALUES: "objective",
    STEPS: "step",
    USER_ATTRS: "key",
    SYSTEM_ATTRS: "key",
    _STUDY_USER_ATTRS: "key",
    _STUDY_SYSTEM_ATTRS: "key",
}
_OF_STUDY: Final = (_STUDY_USER_ATTRS, _STUDY_SYSTEM_ATTRS)

Again = Callable[[FrozenTrial], dict[str, Any] | None]
"""The user attributes that an ended trial gets when it is begun again; None if it stays as it is"""
_Key = tuple[int, Hashable]  # id in memory of a trial or study, name of the row


class StudyStorage(InMemoryStorage):
    """Optuna's storage in memory, whose one study is also in a database as of the last ``flush``.

    A trial's id in memory is its number. In the database, which may hold other studies too, ids are its own.
    """

    def __init__(self, url: str, study_name: str, again: Again | None = None) -> None:
        """Connect to a database, and read the study of this name if there is one.

        Trials that ``again`` gives attributes to are RUNNING from now on; with the next ``flush``, in the database too.
        Raises UserError if the database cannot be reached, or holds something else.
        """
        super().__init__()
        self._rdb = patiently(lambda: connect(url), may_pass, PATIENCE)
        self._name = shown(url)
        self._study_id: int | None = None  # in the database
        self._trial_ids: dict[int, int] = {}  # in the database, by id in memory
        self._changed_trials: dict[int, None] = {}  # ids in memory, in order
        self._changes: dict[Table, dict[_Key, dict[str, Any]]] = {table: {} for table in _NAMES}
        self._known: dict[Table, set[_Key]] = {table: set() for table in _NAMES}  # rows that the database has
        self._stand_ins: dict[int, FrozenTrial] = {}  # by number
        with explained(self._name, "read"):
            if study_name in patiently(lambda: optuna.get_all_study_names(self._rdb), may_pass, PATIENCE):
                self._study_id = self._rdb.get_study_id_from_name(study_name)
                self._read(self._study_id, study_name, again or (lambda _: None))

    def close(self) -> None:
        """Let go of the database; a SQLite file then needs nothing beside it."""
        self._rdb.remove_session()
        if self._rdb.engine.name == "sqlite":
            # fails where somebody is reading, which harms nothing, or where the disk is full, which flush has said
            with contextlib.suppress(SQLAlchemyError), self._rdb.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        self._rdb.engine.dispose()

    def flush(self) -> None:
        """Write what changed since the last call, all of it or, raising UserError, nothing."""
        if not self._changed_trials and not any(self._changes.values()):
            return
        advice = "solve that, then resume the study"
        with explained(self._name, "written", advice):
            ids = self._write()
        self._trial_ids = ids
        self._changed_trials.clear()
        for table, written in self._changes.items():
            self._known[table].update(written)
            written.clear()

    def _write(self) -> dict[int, int]:
        """Write all changes; the database's ids of trials, by id in memory.

        A server that is out of reach is tried again for PATIENCE seconds. It may have written everything before its
        answer was lost, so the second attempt looks first for what is there.
        """
        attempts = itertools.count()

        def write() -> dict[int, int]:
            with self._rdb.engine.begin() as connection:
                if next(attempts):
                    self._look_for_changes(connection)
                ids = self._trial_ids | self._write_trials(connection)
                for table, changes in self._changes.items():
                    if changes:
                        self._write_rows(connection, table, changes, ids)
            return ids

        def write_anew() -> dict[int, int]:
            try:
                return write()
            except InternalError:  # of a standby, to which a connection stays open
                self._rdb.engine.dispose()
                raise

        return patiently(write_anew, may_pass, PATIENCE)

    def _look_for_changes(self, connection: Connection) -> None:
        """See which trials and rows the database has that it was not known to have."""
        asked = select(TRIALS.c.number, TRIALS.c.trial_id).where(TRIALS.c.study_id == self._study_id)
        self._trial_ids |= {row.number: row.trial_id for row in connection.execute(asked)}
        for table, changes in self._changes.items():
            for owner, name in changes:
                owner_id = self._study_id if table in _OF_STUDY else self._trial_ids.get(owner)
                column = table.c["study_id" if table in _OF_STUDY else "trial_id"]
                found = select(column).where(column == owner_id, table.c[_NAMES[table]] == name)
                if connection.execute(found).first() is not None:
                    self._known[table].add((owner, name))

    @contextlib.contextmanager
    def showing(self, stand_ins: dict[int, FrozenTrial]) -> Iterator[None]:
        """While this lasts, whoever asks for all trials gets others in place of those of these numbers."""
        self._stand_ins = stand_ins
        try:
            yield
        finally:
            self._stand_ins = {}

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if not self._stand_ins or states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy, states)
        trials = super().get_all_trials(study_id, deepcopy=False)
        shown = [self._stand_ins.get(trial.number, trial) for trial in trials]
        chosen = [trial for trial in shown if states is None or trial.state in states]
        return copy.deepcopy(chosen) if deepcopy else chosen

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        study_id = super().create_new_study(directions, study_name)
        try:
            with explained(self._name, "written"):
                self._study_id = self._rdb.create_new_study(directions, study_name)
        except DuplicatedStudyError as error:
            raise UserError(f"{self._name}: another search has just made a study named {study_name} there") from error
        return study_id

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_user_attr(study_id, key, value)
        self._change(_STUDY_USER_ATTRS, study_id, key, value_json=json.dumps(value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        super().set_study_system_attr(study_id, key, value)
        self._change(_STUDY_SYSTEM_ATTRS, study_id, key, value_json=json.dumps(value))

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial_id = super().create_new_trial(study_id, template_trial)
        self._changed_trials[trial_id] = None
        for table, key, row in _rows(self.get_trial(trial_id)):
            self._changes[table][trial_id, key] = row
        return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        json_text = distribution_to_json(distribution)
        self._change(PARAMS, trial_id, param_name, param_value=param_value_internal, distribution_json=json_text)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if not super().set_trial_state_values(trial_id, state, values):
            return False
        self._changed_trials[trial_id] = None
        for objective, value in enumerate(values or ()):
            self._change(VALUES, trial_id, objective, **_value_row(value))
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        self._change(STEPS, trial_id, step, **_step_row(intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_user_attr(trial_id, key, value)
        self._change(USER_ATTRS, trial_id, key, value_json=json.dumps(value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        super().set_trial_system_attr(trial_id, key, value)
        self._change(SYSTEM_ATTRS, trial_id, key, value_json=json.dumps(value))

    def _change(self, table: Table, owner: int, name: Hashable, **row: Any) -> None:
        self._changes[table][owner, name] = row

    def _read(self, database_id: int, study_name: str, again: Again) -> None:
        """Bring a study of the database into memory."""
        study_id = super().create_new_study(self._rdb.get_study_directions(database_id), study_name)
        for key, value in self._rdb.get_study_user_attrs(database_id).items():
            super().set_study_user_attr(study_id, key, value)
            self._known[_STUDY_USER_ATTRS].add((study_id, key))
        for key, value in self._rdb.get_study_system_attrs(database_id).items():
            super().set_study_system_attr(study_id, key, value)
            self._known[_STUDY_SYSTEM_ATTRS].add((study_id, key))
        trials, broken = read_all(self._rdb, database_id)
        for number, reason in broken.items():
            raise ValueError(f"trial {number}: {reason}")
        for trial in trials:
            attributes = again(trial)
            if attributes is None:
                trial_id = super().create_new_trial(study_id, trial)
            else:  # no method of Optuna's begins an ended one again
                begun = copy.copy(trial)
                begun.state, begun.datetime_complete, begun.values = TrialState.RUNNING, None, None
                trial_id = super().create_new_trial(study_id, begun)
                self._changed_trials[trial_id] = None
            self._trial_ids[trial_id] = trial._trial_id
            for table, name, _ in _rows(trial):
                self._known[table].add((trial_id, name))
            for key, value in (attributes or {}).items():
                self.set_trial_user_attr(trial_id, key, value)

    def _write_trials(self, connection: Connection) -> dict[int, int]:
        """Write the rows of trials themselves; the database's ids of those that are new to it, by id in memory."""
        new_ids: dict[int, int] = {}
        for trial_id in self._changed_trials:
            trial = self.get_trial(trial_id)
            row: dict[str, Any] = {
                "state": trial.state,
                "datetime_start": _utc(trial.datetime_start),
                "datetime_complete": _utc(trial.datetime_complete),
            }
            if trial_id in self._trial_ids:
                connection.execute(update(TRIALS).where(TRIALS.c.trial_id == self._trial_ids[trial_id]), row)
            else:
                row |= {"study_id": self._study_id, "number": trial.number}
                new_ids[trial_id] = connection.execute(insert(TRIALS), row).inserted_primary_key[0]  # type: ignore[index]  # one row has one
        return new_ids

    def _write_rows(
        self, connection: Connection, table: Table, changes: dict[_Key, dict[str, Any]], ids: dict[int, int]
    ) -> None:
        owner_name, name = "study_id" if table in _OF_STUDY else "trial_id", _NAMES[table]
        new, old = [], []
        for (owner, key), row in changes.items():
            owner_id = self._study_id if table in _OF_STUDY else ids[owner]
            if (owner, key) in self._known[table]:
                old.append({"its_owner": owner_id, "its_name": key, **row})
            else:
                new.append({owner_name: owner_id, name: key, **row})
        if new:
            connection.execute(insert(table), new)
        if old:
            is_it = (table.c[owner_name] == bindparam("its_owner"), table.c[name] == bindparam("its_name"))
            connection.execute(update(table).where(*is_it), old)


class Stored(NamedTuple):
    """What a database has of a study."""

    directions: list[StudyDirection]
    user_attrs: dict[str, Any]
    trials: list[FrozenTrial]
    """By number"""
    broken: dict[int, str]
    """Why others cannot be read, by number"""


def load_stored(url: str, study_name: str | None, patience: float = 0.0) -> Stored:
    """A study; the only one in the database where there is no name.

    A server that is out of reach is tried again for ``patience`` seconds. Raises UserError.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def load() -> Stored:
        if (path := _file_of(url)) is not None and not path.exists():
            raise OSError("there is no such file")  # SQLite would make it
        storage = RDBStorage(url, _engine_kwargs(url), skip_table_creation=True)
        try:
            study = optuna.load_study(study_name=study_name, storage=storage)
            return Stored(study.directions, study.user_attrs, *read_all(storage, study._study_id))
        finally:
            storage.engine.dispose()

    with explained(shown(url), "read as a study"):
        return patiently(load, may_pass, patience)


def has_study(url: str, study_name: str) -> bool:
    """Whether a database has a study of this name. Raises UserError if it cannot be reached."""
    return study_name in study_names(url)


def study_names(url: str, remedy: str = BRING_BACK) -> list[str]:
    """Of all studies in a database, which is left as it is.

    Raises UserError if it cannot be read; ``remedy`` is for one that is damaged.
    """
    if (path := _file_of(url)) is not None and path.parent.is_dir() and not path.exists():
        return []  # SQLite would make the file
    with explained(shown(url), "used as a database", remedy=remedy):
        engine = create_engine(url, **_engine_kwargs(url))
        try:
            if not inspect(engine).has_table(models.StudyModel.__tablename__):
                return []
            with engine.connect() as connection:
                return list(connection.scalars(select(models.StudyModel.study_name).order_by("study_id")))
        finally:
            engine.dispose()


def _file_of(url: str) -> Path | None:
    """The file that a database of SQLite is; None for any other database."""
    parsed = make_url(without_password(url))
    if parsed.get_backend_name() != "sqlite" or (parsed.database or ":").startswith((":", "file:")):
        return None
    return Path(str(parsed.database))


def connect(url: str) -> RDBStorage:
    """Optuna's own storage at a URL; its tables are made where there are none. Raises UserError if that fails."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    is_sqlite = make_url(without_password(url)).get_backend_name() == "sqlite"
    with explained(shown(url), "used as a database"):
        storage = RDBStorage(url, _engine_kwargs(url))
        if is_sqlite:
            event.listen(storage.engine, "connect", _configure)
            storage.engine.dispose()  # connections made before know nothing of this
        return storage


def _engine_kwargs(url: str) -> dict[str, Any]:
    """How long SQLAlchemy waits for a database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    if parsed.drivername in ("postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
        patience = {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * int(PATIENCE)}
        own = {key: value for key, value in patience.items() if key not in parsed.query}
        return {"pool_pre_ping": True, "connect_args": own}
    return {"pool_pre_ping": True}


def _configure(connection: sqlite3.Connection, _: object) -> None:
    """Have SQLite survive a killed process without waiting for the disk at every transaction."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _rows(trial: FrozenTrial) -> Iterator[tuple[Table, Hashable, dict[str, Any]]]:
    """All that belongs to a trial: table, name, and the row's other columns."""
    for name, distribution in trial.distributions.items():
        value = distribution.to_internal_repr(trial.params[name])
        yield PARAMS, name, {"param_value": value, "distribution_json": distribution_to_json(distribution)}
    for objective, value in enumerate(trial.values or ()):
        yield VALUES, objective, _value_row(value)
    for step, value in trial.intermediate_values.items():
        yield STEPS, step, _step_row(value)
    for key, value in trial.user_attrs.items():
        yield USER_ATTRS, key, {"value_json": json.dumps(value)}
    for key, value in trial.system_attrs.items():
        yield SYSTEM_ATTRS, key, {"value_json": json.dumps(value)}


def _value_row(value: float) -> dict[str, Any]:
    stored, kind = models.TrialValueModel.value_to_stored_repr(value)
    return {"value": stored, "value_type": kind}


def _step_row(value: float) -> dict[str, Any]:
    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    return {"intermediate_value": stored, "intermediate_value_type": kind}


def _utc(time: datetime | None) -> datetime | None:
    """Naive local time, as Optuna gives it, in naive UTC, as it is stored."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)
