"""One Optuna study that decides what to try and what to stop; Ray Tune executes it (search.execute.dispatch).

Parameters, intermediate values, states and reasons live in study.db and nowhere else; what to try next and
what to stop early is decided from it alone, so a resumed search decides as an undisturbed one. Whatever a worker is
told is in the database before: a new trial before it is handed out, an epoch before it is answered. States:
finished -> COMPLETE, stopped early -> PRUNED, NaN, exception or dead worker -> FAIL with a reason. A trial
that lost its worker or its driver stays RUNNING until it is handed out again. So does a trial that waits
(search.decide.halving).
"""

import copy
import enum
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from search.decide.halving import SuccessiveHalving
from search.decide.samplers import DEFAULT_PRUNER, HALVING, PRUNERS, default_sampler, for_space
from search.decide.warm_start import is_own
from search.problem.objective import Objective
from search.problem.space import Space, by_field, num_parameters
from search.record.remote_copy import StudyMirror, adopt
from search.record.request import STUDY_DB
from search.record.storage import StudyStorage, sqlite_url
from trainer.config import TrainConfig
from trainer.rundir import EpochMetrics, Result, RunDir

MAX_WORKER_LOSSES: Final = 3  # without an epoch between: the trial is the likely cause
WAITS: Final = "halving:waits"  # system attribute of a trial that waits: after which epoch, since when


class Verdict(enum.Enum):
    """What becomes of a trial that did an epoch."""

    GOES_ON = enum.auto()
    STOPS = enum.auto()
    WAITS = enum.auto()


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
        sampler: str | None = None,
        pruner: str = DEFAULT_PRUNER,
        seed_points: bool = True,
        points: Sequence[dict[str, Any]] = (),
        earlier: Callable[[], Sequence[FrozenTrial]] = tuple,
        objective: Objective | None = None,
        storage: str | None = None,
        name: str | None = None,
        mirror: StudyMirror | None = None,
    ) -> None:
        """Open the study, or create it.

        ``points`` are the parameters of its first trials, ``earlier`` gives trials of other studies that a new one
        begins with (search.decide.warm_start) and may raise UserError, ``storage`` is the URL of its database (default:
        study.db in the directory), ``name`` its name there (default: the directory's), ``mirror`` is where the study
        lies if it is behind a URI. Every method that changes the study raises UserError if the database or that place
        cannot be written; the study must not be used after that, but opened again.
        """
        self.directory = directory
        self.space = space
        self.num_trials = num_trials
        self.objective = objective or Objective()
        self._storage = StudyStorage(storage or sqlite_url(directory / STUDY_DB), name or directory.name)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name or directory.name,
            sampler=for_space(sampler or default_sampler(space, self.objective), space, seed),
            pruner=PRUNERS[pruner](space.base.epochs),
            directions=self.objective.directions,
            load_if_exists=True,
        )
        self._mirror = mirror
        if mirror is not None:
            adopt(self._study, self._storage, space, mirror.found())
        self._halving = SuccessiveHalving(space.base.epochs, num_trials) if pruner == HALVING else None
        self._running: dict[int, _Running] = {}
        self._worker_losses: Counter[int] = Counter()
        self.waiting: set[int] = set()
        """Numbers of the trials that wait to go on, or to be given up"""
        self._take_stock()
        if not self.trials():
            self._study.add_trials(earlier())
        if self._num_handed_out == 0:
            for point in [*points, *(space.seed_points() if seed_points else [])][:num_trials]:
                self._study.enqueue_trial(point, skip_if_exists=True)
        self._storage.flush()
        if mirror is not None:
            mirror.save()

    def _take_stock(self) -> None:
        """See where the study stands by its own trials."""
        own = [trial for trial in self.trials() if is_own(trial)]
        running = [trial for trial in own if trial.state == TrialState.RUNNING]
        self.waiting.update(trial.number for trial in running if trial.system_attrs.get(WAITS))
        self._interrupted = [trial.number for trial in running if trial.number not in self.waiting]
        self._num_handed_out = sum(trial.state != TrialState.WAITING for trial in own)
        self._num_ended = sum(trial.state.is_finished() for trial in own)
        if self._halving is not None:
            for trial in own:
                if trial.state != TrialState.FAIL:
                    waits_after = trial.system_attrs[WAITS]["epoch"] if trial.number in self.waiting else None
                    self._halving.restore(trial.number, trial.intermediate_values, waits_after)

    def close(self) -> None:
        """Let go of the database; study.db then is one file that needs nothing beside it."""
        self._storage.close()

    @property
    def foresee(self) -> Callable[[Collection[int], int], int] | None:
        """SuccessiveHalving.foresee, if that is the pruner: no other can say how many epochs a search will take."""
        return None if self._halving is None else self._halving.foresee

    @property
    def is_finished(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return self._num_ended >= self.num_trials

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def ask(self) -> Assignment | None:
        """The next trial to run: an interrupted one, one that waited, a new one; None if there is none at present."""
        all_started = self._num_handed_out >= self.num_trials
        if self._interrupted:
            number, config = self._draw(self._interrupted.pop(0))
        elif (promoted := self._promote(all_started)) is not None:
            number, config = promoted, self.space.config_of(self._storage.get_trial(promoted))
        elif all_started:
            return None
        else:
            self._num_handed_out += 1
            number, config = self._draw(None)
        self._storage.flush()
        trial = self._storage.get_trial(number)
        last_epoch = trial.last_step or 0
        self._running[number] = _Running(config, last_epoch)
        return Assignment(number, config, by_field(trial.params), last_epoch)

    def report(self, number: int, metrics: EpochMetrics) -> Verdict:
        """Record an epoch, unless it is known already, and say what becomes of the trial; after its last it goes on.

        One that stops must be ended by ``prune``; one that waits must not be heard of until it is handed out again.
        """
        running = self._running[number]
        is_new = metrics.epoch > running.last_epoch
        if is_new:
            # not Trial.report, which refuses trials of two values
            self._storage.set_trial_intermediate_value(number, metrics.epoch, metrics.val_accuracy)
            del self._worker_losses[number]
            running.last_epoch = metrics.epoch
        verdict = Verdict.GOES_ON
        if metrics.epoch == running.last_epoch < running.config.epochs:
            if self._halving is None:
                verdict = Verdict.STOPS if self._should_prune(number) else Verdict.GOES_ON
            elif is_new and self._halving.arrive(number, metrics.epoch, metrics.val_accuracy):
                verdict = Verdict.WAITS
                self._wait(number, metrics)
        self._storage.flush()
        if verdict is Verdict.WAITS and self._mirror is not None:
            self._mirror.save()
        return verdict

    def give_up(self) -> list[FrozenTrial]:
        """End the trials that waited in vain, and return them."""
        given_up = [] if self._halving is None else self._halving.give_up()
        for number in given_up:
            self.waiting.remove(number)
            self._tell(number, TrialState.PRUNED)
            self._remove_checkpoint(self.run_dir(number))
        return [self._storage.get_trial(number) for number in given_up]

    def complete(self, number: int, result: Result) -> None:
        """End a trial that ran to its end."""
        self._describe(number, result.val_log_loss, result.seconds)
        model = self._running[number].config.model
        if self.objective.latency is not None:
            self._storage.set_trial_user_attr(number, "latency", self.objective.latency.milliseconds(model))
        values = self.objective.values(model, result.val_accuracy)
        self._end(number, TrialState.COMPLETE, values)

    def prune(self, number: int, metrics: EpochMetrics) -> None:
        """End a trial early, at the epoch that ``metrics`` is of."""
        self._describe_so_far(number, metrics)
        self._end(number, TrialState.PRUNED)
        self._remove_checkpoint(self.run_dir(number))

    def fail(self, number: int, reason: str) -> None:
        """End a trial that cannot go on."""
        self._storage.set_trial_user_attr(number, "reason", reason)
        if self._halving is not None:
            self._halving.forget(number)
        self._end(number, TrialState.FAIL)
        self._remove_checkpoint(self.run_dir(number))

    def lose_worker(self, number: int) -> bool:
        """Take note that a trial's worker died. True if it will be handed out again, False if it died too often."""
        self._worker_losses[number] += 1
        if self._worker_losses[number] == MAX_WORKER_LOSSES:
            return False
        del self._running[number]
        self._interrupted.append(number)
        return True

    def run_dir(self, number: int) -> RunDir:
        """A trial's directory, or where this process keeps what it fetches of it."""
        return RunDir(self.directory / "trials" / f"{number:04d}")

    def run_place(self, number: int) -> str:
        """Where a trial writes: a path or a URI."""
        path = self.run_dir(number).path
        return str(path) if self._mirror is None else self._mirror.remote.child(f"trials/{path.name}").uri

    def _draw(self, number: int | None) -> tuple[int, TrainConfig]:
        """Have the sampler give a new trial its parameters, or one that was cut off those that it lacks."""
        with self._storage.showing(self._waiting_as_pruned()):
            trial = self._study.ask() if number is None else Trial(self._study, number)
            return trial.number, self.space.suggest(trial)

    def _promote(self, all_started: bool) -> int | None:
        """A trial that has waited long enough."""
        number = None if self._halving is None else self._halving.promote(all_started=all_started)
        if number is not None:
            self.waiting.remove(number)
            self._storage.set_trial_system_attr(number, WAITS, None)
        return number

    def _wait(self, number: int, metrics: EpochMetrics) -> None:
        self._describe_so_far(number, metrics)
        since = datetime.now().astimezone().isoformat()
        self._storage.set_trial_system_attr(number, WAITS, {"epoch": metrics.epoch, "since": since})
        self.waiting.add(number)
        del self._running[number]

    def _waiting_as_pruned(self) -> dict[int, FrozenTrial]:
        """Trials that wait, as samplers should see them: they have a value, unlike those that run."""
        shown = {}
        for number in self.waiting:
            trial = shown[number] = copy.copy(self._storage.get_trial(number))
            since = datetime.fromisoformat(trial.system_attrs[WAITS]["since"])
            trial.state = TrialState.PRUNED
            trial.value = trial.intermediate_values[trial.system_attrs[WAITS]["epoch"]]
            trial.datetime_complete = since.astimezone().replace(tzinfo=None)
        return shown

    def _describe_so_far(self, number: int, metrics: EpochMetrics) -> None:
        run = self.run_dir(number)
        if self._mirror is not None:
            self._mirror.fetch_metrics(run)
        self._describe(number, metrics.val_log_loss, sum(item.seconds for item in run.read_metrics()))

    def _describe(self, number: int, val_log_loss: float, seconds: float) -> None:
        self._storage.set_trial_user_attr(number, "val_log_loss", val_log_loss)
        self._storage.set_trial_user_attr(number, "seconds", seconds)
        parameters = num_parameters(self._running[number].config.model)
        self._storage.set_trial_user_attr(number, "num_parameters", parameters)

    def _should_prune(self, number: int) -> bool:
        # not Trial.should_prune, which knows only the values that went through Trial.report
        return not self.objective.has_front and self._study.pruner.prune(self._study, self._storage.get_trial(number))

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        del self._running[number]
        self._tell(number, state, values)

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self._study.tell(number, values, state)
        self._storage.flush()
        self._num_ended += 1
        if self._mirror is not None:
            self._mirror.save()

    def _remove_checkpoint(self, run: RunDir) -> None:
        if self._mirror is None:
            run.remove_checkpoint()
        else:
            self._mirror.remove_checkpoint(run)
