"""One Optuna study that decides, seen by Ray Tune, which executes, as its searcher and its scheduler.

Parameters, intermediate values, states and reasons live in study.db and nowhere else; what to try next and
what to stop early is decided from it alone, so a resumed search decides as an undisturbed one. States:
finished -> COMPLETE, stopped early -> PRUNED, NaN, exception or dead worker -> FAIL with a reason. A trial
that lost its worker or its driver stays RUNNING until it is handed out again.
"""

import contextlib
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from search.progress import Progress
from search.settings import STUDY_DB
from search.space import Space, num_parameters
from search.trial import Failure, read
from trainer.config import TrainConfig
from trainer.rundir import EpochMetrics, Result, RunDir

DEFAULT_SAMPLER: Final = "tpe"
DEFAULT_PRUNER: Final = "median"
MAX_WORKER_LOSSES: Final = 3  # a trial whose worker died this often is the likely cause

SAMPLERS: Final[dict[str, Callable[[int], BaseSampler]]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True),
    "random": lambda seed: RandomSampler(seed=seed),
}
# Rungs never come in the last epochs, where stopping saves little. Successive halving has them at a quarter and at half
# of the epochs and keeps half of the trials each time: the moving average of a model that learns fast starts behind.
PRUNERS: Final[dict[str, Callable[[int], BasePruner]]] = {
    "successive-halving": lambda epochs: SuccessiveHalvingPruner(
        min_resource=math.ceil(epochs / 4), reduction_factor=2
    ),
    "hyperband": lambda epochs: HyperbandPruner(
        min_resource=math.ceil(epochs / 9), max_resource=epochs, reduction_factor=3
    ),
    "median": lambda epochs: MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4)),
    "none": lambda _: NopPruner(),
}


@dataclass(frozen=True)
class Assignment:
    """A trial to run."""

    number: int
    config: TrainConfig
    params: dict[str, Any]
    """The searched fields of config, by name"""
    last_epoch: int
    """Epochs that the study knows from before an interruption; 0 for a new trial"""


@dataclass
class _Running:
    """A trial that is handed out."""

    trial: Trial
    config: TrainConfig
    last_epoch: int


class SearchStudy:
    """The study of one search: hands trials out and takes their outcomes in."""

    def __init__(
        self,
        directory: Path,
        space: Space,
        *,
        num_trials: int,
        seed: int,
        sampler: str = DEFAULT_SAMPLER,
        pruner: str = DEFAULT_PRUNER,
        seed_points: bool = True,
    ) -> None:
        """Open the study in ``directory``, or create it there."""
        self.directory = directory
        self.space = space
        self.num_trials = num_trials
        self._storage = _open_storage(directory / STUDY_DB)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=directory.name,
            sampler=_SeededSampler(SAMPLERS[sampler], seed),
            pruner=PRUNERS[pruner](space.base.epochs),
            direction="maximize",
            load_if_exists=True,
        )
        self._running: dict[int, _Running] = {}
        self._worker_losses: Counter[int] = Counter()
        trials = self.trials()
        self._interrupted = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        self._num_handed_out = sum(trial.state != TrialState.WAITING for trial in trials)
        self._num_ended = sum(trial.state.is_finished() for trial in trials)
        if seed_points and self._num_handed_out == 0:
            for point in space.seed_points()[:num_trials]:
                self._study.enqueue_trial(point, skip_if_exists=True)

    def close(self) -> None:
        """Let go of study.db, which then is one file that needs nothing beside it."""
        self._storage.remove_session()
        with self._storage.engine.connect() as connection, contextlib.suppress(OperationalError):  # someone is reading
            connection.exec_driver_sql("PRAGMA journal_mode=DELETE")
        self._storage.engine.dispose()

    @property
    def is_finished(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return self._num_ended >= self.num_trials

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def ask(self) -> Assignment | None:
        """The next trial to run: an interrupted one if there is one, else a new one; None if all are handed out."""
        if self._interrupted:
            trial = Trial(self._study, self._trial_id(self._interrupted.pop(0)))
        elif self._num_handed_out < self.num_trials:
            trial = self._study.ask()
            self._num_handed_out += 1
        else:
            return None
        config = self.space.suggest(trial)  # an interrupted one keeps what it has and draws what it lacks
        last_epoch = self._storage.get_trial(self._trial_id(trial.number)).last_step or 0
        self._running[trial.number] = _Running(trial, config, last_epoch)
        return Assignment(trial.number, config, trial.params, last_epoch)

    def report(self, number: int, metrics: EpochMetrics) -> bool:
        """Record an epoch, unless it is known already; True if the trial should stop early, never at its last."""
        running = self._running[number]
        if metrics.epoch > running.last_epoch:
            running.trial.report(metrics.val_accuracy, metrics.epoch)
            running.last_epoch = metrics.epoch
        is_latest = metrics.epoch == running.last_epoch
        return is_latest and metrics.epoch < running.config.epochs and running.trial.should_prune()

    def complete(self, number: int, result: Result) -> None:
        """End a trial that ran to its end."""
        self._describe(number, result.val_log_loss, result.seconds)
        self._end(number, TrialState.COMPLETE, result.val_accuracy)

    def prune(self, number: int, metrics: EpochMetrics) -> None:
        """End a trial early, at the epoch that ``metrics`` is of."""
        run = self.run_dir(number)
        seconds = sum(item.seconds for item in run.read_metrics())
        self._describe(number, metrics.val_log_loss, seconds)
        self._end(number, TrialState.PRUNED)
        run.remove_checkpoint()

    def fail(self, number: int, reason: str) -> None:
        """End a trial that cannot go on."""
        self._running[number].trial.set_user_attr("reason", reason)
        self._end(number, TrialState.FAIL)
        self.run_dir(number).remove_checkpoint()

    def lose_worker(self, number: int) -> bool:
        """Take note that a trial's worker died. True if it will be handed out again, False if it died too often."""
        self._worker_losses[number] += 1
        if self._worker_losses[number] == MAX_WORKER_LOSSES:
            return False
        del self._running[number]
        self._interrupted.append(number)
        return True

    def run_dir(self, number: int) -> RunDir:
        """Where a trial writes."""
        return RunDir(self.directory / "trials" / f"{number:04d}")

    def _trial_id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    def _describe(self, number: int, val_log_loss: float, seconds: float) -> None:
        running = self._running[number]
        running.trial.set_user_attr("val_log_loss", val_log_loss)
        running.trial.set_user_attr("seconds", seconds)
        running.trial.set_user_attr("num_parameters", num_parameters(running.config.model))

    def _end(self, number: int, state: TrialState, value: float | None = None) -> None:
        self._study.tell(self._running.pop(number).trial, value, state)
        self._num_ended += 1


class _SeededSampler(BaseSampler):
    """Draws each trial with a random state made of (seed, trial number), whatever this process drew before."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        seed = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0]
        self._sampler = self._make(int(seed))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _open_storage(path: Path) -> RDBStorage:
    """SQLite that survives a killed process, without waiting for the disk at every value."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = RDBStorage(f"sqlite:///{path}")

    @event.listens_for(storage.engine, "connect")
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()  # connections made before know nothing of this
    return storage


class Dispatcher:
    """Between the study and Ray Tune: which of Ray's trials carries out which of the study's, and what became of it."""

    def __init__(
        self,
        study: SearchStudy,
        progress: Progress,
        capacity: Callable[[], int],
        to_ray: Callable[[Assignment], dict[str, Any]],
    ) -> None:
        """``capacity`` says how many trials fit at a time, ``to_ray`` what a trial's worker is given."""
        self.study = study
        self._progress = progress
        self._capacity = capacity
        self._to_ray = to_ray
        self._assignments: dict[str, Assignment] = {}
        self._ray_trials: dict[str, RayTrial] = {}

    def assign(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial of the study for a new one of Ray's; None while there is no room, or nothing to do."""
        self._take_in_errors()
        assignment = self.study.ask() if len(self._assignments) < self._capacity() else None
        if assignment is None:
            return None
        self._assignments[trial_id] = assignment
        return self._to_ray(assignment)

    def start(self, trial: RayTrial) -> None:
        """Ray made a trial of what it was given."""
        self._ray_trials[trial.trial_id] = trial
        given = self._assignments[trial.trial_id]
        self._progress.started(given.number, given.params, given.config.epochs, given.last_epoch)

    def receive(self, trial: RayTrial, result: dict[str, Any]) -> bool:
        """Take in what a worker sent; whether its trial goes on."""
        number = self._assignments[trial.trial_id].number
        match read(result):
            case EpochMetrics() as metrics if not math.isfinite(metrics.val_accuracy):
                self._fail(number, f"val_accuracy became {metrics.val_accuracy} in epoch {metrics.epoch}")
            case EpochMetrics() as metrics:
                self._progress.epoch(number, metrics)
                if not self.study.report(number, metrics):
                    return True
                self.study.prune(number, metrics)
                self._progress.ended(number, "PRUNED", metrics.val_accuracy)
            case Result() as outcome:
                self.study.complete(number, outcome)
                self._progress.ended(number, "COMPLETE", outcome.val_accuracy)
            case Failure(reason):
                self._fail(number, reason)
        self._release(trial.trial_id)
        return False

    def _take_in_errors(self) -> None:
        """Look for trials that Ray gave up, because their worker died or could not be started."""
        for trial_id, trial in list(self._ray_trials.items()):
            if trial.status != RayTrial.ERROR:
                continue
            number = self._assignments[trial_id].number
            error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
            reason = " ".join(str(error).split())
            if not isinstance(error, RayActorError):
                self._fail(number, reason)
            elif self.study.lose_worker(number):
                self._progress.lost(number, reason)
            else:
                self._fail(number, f"its worker died {MAX_WORKER_LOSSES} times: {reason}")
            self._release(trial_id)

    def _fail(self, number: int, reason: str) -> None:
        self.study.fail(number, reason)
        self._progress.ended(number, "FAIL", reason=reason)

    def _release(self, trial_id: str) -> None:
        del self._assignments[trial_id], self._ray_trials[trial_id]


class StudySearcher(Searcher):
    """What Ray Tune asks for trials."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> Any:
        given = self._dispatcher.assign(trial_id)
        return Searcher.FINISHED if self._dispatcher.study.is_finished else given

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the dispatcher knows."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: study.db is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: study.db is the state."""


class StudyScheduler(FIFOScheduler):
    """What Ray Tune asks whether a trial goes on."""

    def __init__(self, dispatcher: Dispatcher) -> None:  # the base class has no state
        self._dispatcher = dispatcher

    def on_trial_add(self, _: Any, trial: RayTrial) -> None:
        self._dispatcher.start(trial)

    def on_trial_result(self, _: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        return str(TrialScheduler.CONTINUE if self._dispatcher.receive(trial, result) else TrialScheduler.STOP)

    def choose_trial_to_run(self, _: Any) -> None:
        """None in particular: Ray starts pending trials in their order, and looking at all of them takes time."""
