"""--warm-start: what earlier studies over the same space found, for a new one to begin with.

Their finished and pruned trials become the first trials of the new study, each marked with where it comes from:
samplers and the median pruner learn from them; everything else counts the study's own trials only.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from optuna.trial import FrozenTrial, TrialState, create_trial

from search.problem.objective import Objective
from search.problem.space import Space
from search.record.request import STUDY_DB, STUDY_JSON, Settings, find_study
from search.record.storage import lacks_password, load_trials, sqlite_url
from trainer.common.errors import UserError
from trainer.common.storage import Remote, copy_folder, is_uri
from trainer.config import TrainConfig

ORIGIN: Final = "warm_start"  # user attribute: the study and the number that a trial had there
_APART: Final = {"seed", "model"}  # fields that trials of one space may differ in, or that are named one by one


def is_own(trial: FrozenTrial) -> bool:
    """Whether a trial is one of its study's own."""
    return ORIGIN not in trial.user_attrs


def earlier_trials(studies: Sequence[str | Path], asked: Settings) -> list[FrozenTrial]:
    """Trials of earlier studies as they enter the study that ``asked`` describes, scored by its objective.

    ``studies`` are paths or URIs. Raises UserError if one is not there, has another space or dataset, or no trial to
    offer.
    """
    space, objective = asked.to_space(), asked.to_objective()
    found: dict[tuple[str, str], FrozenTrial] = {}
    for where in studies:
        path = _fetch(str(where))
        settings, trials = _read(path, where)
        _check(where, settings, asked)
        taken = [_adopt(trial, settings.name or path.name, space, objective) for trial in trials]
        if not any(taken):
            raise UserError(f"--warm-start {where}: has no trial to begin with that this search could have tried")
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


def _read(path: Path, where: str | Path) -> tuple[Settings, list[FrozenTrial]]:
    if not (path / STUDY_JSON).is_file():
        raise UserError(f"--warm-start {where}: holds no study (no {STUDY_JSON})")
    settings = Settings.read(path)
    if lacks_password(settings.storage or ""):
        raise UserError(
            f"--warm-start {where}: its database is {settings.storage}, whose password is not kept and cannot be given "
            f"here; begin with studies in a {STUDY_DB}, or in a database whose URL needs no password"
        )
    url, name = find_study(path)
    if url == sqlite_url(path / STUDY_DB) and not (path / STUDY_DB).is_file():
        raise UserError(f"--warm-start {where}: holds no trials (no {STUDY_DB})")
    return settings, load_trials(url, name)


def _check(where: str | Path, settings: Settings, asked: Settings) -> None:
    """Raise UserError if trials of another study mean nothing in the one that is asked for."""
    if settings.data_fingerprint != asked.data_fingerprint:
        raise UserError(f"--warm-start {where}: was searched on another dataset, {settings.data}")
    before, now = (_fields(item) for item in (settings, asked))
    for name in [*now, *before]:
        if before.get(name) != now.get(name):
            raise UserError(
                f"--warm-start {where}: searches another space: {name} is {_shown(before.get(name))} there, "
                f"{_shown(now.get(name))} here"
            )


def _fields(settings: Settings) -> dict[str, Any]:
    """What each field of a configuration is, or may be."""
    base = TrainConfig.from_json(settings.base_config).to_json()
    return {name: value for name, value in {**base, **base["model"], **settings.space}.items() if name not in _APART}


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return "not named" if value is None else str(value)
    return " ".join(str(part) for key, part in value.items() if key != "type")


def _adopt(trial: FrozenTrial, study: str, space: Space, objective: Objective) -> FrozenTrial | None:
    """The trial as one of another study, or None if it says nothing there."""
    states = [TrialState.COMPLETE] if objective.has_front else [TrialState.COMPLETE, TrialState.PRUNED]
    if trial.state not in states or trial.last_step is None or not space.fits(trial.params):
        return None
    user_attrs = {name: value for name, value in trial.user_attrs.items() if name != "latency"}
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
