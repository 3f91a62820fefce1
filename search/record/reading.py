"""A study's trials, read from Optuna's tables: as Optuna's own storage reads them, in a quarter of the time.

Optuna makes an object of SQLAlchemy's of each row, of which a trial has twenty and more, and parses the ranges of each
trial anew.
"""

import functools
import json
from collections import defaultdict
from typing import Any, Final

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import Connection, Row, Select, Table, select

from trainer.common.errors import in_one_line

TRIALS: Final[Table] = models.TrialModel.__table__
PARAMS: Final[Table] = models.TrialParamModel.__table__
VALUES: Final[Table] = models.TrialValueModel.__table__
STEPS: Final[Table] = models.TrialIntermediateValueModel.__table__
USER_ATTRS: Final[Table] = models.TrialUserAttributeModel.__table__
SYSTEM_ATTRS: Final[Table] = models.TrialSystemAttributeModel.__table__

_distribution = functools.lru_cache(maxsize=1024)(json_to_distribution)


_BROKEN: Final = (LookupError, ValueError, TypeError, OverflowError, RecursionError)
"""What SQLAlchemy, Optuna and we say of rows that no search has written"""


def read_all(storage: RDBStorage, study_id: int) -> tuple[list[FrozenTrial], dict[int, str]]:
    """All trials of a study, in the order in which they were made; those of equal ranges share them.

    And why others cannot be read, by their numbers: somebody has changed their rows. Raises what SQLAlchemy raises.
    """
    of_study = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id).order_by(TRIALS.c.trial_id)
    with storage.engine.connect() as connection:
        try:
            return _read(connection, of_study), {}
        except _BROKEN:
            return _read_whole_ones(connection, of_study, list(connection.scalars(of_study)), 0)


def _read_whole_ones(
    connection: Connection, of_study: Select[tuple[int]], trial_ids: list[int], first: int
) -> tuple[list[FrozenTrial], dict[int, str]]:
    """Those of some trials that can be read, and why the others cannot be: they are halved until they are found.

    Trials were made in the order of their numbers; ``first`` is the first one's.
    """
    try:
        return _read(connection, of_study.where(TRIALS.c.trial_id.between(trial_ids[0], trial_ids[-1]))), {}
    except _BROKEN as error:
        if len(trial_ids) == 1:
            return [], {first: in_one_line(error)}
    middle = len(trial_ids) // 2
    found, wrong = _read_whole_ones(connection, of_study, trial_ids[:middle], first)
    others, more = _read_whole_ones(connection, of_study, trial_ids[middle:], first + middle)
    return found + others, wrong | more


def _read(connection: Connection, its_trials: Select[tuple[int]]) -> list[FrozenTrial]:
    trials = connection.execute(select(TRIALS).where(TRIALS.c.trial_id.in_(its_trials)).order_by(TRIALS.c.trial_id))
    rows = trials.all()

    def of_trials(table: Table) -> dict[int, list[Row[Any]]]:
        found = defaultdict(list)
        own = select(table).where(table.c.trial_id.in_(its_trials)).order_by(*table.primary_key)
        for row in connection.execute(own):
            found[row.trial_id].append(row)
        return found

    tables = (PARAMS, VALUES, STEPS, USER_ATTRS, SYSTEM_ATTRS)
    params, values, steps, user_attrs, system_attrs = map(of_trials, tables)
    return [
        _trial(row, *(table.get(row.trial_id, []) for table in (params, values, steps, user_attrs, system_attrs)))
        for row in rows
    ]


def _trial(
    row: Row[Any],
    params: list[Row[Any]],
    values: list[Row[Any]],
    steps: list[Row[Any]],
    user_attrs: list[Row[Any]],
    system_attrs: list[Row[Any]],
) -> FrozenTrial:
    _require("number", row.number, int)
    for item in params:
        _require("parameter", item.param_name, str)
    for item in steps:
        _require("step", item.step, int)
    to_value = models.TrialValueModel.stored_repr_to_value
    to_step = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    distributions: dict[str, BaseDistribution] = {
        item.param_name: _distribution(item.distribution_json) for item in params
    }
    by_objective = {item.objective: to_value(item.value, item.value_type) for item in values}
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[by_objective[place] for place in range(len(values))] or None,
        datetime_start=row.datetime_start,
        datetime_complete=row.datetime_complete,
        params={item.param_name: distributions[item.param_name].to_external_repr(item.param_value) for item in params},
        distributions=distributions,
        user_attrs={item.key: json.loads(item.value_json) for item in user_attrs},
        system_attrs={item.key: json.loads(item.value_json) for item in system_attrs},
        intermediate_values={
            item.step: to_step(item.intermediate_value, item.intermediate_value_type) for item in steps
        },
        trial_id=row.trial_id,
    )


def _require(name: str, value: object, kind: type) -> None:
    """Raises ValueError for what SQLite keeps in a column of another type."""
    if type(value) is not kind:
        raise ValueError(f"{name}: {value!r:.40}")
