"""One Optuna study that decides what to try and what to stop; Ray Tune executes it (search.execute.dispatch).

Parameters, intermediate values, states and reasons live in study.db and nowhere else; what to try next and
what to stop early is decided from it alone, so a resumed search decides as an undisturbed one. Whatever a worker is
told is in the database before: a new trial before it is handed out, an epoch before it is answered. States:
finished -> COMPLETE, stopped early -> PRUNED, NaN, exception or dead worker -> FAIL with a reason. A trial
that lost its worker or its driver stays RUNNING until it is handed out again. So does a trial that is paused
(search.decide.stopping). One that failed becomes RUNNING again where a resumed search is to try those again.
"""

import copy
import warnings
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from search.decide.samplers import for_space
from search.decide.stopping import STOPPING_RULES, Decision
from search.decide.warm_start import earlier_trials
from search.problem.points import described_space
from search.problem.space import by_field
from search.record.database_url import sqlite_url
from search.record.own_files import is_finished_only_there, is_own, most_trials
from search.record.remote_copy import RemoteCopy, adopt, found_in
from search.record.request import ASKED, ASKED_TRIALS, Request
from search.record.storage import StudyStorage
from search.record.trials import BY_HAND, PAUSED, REASON, may_be_tried_again
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters
from trainer.rundir import EpochMetrics, Result, RunDir
from trainer.studydir import STUDY_DB, TRIALS, StudyDir

MAX_WORKER_LOSSES: Final = 3  # without an epoch between: the trial is the likely cause
MAX_START_LOSSES: Final = 10  # before a trial began, through no fault of its own: workers cannot be started there


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
        study: StudyDir,
        request: Request,
        url: str | None = None,
        remote: RemoteCopy | None = None,
        *,
        retry_failed: bool = False,
    ) -> None:
        """Open a study, or create it as ``request`` asks.

        ``url`` is that of its database with its password (default: study.db in its folder), ``remote`` the driver's
        copy of a study behind a URI. With ``retry_failed``, trials that failed are handed out again. Every method that
        changes the study raises UserError if the database or that URI cannot be written; the study must not be used
        after that, but opened again.
        """
        self.dir, self.request = study, request
        self.space, self.objective = request.to_space(), request.to_objective()
        self._remote = remote
        name = request.name or study.path.name

        def again(trial: FrozenTrial) -> dict[str, Any] | None:
            is_late = trial.state.is_finished() and is_finished_only_there(study, trial)
            if (attributes := may_be_tried_again(trial)) is not None:
                return attributes if retry_failed or is_late else None
            return {} if is_late else None

        self._storage = StudyStorage(url or sqlite_url(study.path / STUDY_DB), name, again)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            sampler=for_space(request.sampler, self.space, request.seed),
            pruner=NopPruner(),
            directions=self.objective.directions,
            load_if_exists=True,
        )
        self.rule = STOPPING_RULES[request.pruner](self.space.base.epochs, request.trials)
        self.rule.wait_until(request.earliest_stop)
        self.rule.attach(self._study, self.space)
        most = most_trials(request, self.trials())
        found = found_in(study, {trial.number for trial in self.trials() if trial.state.is_finished()})
        found = {number: config for number, config in found.items() if most is None or number < most}
        adopt(self._study, self._storage, self.space, found)
        self._running: dict[int, _Running] = {}
        self._worker_losses: Counter[int] = Counter()
        self._start_losses: Counter[int] = Counter()
        self._memory_losses: Counter[int] = Counter()
        self.paused: dict[int, FrozenTrial] = {}
        """Trials that the rule has paused, by number, as samplers see them: they have a value, unlike those that run"""
        self._take_stock()
        self._begin()
        if self._study.user_attrs.get(ASKED_TRIALS) != request.trials:
            self._study.set_user_attr(ASKED_TRIALS, request.trials)
        self._storage.flush()
        if remote is not None:
            remote.save()

    def _begin(self) -> None:
        """Give a new study the trials of earlier ones, and its first points."""
        request = self.request
        if not self.trials():
            self._describe_study()
            self._study.add_trials(earlier_trials(request.warm_start, request))
        enqueued = {trial.user_attrs.get(BY_HAND) for trial in self.trials()}
        most = most_trials(request, self.trials())
        for place, point in enumerate(request.tries):
            if place not in enqueued and (most is None or len(self.trials()) < most):
                self._study.enqueue_trial(point, user_attrs={BY_HAND: place})
        if self._num_handed_out == 0:
            recipe = self.space.recipe_points() if request.recipe_points else []
            for point in [*request.points, *recipe][: request.trials - len(request.tries)]:
                self._study.enqueue_trial(point, skip_if_exists=True)

    def _describe_study(self) -> None:
        """Keep what was asked, also in words for those who look at the database with other tools."""
        self._study.set_user_attr(ASKED, self.request.digest)
        self._study.set_user_attr("data", self.request.data)
        self._study.set_user_attr("epochs", self.request.epochs)
        self._study.set_user_attr("space", described_space(self.space))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names(self.objective.metric_names)

    def _take_stock(self) -> None:
        """See where the study stands by its own trials."""
        own = [trial for trial in self.trials() if is_own(trial)]
        running = [trial for trial in own if trial.state == TrialState.RUNNING]
        paused = [trial.number for trial in running if trial.system_attrs.get(PAUSED)]
        self.paused.update((number, self._as_pruned(number)) for number in paused if not self.run_dir(number).is_done)
        self._interrupted = [trial.number for trial in running if trial.number not in self.paused]
        self._num_handed_out = sum(trial.state != TrialState.WAITING for trial in own)
        self._num_ended = sum(trial.state.is_finished() for trial in own)
        for trial in own:
            if trial.state != TrialState.FAIL:
                paused_after = trial.system_attrs[PAUSED]["epoch"] if trial.number in self.paused else None
                self.rule.restore(trial.number, trial.intermediate_values, paused_after)

    def close(self) -> None:
        """Let go of the database; study.db then is one file that needs nothing beside it."""
        self._storage.close()
        if self._remote is not None:
            self._remote.catch_up(at_once=True)

    @property
    def is_finished(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return self._num_ended >= self.request.trials

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number; not to be changed."""
        return self._study.get_trials(deepcopy=False)

    def ask(self) -> Assignment | None:
        """The next trial to run: an interrupted one, a paused one, a new one; None if there is none at present."""
        all_started = self._num_handed_out >= self.request.trials
        if self._interrupted:
            number, config = self._draw(self._interrupted.pop(0))
        elif (resumed := self._resume(all_started)) is not None:
            number, config = resumed, self.space.config_of(self._storage.get_trial(resumed))
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

    def report(self, number: int, metrics: EpochMetrics) -> Decision:
        """Record an epoch, unless it is known already, and decide what becomes of the trial.

        A trial that stops must then be ended by ``prune``; a paused one must not be heard of until it is handed out
        again. After its last epoch a trial continues, to its end.
        """
        running = self._running[number]
        if metrics.epoch > running.last_epoch:
            # not Trial.report, which refuses trials of two values
            self._storage.set_trial_intermediate_value(number, metrics.epoch, metrics.val_accuracy)
            del self._worker_losses[number], self._start_losses[number], self._memory_losses[number]
            running.last_epoch = metrics.epoch
        decision = Decision.CONTINUE
        if metrics.epoch == running.last_epoch < running.config.epochs:
            decision = self.rule.decide(number, metrics.epoch, metrics.val_accuracy)
        if decision is Decision.PAUSE:
            self._pause(number, metrics)
        self._storage.flush()
        if self._remote is not None:
            self._remote.save() if decision is Decision.PAUSE else self._remote.catch_up()
        return decision

    def give_up(self) -> list[FrozenTrial]:
        """End the paused trials that will not be resumed, and return them."""
        given_up = self.rule.give_up()
        for number in given_up:
            del self.paused[number]
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
        """End a trial that cannot go on. Its checkpoint stays, so that it can be tried again."""
        self._storage.set_trial_user_attr(number, REASON, reason)
        self.rule.forget(number)
        self._end(number, TrialState.FAIL)

    def lose_worker(self, number: int, *, had_begun: bool = True) -> bool:
        """Take note that a trial's worker died, maybe while it was still starting: the trial ``had_begun``, or not.

        True if it will be handed out again, False if that happened too often.
        """
        losses, most = self._worker_losses, MAX_WORKER_LOSSES
        if not had_begun:
            losses, most = self._start_losses, MAX_START_LOSSES
        losses[number] += 1
        if losses[number] == most:
            return False
        self._hand_out_again(number)
        return True

    def run_out_of_memory(self, number: int, *, alone: bool) -> bool:
        """Take note that a trial's worker was ended for its node's memory, on which it was ``alone``, or not.

        True if it will be handed out again, False if it is the likely cause: alone, and not for the first time since
        its last epoch.
        """
        self._memory_losses[number] += 1
        if alone and self._memory_losses[number] > 1:
            return False
        self._hand_out_again(number)
        return True

    def _hand_out_again(self, number: int) -> None:
        del self._running[number]
        self._interrupted.append(number)

    def run_dir(self, number: int) -> RunDir:
        """A trial's directory, or where this process keeps what it fetches of it."""
        return self.dir.trial(number)

    def run_place(self, number: int) -> str:
        """Where a trial writes: a path or a URI."""
        path = self.run_dir(number).path
        return str(path) if self._remote is None else self._remote.remote.child(f"{TRIALS}/{path.name}").uri

    def _draw(self, number: int | None) -> tuple[int, TrainConfig]:
        """Have the sampler give a new trial its parameters, or one that was cut off those that it lacks."""
        with self._storage.showing(self.paused):
            trial = self._study.ask() if number is None else Trial(self._study, number)
            return trial.number, self.space.suggest(trial)

    def _resume(self, all_started: bool) -> int | None:
        """A paused trial that the rule lets go on."""
        number = self.rule.resume(all_started=all_started)
        if number is not None:
            del self.paused[number]
            self._storage.set_trial_system_attr(number, PAUSED, None)
        return number

    def _pause(self, number: int, metrics: EpochMetrics) -> None:
        self._describe_so_far(number, metrics)
        since = datetime.now().astimezone().isoformat()
        self._storage.set_trial_system_attr(number, PAUSED, {"epoch": metrics.epoch, "since": since})
        self.paused[number] = self._as_pruned(number)
        del self._running[number]

    def _as_pruned(self, number: int) -> FrozenTrial:
        """A paused trial as if it had ended there."""
        trial = copy.copy(self._storage.get_trial(number))
        since = datetime.fromisoformat(trial.system_attrs[PAUSED]["since"])
        trial.state = TrialState.PRUNED
        trial.value = trial.intermediate_values[trial.system_attrs[PAUSED]["epoch"]]
        trial.datetime_complete = since.astimezone().replace(tzinfo=None)
        return trial

    def _describe_so_far(self, number: int, metrics: EpochMetrics) -> None:
        run = self.run_dir(number)
        if self._remote is not None:
            self._remote.fetch_metrics(run)
        self._describe(number, metrics.val_log_loss, sum(item.seconds for item in run.read_metrics()))

    def _describe(self, number: int, val_log_loss: float, seconds: float) -> None:
        self._storage.set_trial_user_attr(number, "val_log_loss", val_log_loss)
        self._storage.set_trial_user_attr(number, "seconds", seconds)
        parameters = num_parameters(self._running[number].config.model)
        self._storage.set_trial_user_attr(number, "num_parameters", parameters)

    def _end(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        del self._running[number]
        self._tell(number, state, values)

    def _tell(self, number: int, state: TrialState, values: list[float] | None = None) -> None:
        self._study.tell(number, values, state)
        self._storage.flush()
        self._num_ended += 1
        if self._remote is not None:
            self._remote.save()

    def _remove_checkpoint(self, run: RunDir) -> None:
        if self._remote is None:
            run.remove_checkpoint()
        else:
            self._remote.remove_checkpoint(run)
