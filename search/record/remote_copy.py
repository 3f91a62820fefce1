"""A study behind a URI: the driver and each node work on local files, and the storage has what must outlive them.

A trial's files go there after each of its epochs, done.json last, so that another node can go on with it. The driver
works on a study.db of its own and copies a snapshot of it there whenever a trial ends, but not while that would take
more than a tenth of its time: of 10,000 trials, a snapshot is tens of megabytes. A resumed search starts from what the
storage has: the snapshot, and the trials' folders, which may know more than it.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import Container
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from search.problem.ranges import Range, field_value
from search.problem.space import Space
from trainer.common.errors import UserError
from trainer.common.storage import Remote, copy_folder
from trainer.config import TrainConfig
from trainer.rundir import CHECKPOINT, CONFIG, DONE, METRICS, RunDir
from trainer.studydir import LOGS, STUDY_DB, STUDY_JSON, TRIALS, VALIDATION, StudyDir

PAUSES: Final = 9  # between two snapshots, in times of what the last one took


class RemoteCopy:
    """The driver's side; a node's is search.execute.training.RemoteRun."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.directory = copy_folder("driver", remote.uri)
        self._is_due = False  # a snapshot
        self._not_before = 0.0
        self._left: list[RunDir] = []  # trials whose checkpoints go when the storage knows that they ended

    def fetch(self) -> None:
        """Make the local folder what the storage has of the study, without its trials' results."""
        wanted = {STUDY_JSON, STUDY_DB, VALIDATION}
        self.remote.copy_to(
            self.directory,
            lambda name: (
                name in wanted
                or name.startswith(f"{LOGS}/")
                or (name.startswith(TRIALS) and name.endswith((CONFIG, DONE)))
            ),
        )

    def upload(self, *names: str) -> None:
        """Copy the study's files to the storage, where they are here."""
        self.remote.upload_present(self.directory, *names)

    def upload_logs(self) -> None:
        """Copy what was logged for other tools to the storage."""
        files = sorted(path for path in (self.directory / LOGS).rglob("*") if path.is_file())
        self.upload(*(str(path.relative_to(self.directory)) for path in files))

    def save(self) -> None:
        """Have a snapshot of study.db copied to the storage: now, or with a later ``catch_up``."""
        self._is_due = True
        self.catch_up()

    def catch_up(self, *, at_once: bool = False) -> None:
        """Copy the snapshot that is due, if one is, and enough time has gone since the last one, or ``at_once``."""
        began = monotonic()
        if not self._is_due or (began < self._not_before and not at_once):
            return
        self._is_due = False  # also where it fails, after which the search stops: closing it must not try again
        if (self.directory / STUDY_DB).exists():  # else the study is in another database
            self._copy_snapshot()
        self._remove_left()
        self._not_before = monotonic() + PAUSES * (monotonic() - began)

    def _copy_snapshot(self) -> None:
        """Whatever is being written to study.db meanwhile."""
        with tempfile.TemporaryDirectory() as folder:
            snapshot = Path(folder, STUDY_DB)
            with (
                closing(sqlite3.connect(self.directory / STUDY_DB)) as source,
                closing(sqlite3.connect(snapshot)) as target,
            ):
                source.backup(target)
                target.execute("PRAGMA journal_mode=DELETE")
            self.remote.upload(snapshot, STUDY_DB)

    def fetch_metrics(self, run: RunDir) -> None:
        """Bring a trial's record of its epochs here."""
        trial = self.remote.child(f"{TRIALS}/{run.path.name}")
        if trial.has(METRICS):
            trial.download(METRICS, run.path / METRICS)

    def remove_checkpoint(self, run: RunDir) -> None:
        """Of a trial that will not go on, once the storage knows that."""
        self._left.append(run)
        if not self._is_due:
            self._remove_left()

    def _remove_left(self) -> None:
        for run in self._left:
            self.remote.child(f"{TRIALS}/{run.path.name}").remove(CHECKPOINT)
        self._left.clear()


def found_in(study: StudyDir, ended: Container[int] = ()) -> dict[int, TrainConfig]:
    """Configurations of the trials that have a folder and have not ``ended``, by number; behind a URI, as of the last
    ``fetch``.

    One that is broken is left out: it fails its own trial, should that have to go on.
    """
    configs = {}
    for run in study.trials():
        if (number := int(run.path.name)) not in ended:
            with contextlib.suppress(UserError):
                configs[number] = run.read_config()
    return configs


def adopt(study: optuna.Study, storage: BaseStorage, space: Space, found: dict[int, TrainConfig]) -> None:
    """Have a study know of every trial that has a folder; those that it does not know to have ended are RUNNING.

    Its database may be a snapshot, a backup, or have lost its last changes with its machine's power. Handed out again,
    such a trial goes on from its last epoch, or ends at once if it was done.
    """
    known = len(study.get_trials(deepcopy=False))
    for number in range(known, max(found, default=-1) + 1):  # also those between that have no folder yet
        assert storage.get_trial_number_from_id(storage.create_new_trial(study._study_id)) == number
    trials = study.get_trials(deepcopy=False)
    for number, config in found.items():
        trial = trials[number]
        if trial.state == TrialState.WAITING:
            storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        if not trial.state.is_finished():
            _give_params(storage, trial, space, config)


def _give_params(storage: BaseStorage, trial: optuna.trial.FrozenTrial, space: Space, config: TrainConfig) -> None:
    def take(item: Range) -> object:
        value = field_value(config, item.field)
        if item.param not in trial.params:
            internal = item.distribution.to_internal_repr(value)
            storage.set_trial_param(trial._trial_id, item.param, internal, item.distribution)
        return value

    space.draw(take)
