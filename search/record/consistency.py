"""Whether a study's database is really its own, before a search goes on with it."""

from typing import Final

from optuna.trial import FrozenTrial, TrialState

from search.problem.space import by_field
from search.record.database_url import shown
from search.record.request import Request, find_database
from search.record.storage import StudyStorage, study_names
from search.record.trials import is_own, load_sound_trials
from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.rundir import CONFIG, DONE
from trainer.studydir import STUDY_DB, STUDY_JSON, TRIALS, StudyDir

ROUNDING: Final = 1e-6  # of an accuracy


def check_database(study: StudyDir, request: Request, url: str | None = None, *, is_copy: bool = False) -> None:
    """Raise UserError if a study's database is missing, broken or another study's.

    ``url`` is the database's with its password. ``is_copy`` says that the study lies behind a URI: what its database
    has lost there is put together again from its trials. A study of which no trial was begun needs no database yet.
    """
    found, name = find_database(study, url)
    name = name or study.path.name
    begun = bool(study.trials())
    if request.storage is None and not (study.path / STUDY_DB).exists():
        if begun and not is_copy:
            raise _lost(found, study, f"holds no study named {name}")
        return
    try:
        names = study_names(found)
    except UserError as error:
        raise UserError(f"{error.message}; {_remedy(study)}", field=error.field) from error
    if request.name is None and len(names) == 1:  # as in the first versions
        name = names[0]
    if name not in names:
        if names or (begun and not is_copy):
            there = f"it has {', '.join(names[:3])}" if names else "it has none"
            raise _lost(found, study, f"holds no study named {name}, which {study.path / STUDY_JSON} names ({there})")
        return
    load_sound_trials(found, name)
    storage = StudyStorage(found, name)
    try:
        _check_study(study, request, storage, shown(found), is_copy)
    finally:
        storage.close()


def _check_study(study: StudyDir, request: Request, storage: StudyStorage, where: str, is_copy: bool) -> None:
    study_id = storage.get_study_id_from_name(storage.get_all_studies()[0].study_name)
    there = [direction.name.lower() for direction in storage.get_study_directions(study_id)]
    asked = [direction.name.lower() for direction in request.to_objective().directions]
    if there != asked:
        goals = f"its study is to {' and '.join(there)}, but this one was asked to {' and '.join(asked)}"
        raise _lost(where, study, goals)
    trials = storage.get_all_trials(study_id, deepcopy=False)
    done = [int(run.path.name) for run in study.trials() if run.is_done]
    if not is_copy and done and done[-1] >= len(trials):
        finished = study.path / TRIALS / f"{done[-1]:04d}"
        ended = f"has {len(trials)} trials, but {finished} is finished: it is older, or another study's"
        raise _lost(where, study, ended)
    for trial in trials:
        _check_trial(study, trial, where)
        _check_accuracy(study, trial, where)


def _check_trial(study: StudyDir, trial: FrozenTrial, where: str) -> None:
    """A trial's parameters are those in its folder."""
    run = study.trial(trial.number)
    if not is_own(trial) or not (run.path / CONFIG).is_file():
        return
    try:
        config = run.read_config()
    except UserError:  # a broken trial is its own matter
        return
    for name, value in by_field(trial.params).items():
        of = config.model if name in ModelConfig.__dataclass_fields__ else config
        if getattr(of, name, value) != value:
            raise _lost(
                where,
                study,
                f"trial {trial.number} has {name} {value} there, and {getattr(of, name)} in {run.path / CONFIG}: it is "
                "another study's",
            )


def _check_accuracy(study: StudyDir, trial: FrozenTrial, where: str) -> None:
    """A finished trial's accuracy is that in its done.json."""
    run = study.trial(trial.number)
    if trial.state != TrialState.COMPLETE or not is_own(trial) or not run.is_done:
        return
    try:
        result = run.read_result()
    except UserError:  # a broken trial is its own matter
        return
    there = trial.intermediate_values.get(result.epochs, result.val_accuracy)
    if abs(there - result.val_accuracy) > ROUNDING:
        says = f"{result.val_accuracy:.4f} in {run.path / DONE}: it was changed"
        raise _lost(where, study, f"trial {trial.number} has an accuracy of {there:.4f} there, and {says}")


def _lost(where: str, study: StudyDir, what: str) -> UserError:
    name = shown(where) if "://" in where else where
    return UserError(f"{name}: {what}; {_remedy(study)}")


def _remedy(study: StudyDir) -> str:
    return f"bring {study.path}'s own database back, or begin under another name"
