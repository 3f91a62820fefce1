"""The trials of a study as rows: read from its database, and written to its trials.parquet."""

from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState

from search.problem.objective import front
from search.problem.space import by_field
from search.record.database_url import shown, sqlite_url
from search.record.notes import read_notes
from search.record.own_files import (
    BRING_BACK_EITHER,
    ORIGIN,
    OwnFiles,
    is_finished_without_files,
    is_own,
    metrics_of,
    misnumbered,
)
from search.record.request import Request, find_database
from search.record.storage import Stored, load_stored
from trainer.common.console import console
from trainer.common.errors import UserError, in_one_line
from trainer.common.fields import shorten
from trainer.common.files import atomic_path, is_locked
from trainer.rundir import BRING_BACK, DONE, WEIGHTS
from trainer.studydir import STUDY_DB, STUDY_JSON, TRIALS, TRIALS_PARQUET, StudyDir, no_study

REPEATED: Final = ("seed", "fold")
"""Fields in which trainings of one configuration differ"""
INTERRUPTED: Final = "interrupted"
"""State of a trial that runs for Optuna, so that it can go on, while no search is at work on its study"""
WAITS: Final = "paused"
"""State of a trial that runs for Optuna, and whose stopping rule has it wait for others, or for a search"""
PAUSED: Final = "halving:waits"  # system attribute of a paused trial: after which epoch, since when
REASON: Final = "reason"  # user attribute: why a trial failed
BY_HAND: Final = "by_hand"  # user attribute: which of the configurations that the user asked for a trial is, from 0
EARLIER_REASON: Final = "earlier_reason"  # user attribute: why it failed before it was tried again
_ATTRIBUTES: Final[dict[str, tuple[type, ...]]] = {  # user attributes that tables show, and their types
    **dict.fromkeys(("val_log_loss", "seconds", "latency"), (int, float)),
    **{"num_parameters": (int,), "reason": (str,), "warm_start": (str,)},
}
_FIRST_AND_LAST: Final = {TrialState.COMPLETE.name: -1, TrialState.FAIL.name: 1}  # of a table; the others stand between


@dataclass(frozen=True)
class Row:
    """One trial."""

    number: int
    state: str
    """Optuna's name of it, or INTERRUPTED, or WAITS"""
    reason: str | None
    """Why it failed"""
    params: dict[str, Any]
    """The searched fields, by name; those that are given of a trial that has not begun"""
    val_accuracy: float | None
    val_log_loss: float | None
    num_parameters: int | None
    epochs: int
    """Epochs that it has done"""
    seconds: float | None
    """Training time"""
    latency: float | None = None
    """Estimated milliseconds a sequence, where the search looks for it"""
    on_front: bool = False
    """Whether a search for two values found no trial that beats this one"""
    origin: str | None = None
    """The study and number that a trial of an earlier study has there"""
    by_hand: bool = False
    """Whether the user asked for it"""
    note: str | None = None
    """What the user noted of it"""
    study: str | None = None
    """The study that it is listed with, where there are several"""

    @property
    def rank(self) -> tuple[Any, ...]:
        """What tables are sorted by: the finished first and the failed last, each by accuracy, then by number."""
        return _FIRST_AND_LAST.get(self.state, 0), -(self.val_accuracy or 0), self.number

    @property
    def bytes(self) -> int | None:
        """Of the weights in float32."""
        return None if self.num_parameters is None else 4 * self.num_parameters


def read_trials(directory: Path, url: str | None = None, patience: float = 0.0) -> list[FrozenTrial]:
    """Trials of a study, by number. ``url`` is that of its database, needed only where that has a password,
    and ``patience`` as ``load_stored`` has it.

    A trial that its own files contradict is left out, and a line on the console says so. Raises UserError if there is
    no study in the directory, or it is broken.
    """
    study = StudyDir(directory)
    found, name = find_database(study, url)
    if found == sqlite_url(directory / STUDY_DB) and not (directory / STUDY_DB).is_file():
        raise UserError(no_study(str(directory), STUDY_DB))
    done = [int(run.path.name) for run in study.trials() if run.is_done]  # before, as a search may be at work
    try:
        stored = load_sound(found, name, patience)
    except UserError as error:
        error.field = error.field or (None if url is None else "storage")
        raise
    where = shown(found)
    if stored.broken:
        number, reason = next(iter(stored.broken.items()))
        _warn(f"{where}: {broken_record(number, reason)}; {numbered(list(stored.broken))} left out")
    return _believed(study, stored, done, where) if study.exists else stored.trials


def _believed(study: StudyDir, stored: Stored, done: list[int], where: str) -> list[FrozenTrial]:
    """The trials that their own files do not contradict; says what is left out, and what else does not agree.

    ``done`` are the numbers of those that were finished by their files before the database was read. Raises UserError
    if the database is of a study with another objective.
    """
    trials = stored.trials
    request = Request.read(study)
    if other := other_directions(request, stored):
        raise UserError(f"{where}: {other}; bring {study.path}'s own database back")
    files = OwnFiles(study, request)
    wrong = {trial.number: words for trial in trials if (words := files.contradiction(trial))}
    wrong |= misnumbered(request, trials, stored.broken)
    if wrong:
        out = f"{numbered(sorted(wrong))} left out"
        _warn(f"{where}: {next(iter(wrong.values()))}; {out}: {BRING_BACK_EITHER}")
    if departed := next(filter(None, map(files.departure, study.trials())), None):
        _warn(f"{study.path / STUDY_JSON}: {departed}; {BRING_BACK}")
    trials = [trial for trial in trials if trial.number not in wrong]
    if bare := [trial.number for trial in trials if is_finished_without_files(study, trial)]:
        _warn(f"{study.path / TRIALS}: has no {DONE} of {numbered(bare)}, finished by {where}; bring it back")
    if files.broken:
        first = files.broken[min(files.broken)]
        _warn(f"{first}; {numbered(sorted(files.broken))} cannot be selected")
    finished = [trial.number for trial in trials if trial.state == TrialState.COMPLETE and is_own(trial)]
    weightless = [number for number in finished if not (study.trial(number).path / WEIGHTS).is_file()]
    if 0 < len(weightless) < len(finished):  # a copy of a study behind a URI has no weights at all
        which = f"{WEIGHTS} of {numbered(weightless)}"
        _warn(f"{study.path / TRIALS}: has no {which}, which cannot be selected; bring it back")
    ended = {trial.number for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.RUNNING)}
    if late := [number for number in done if number not in ended | wrong.keys() | stored.broken.keys()]:
        _warn(f"{where}: does not know that {numbered(late)} ended, by {DONE}; resume the study to have it learn that")
    return trials


def numbered(numbers: list[int]) -> str:
    """How a message names trials.

    >>> numbered([3, 4])
    'trials 3 4'
    """
    return f"trial{'s' * (len(numbers) > 1)} {shorten(' '.join(map(str, numbers)))}"


def _warn(text: str) -> None:
    console.print(f"warning: {text}", soft_wrap=True, markup=False)


def load_sound(url: str, name: str | None, patience: float = 0.0) -> Stored:
    """As ``load_stored``. Trials whose records contradict themselves, as after an edit by hand, are broken too."""
    stored = load_stored(url, name, patience)
    wrong = {trial.number: reason for trial in stored.trials if (reason := _contradicts_itself(trial))}
    sound = [trial for trial in stored.trials if trial.number not in wrong]
    return stored._replace(trials=sound, broken={**stored.broken, **wrong})


def _contradicts_itself(trial: FrozenTrial) -> str | None:
    try:
        trial._validate()
        for name, kinds in _ATTRIBUTES.items():
            if not isinstance(value := trial.user_attrs.get(name), (*kinds, NoneType)):
                raise ValueError(f"{name}: {value!r:.40}")
    except (ValueError, TypeError, OverflowError) as error:
        return in_one_line(error)
    return None


def other_directions(request: Request, stored: Stored) -> str | None:
    """How a database's study is to be decided, where that is otherwise than was asked for."""
    there = [direction.name.lower() for direction in stored.directions]
    asked = [direction.name.lower() for direction in request.to_objective().directions]
    if there == asked:
        return None
    return f"its study is to {' and '.join(there)}, but this one was asked to {' and '.join(asked)}"


def broken_record(number: int, reason: str) -> str:
    """What is said of a trial that cannot be read."""
    return f"trial {number}: its record is broken ({reason}); bring the database back as the search left it"


def read_rows(
    directory: Path, url: str | None = None, at_work: bool | None = None, *, patience: float = 0.0
) -> list[Row]:
    """Trials of a study as ``to_rows`` orders them, with ``patience`` as ``load_stored`` has it.

    Raises UserError as ``read_trials`` does.

    ``at_work`` says whether a search is; default: whether one has the directory locked.
    """
    at_work = is_locked(directory) if at_work is None else at_work  # before the trials are read: it may end meanwhile
    return to_rows(read_trials(directory, url, patience), at_work, StudyDir(directory))


def may_be_tried_again(trial: FrozenTrial) -> dict[str, Any] | None:
    """The user attributes that a trial gets when it is tried again; None if it did not fail, or is not its study's."""
    if trial.state != TrialState.FAIL or not is_own(trial):
        return None
    return {REASON: None, EARLIER_REASON: trial.user_attrs.get(REASON)}


def to_rows(trials: list[FrozenTrial], at_work: bool = True, study: StudyDir | None = None) -> list[Row]:
    """The trials, best first: the finished, then the others, then the failed; each by accuracy, then by number.

    ``at_work`` says whether a search is; without one, trials that run for Optuna are INTERRUPTED. ``study`` has the
    files of those that have not ended, which tell their log loss and seconds, and the notes of all.

    Raises UserError if the notes are broken.
    """
    best = front(trials)
    notes = {} if study is None else read_notes(study.path)
    rows = [_to_row(trial, at_work, study, trial.number in best, notes.get(trial.number)) for trial in trials]
    return sorted(rows, key=lambda row: row.rank)


def _to_row(trial: FrozenTrial, at_work: bool, study: StudyDir | None, on_front: bool, note: str | None) -> Row:
    state, known = trial.state.name, trial.params
    if trial.state == TrialState.RUNNING:
        state = WAITS if trial.system_attrs.get(PAUSED) else state if at_work else INTERRUPTED
    if trial.state == TrialState.WAITING:
        known = trial.system_attrs.get("fixed_params", {})
    val_log_loss, seconds = _described(trial, study)
    return Row(
        number=trial.number,
        state=state,
        reason=trial.user_attrs.get(REASON),
        params=by_field(known),
        val_accuracy=_accuracy(trial),
        val_log_loss=val_log_loss,
        num_parameters=trial.user_attrs.get("num_parameters"),
        epochs=trial.last_step or 0,
        seconds=seconds,
        latency=trial.user_attrs.get("latency"),
        on_front=on_front,
        origin=trial.user_attrs.get(ORIGIN),
        by_hand=BY_HAND in trial.user_attrs,
        note=note,
    )


def _described(trial: FrozenTrial, study: StudyDir | None) -> tuple[float | None, float | None]:
    """Log loss and seconds of a trial's last epoch, as the database or else the trial's own files have them."""
    paused_after = (trial.system_attrs.get(PAUSED) or {}).get("epoch")
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or paused_after == trial.last_step:
        return trial.user_attrs.get("val_log_loss"), trial.user_attrs.get("seconds")
    if study is None or trial.last_step is None:
        return None, None
    try:
        metrics = metrics_of(study.trial(trial.number), trial)
    except UserError:  # broken, or those of another trial
        return None, None
    done = [item for item in metrics if item.epoch <= trial.last_step]
    if not done or done[-1].epoch != trial.last_step:
        return None, None
    return done[-1].val_log_loss, sum(item.seconds for item in done)


def _accuracy(trial: FrozenTrial) -> float | None:
    """At the end, or so far."""
    if trial.last_step is not None:
        return trial.intermediate_values[trial.last_step]
    return trial.values[0] if trial.values else None


def param_names(rows: list[Row]) -> list[str]:
    """Searched parameters, in the order in which trials have them."""
    return list(dict.fromkeys(name for row in rows for name in row.params))


def to_table(rows: list[Row]) -> pa.Table:
    """One row a trial, in the order given, each searched parameter in a column of its own."""
    studies = {"study": pa.array([row.study for row in rows], pa.string())}
    columns: dict[str, Any] = {
        **(studies if any(row.study is not None for row in rows) else {}),
        "number": pa.array([row.number for row in rows], pa.int64()),
        "state": pa.array([row.state for row in rows], pa.string()),
        "reason": pa.array([row.reason for row in rows], pa.string()),
        "origin": pa.array([row.origin for row in rows], pa.string()),
        **{name: pa.array([row.params.get(name) for row in rows]) for name in param_names(rows)},
        "val_accuracy": pa.array([row.val_accuracy for row in rows], pa.float64()),
        "val_log_loss": pa.array([row.val_log_loss for row in rows], pa.float64()),
        "num_parameters": pa.array([row.num_parameters for row in rows], pa.int64()),
        "bytes": pa.array([row.bytes for row in rows], pa.int64()),
        "latency": pa.array([row.latency for row in rows], pa.float64()),
        "on_front": pa.array([row.on_front for row in rows], pa.bool_()),
        "epochs": pa.array([row.epochs for row in rows], pa.int64()),
        "seconds": pa.array([row.seconds for row in rows], pa.float64()),
        "by_hand": pa.array([row.by_hand for row in rows], pa.bool_()),
        "note": pa.array([row.note for row in rows], pa.string()),
    }
    return pa.table(columns)


def write_parquet(rows: list[Row], directory: Path) -> None:
    """Write a study's trials.parquet, by number."""
    with atomic_path(directory / TRIALS_PARQUET) as temporary:
        pq.write_table(to_table(sorted(rows, key=lambda row: row.number)), temporary)
