"""Whether a study's database is really its own, before a search goes on with it."""

from search.record.database_url import shown
from search.record.own_files import BRING_BACK_EITHER, OwnFiles, is_finished_only_there, misnumbered, most_trials
from search.record.request import ASKED, Request, find_database
from search.record.storage import Stored, study_names
from search.record.trials import broken_record, load_sound, other_directions
from trainer.common.errors import UserError
from trainer.common.patience import PATIENCE
from trainer.rundir import BRING_BACK
from trainer.studydir import STUDY_DB, STUDY_JSON, StudyDir


def check_database(study: StudyDir, request: Request, url: str | None = None, *, is_copy: bool = False) -> list[int]:
    """Numbers of the trials that are finished by their own files, and by the study's database not.

    A database older than its study lacks such trials, and knows of no trial anything that its files do not say. Raises
    UserError if the database is missing, broken or another study's, or if study.json is not what trials were trained
    with. ``url`` is the database's with its password. ``is_copy`` says that the study lies behind a URI: there a whole
    database may be missing. A study of which no trial was begun needs no database yet.
    """
    found, name = find_database(study, url)
    name = name or study.path.name
    begun = bool(study.trials())
    if request.storage is None and not (study.path / STUDY_DB).exists():
        if begun and not is_copy:
            raise _lost(found, study, f"holds no study named {name}")
        return _of_no_database(study, request)
    names = study_names(found, _remedy(study))
    if request.name is None and len(names) == 1:  # as in the first versions
        name = names[0]
    if name not in names:
        if names or (begun and not is_copy):
            there = f"it has {', '.join(names[:3])}" if names else "it has none"
            raise _lost(found, study, f"holds no study named {name}, which {study.path / STUDY_JSON} names ({there})")
        return _of_no_database(study, request)
    return _check_study(study, request, load_sound(found, name, PATIENCE), shown(found))


def _of_no_database(study: StudyDir, request: Request) -> list[int]:
    OwnFiles(study, request).require_study_json()
    return [int(run.path.name) for run in study.trials() if run.is_done]


def _check_study(study: StudyDir, request: Request, stored: Stored, where: str) -> list[int]:
    for number, reason in stored.broken.items():
        raise UserError(f"{where}: {broken_record(number, reason)}")
    if other := other_directions(request, stored):
        raise _lost(where, study, other)
    trials, files = stored.trials, OwnFiles(study, request)
    if wrong := next(iter(misnumbered(request, trials).values()), None):
        raise _lost(where, study, wrong)
    for trial in trials:
        if wrong := files.contradiction(trial):
            raise UserError(f"{where}: {wrong}; {BRING_BACK_EITHER}, or begin under another name")
    files.require_study_json(trials)
    if stored.user_attrs.get(ASKED, request.digest) != request.digest:
        raise UserError(f"{study.path / STUDY_JSON}: asks for another search than was begun; {BRING_BACK}")
    known = {trial.number: trial for trial in trials}
    done = [int(run.path.name) for run in study.trials() if run.is_done]
    late = [number for number in done if number not in known or is_finished_only_there(study, known[number])]
    most = most_trials(request, trials)
    for number in late:
        if number not in known:
            _check_adoptable(study, number, most)
    return late


def _check_adoptable(study: StudyDir, number: int, most: int | None) -> None:
    """Raise UserError if a finished trial that the database does not know cannot be one that it has lost."""
    run = study.trial(number)
    if most is not None and number >= most:
        raise UserError(
            f"{run.path}: is finished, but {study.path / STUDY_JSON} was asked for {most} trials, 0 to {most - 1}: it "
            "is of another study, or a copy; move it out of the folder"
        )
    run.read_config()
    run.read_result()


def _lost(where: str, study: StudyDir, what: str) -> UserError:
    name = shown(where) if "://" in where else where
    return UserError(f"{name}: {what}; {_remedy(study)}")


def _remedy(study: StudyDir) -> str:
    return f"bring {study.path}'s own database back, or begin under another name"
