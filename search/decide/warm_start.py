"""What earlier studies over the same space found, for a new one to begin with.

Their finished and pruned trials become the first trials of the new study, each marked with where it comes from:
samplers and the median pruner learn from them; everything else counts the study's own trials only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from optuna.trial import FrozenTrial, TrialState, create_trial

from search.problem.objective import Objective
from search.problem.space import Space
from search.record.database_url import usable
from search.record.own_files import ORIGIN
from search.record.request import Request
from search.record.trials import BY_HAND, read_trials
from trainer.common.errors import UserError
from trainer.common.fields import without_keys
from trainer.common.storage import Remote, copy_folder, is_uri
from trainer.studydir import STUDY_DB, STUDY_JSON, StudyDir, no_study

_APART: Final = {"seed", "model"}  # fields that trials of one space may differ in, or that are named one by one


def earlier_trials(studies: Sequence[str | Path], asked: Request) -> list[FrozenTrial]:
    """Trials of earlier studies as they enter the study that ``asked`` describes, scored by its objective.

    ``studies`` are paths or URIs. Raises UserError if one is not there, has another space or dataset, or no trial to
    offer.
    """
    space, objective = asked.to_space(), asked.to_objective()
    found: dict[tuple[str, str], FrozenTrial] = {}
    for where in studies:
        where = without_keys(str(where), "warm_start")
        path = _fetch(where)
        request, trials = _read(path, where)
        _check(where, request, asked)
        taken = [_adopt(trial, request.name or path.name, space, objective) for trial in trials]
        if not any(taken):
            raise _fault(where, "has no trial to begin with that this search could have tried")
        for trial in filter(None, taken):  # one that came by two ways enters once
            found.setdefault((trial.user_attrs[ORIGIN], repr(sorted(trial.params.items()))), trial)
    return list(found.values())


def _fetch(where: str) -> Path:
    """A study's folder, or this machine's copy of what is read of one behind a URI."""
    if not is_uri(where):
        return Path(where)
    copy = copy_folder("earlier", where)
    Remote.open(where).copy_to(copy, lambda name: name in (STUDY_JSON, STUDY_DB))
    return copy


def _read(path: Path, where: str | Path) -> tuple[Request, list[FrozenTrial]]:
    study = StudyDir(path)
    if not study.exists:
        raise UserError(no_study(str(where), STUDY_JSON), field="warm_start")
    request = Request.read(study)
    if request.storage is not None and usable(request.storage) is None:
        raise _fault(
            where,
            f"its database is {request.storage}, whose password is not kept and cannot be given here; begin with "
            f"studies in a {STUDY_DB}, or in a database whose URL needs no password",
        )
    if request.storage is None and not (path / STUDY_DB).is_file():
        raise _fault(where, f"holds no trials (no {STUDY_DB})")
    return request, read_trials(path)


def _fault(where: str | Path, message: str) -> UserError:
    return UserError(f"{where}: {message}", field="warm_start")


def _check(where: str | Path, request: Request, asked: Request) -> None:
    """Raise UserError if trials of another study mean nothing in the one that is asked for."""
    if request.data_fingerprint != asked.data_fingerprint:
        raise _fault(where, f"was searched on another dataset, {request.data}")
    before, now = (_fields(item) for item in (request, asked))
    differ = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    if differ:
        each = (f"{name} is {_shown(before.get(name))} there, {_shown(now.get(name))} here" for name in differ)
        raise _fault(where, f"searches another space: {'; '.join(each)}; name it in the space file as it is there")


def _fields(request: Request) -> dict[str, Any]:
    """What each field of a configuration is, or may be."""
    base = request.to_config().to_json()
    return {name: value for name, value in {**base, **base["model"], **request.space}.items() if name not in _APART}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"one of {len(value)} ranges"
    if not isinstance(value, dict):
        return "not named" if value is None else str(value)
    if "choices" in value:
        return f"one of {', '.join(map(str, value['choices']))}"
    return f"{value.get('low')} to {value.get('high')}{' by its logarithm' * bool(value.get('log'))}"


def _adopt(trial: FrozenTrial, study: str, space: Space, objective: Objective) -> FrozenTrial | None:
    """The trial as one of another study, or None if it says nothing there."""
    states = [TrialState.COMPLETE] if objective.has_front else [TrialState.COMPLETE, TrialState.PRUNED]
    if trial.state not in states or trial.last_step is None or not space.fits(trial.params):
        return None
    user_attrs = {name: value for name, value in trial.user_attrs.items() if name not in ("latency", BY_HAND)}
    user_attrs.setdefault(ORIGIN, f"{study}/{trial.number}")
    model = space.config(trial.params).model
    if objective.latency is not None:
        user_attrs["latency"] = objective.latency.milliseconds(model)
    return create_trial(
        state=trial.state,
        values=objective.values(model, trial.intermediate_values[trial.last_step]),
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
        user_attrs=user_attrs,
    )
