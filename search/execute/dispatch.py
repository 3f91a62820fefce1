"""Between the study, which decides, and Ray Tune, which executes: the study seen as Ray's searcher and scheduler."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from search.decide.stopping import Decision
from search.decide.study import MAX_START_LOSSES, MAX_WORKER_LOSSES, Assignment, SearchStudy
from search.execute.out_of_memory import MemoryKill
from search.execute.training import Failure, read
from search.show.progress import Progress
from trainer.common.credentials import hide
from trainer.common.errors import UserError
from trainer.rundir import EpochMetrics, Result


class Brake(Stopper):
    """Ends the whole search when pulled: workers stop where they are, to go on from their last checkpoint."""

    def __init__(self, seconds: float | None = None) -> None:
        """With ``seconds`` it pulls itself when they have gone."""
        self.pulled = False
        self.is_time_up = False
        self.signum: int | None = None
        """Of the signal that pulled it, if one did"""
        self._deadline = None if seconds is None else monotonic() + seconds
        self.fault: UserError | None = None
        """Why the search cannot go on, if that is why"""

    def fail(self, fault: UserError) -> None:
        """Pull it because of something that concerns all trials."""
        self.pulled, self.fault = True, fault

    def __call__(self, *_: object) -> bool:
        return False  # single trials are the scheduler's business

    def seconds_left(self) -> float | None:
        """Until it pulls itself; None if it does not."""
        return None if self._deadline is None else self._deadline - monotonic()

    def stop_all(self) -> bool:
        if not self.pulled and self._deadline is not None and monotonic() >= self._deadline:
            self.pulled = self.is_time_up = True
        return self.pulled


class Room(Protocol):
    """How many trials may run at a time: search.execute.cluster.Room."""

    def __call__(self) -> int: ...
    def by_node(self) -> Mapping[str, int]: ...
    def limit(self, node: str, count: int) -> None: ...
    def lift(self, node: str) -> None: ...


class Dispatcher:
    """Which of Ray's trials carries out which of the study's, and what became of it."""

    def __init__(
        self,
        study: SearchStudy,
        progress: Progress,
        room: Room,
        to_ray: Callable[[Assignment], dict[str, Any]],
        brake: Brake,
    ) -> None:
        """``to_ray`` says what a trial's worker is given."""
        self.study = study
        self._progress = progress
        self._room = room
        self._to_ray = to_ray
        self._brake = brake
        self._assignments: dict[str, Assignment] = {}
        self._room_then: dict[str, Mapping[str, int]] = {}  # that each node had when a trial was handed out
        self._ray_trials: dict[str, RayTrial] = {}
        self._begun: set[str] = set()  # of those, where a worker came up

    @property
    def has_ended(self) -> bool:
        """Whether there will be no further trial."""
        return self.study.is_finished or self._brake.pulled

    def assign(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial of the study for a new one of Ray's; None while there is no room, or nothing to do."""
        if self.has_ended:
            return None
        try:
            self._progress.look(self._room())
            self._take_in_errors()
            for trial in self.study.give_up():
                self._progress.waited_in_vain(trial.number, trial.value, trial.last_step)
            assignment = self.study.ask() if len(self._assignments) < self._room() else None
        except UserError as fault:
            self._brake.fail(fault)
            return None
        if assignment is None:
            return None
        self._assignments[trial_id] = assignment
        self._room_then[trial_id] = dict(self._room.by_node())
        return self._to_ray(assignment)

    def start(self, trial: RayTrial) -> None:
        """Ray made a trial of what it was given."""
        self._ray_trials[trial.trial_id] = trial
        given = self._assignments[trial.trial_id]
        curve = self.study.trials()[given.number].intermediate_values if given.last_epoch else {}
        self._progress.started(given.number, given.params, given.config.epochs, given.last_epoch, curve)

    def begin(self, trial: RayTrial) -> None:
        """A worker that is up has been given it."""
        self._begun.add(trial.trial_id)
        if trial.trial_id in self._assignments:
            self._progress.begun(self._assignments[trial.trial_id].number)

    def receive(self, trial: RayTrial, result: dict[str, Any]) -> bool:
        """Take in what a worker sent; whether its trial goes on."""
        if self._brake.fault:  # the study takes in nothing more
            return False
        try:
            goes_on = self._take_in(self._assignments[trial.trial_id].number, result)
        except UserError as fault:
            self._brake.fail(fault)
            return False
        if not goes_on:
            self._release(trial.trial_id)
        return goes_on

    def _take_in(self, number: int, result: dict[str, Any]) -> bool:
        match read(result):
            case EpochMetrics() as metrics if not math.isfinite(metrics.val_accuracy):
                self._fail(number, f"val_accuracy became {metrics.val_accuracy} in epoch {metrics.epoch}")
            case EpochMetrics() as metrics:
                self._progress.epoch(number, metrics)
                match self.study.report(number, metrics):
                    case Decision.CONTINUE:
                        return True
                    case Decision.PAUSE:
                        self._progress.waits(number)
                    case Decision.STOP:
                        self.study.prune(number, metrics)
                        self._progress.ended(number, "PRUNED", metrics.val_accuracy)
            case Result() as outcome:
                self.study.complete(number, outcome)
                self._progress.ended(number, "COMPLETE", outcome.val_accuracy)
            case Failure(reason, concerns_all=True):
                where = self.study.run_dir(number).path
                raise UserError(f"{where}: {reason}; make room or solve that, then resume the study")
            case Failure(reason):
                self._fail(number, reason)
        return False

    def _take_in_errors(self) -> None:
        """Look for trials that Ray gave up, because their worker died or could not be started."""
        for trial_id, trial in list(self._ray_trials.items()):
            if trial.status != RayTrial.ERROR:
                continue
            number = self._assignments[trial_id].number
            reason, lost_worker = _error_of(trial)
            if (kill := MemoryKill.read(reason)) is not None:
                self._take_in_kill(trial_id, kill)
            elif not lost_worker:
                self._fail(number, reason)
            elif self.study.lose_worker(number, had_begun=(had_begun := trial_id in self._begun)):
                self._progress.lost(number, reason)
            else:
                times = f"{MAX_WORKER_LOSSES} times" if had_begun else f"{MAX_START_LOSSES} times before it began,"
                self._fail(number, f"its worker died {times} in a row: {reason}")
            self._release(trial_id)

    def _take_in_kill(self, trial_id: str, kill: MemoryKill) -> None:
        """Of a worker that was ended for memory: with less company on its node, its trial goes on if that may help.

        A trial that was alone is the likely cause, once it was ended before. Then the node has room for others again.
        """
        number, room_then = self._assignments[trial_id].number, self._room_then[trial_id].get(kill.node, 1)
        if not self.study.run_out_of_memory(number, alone=room_then == 1):
            self._room.lift(kill.node)
            self._fail(
                number,
                f"out of memory twice in a row, alone on its node the second time: {kill.words}; give it a smaller "
                "batch_size or model, stop what else fills that node, or, for more than one trial there, fewer workers",
            )
            return
        room = self._room.by_node().get(kill.node, 1)
        if room_then <= room:  # handed out since the last time that this node got a limit
            room = max(1, min(room, len(self._assignments)) // 2)
            self._room.limit(kill.node, room)
        now = "" if room_then == 1 else f"; at most {room} at a time will run there now, as with fewer workers"
        self._progress.lost(number, f"out of memory: {kill.words}{now}")

    def _fail(self, number: int, reason: str) -> None:
        self.study.fail(number, reason)
        self._progress.ended(number, "FAIL", reason=reason)

    def _release(self, trial_id: str) -> None:
        del self._assignments[trial_id], self._ray_trials[trial_id], self._room_then[trial_id]
        self._begun.discard(trial_id)


def _error_of(trial: RayTrial) -> tuple[str, bool]:
    """Why Ray gave a trial up, in one line, and whether its worker died, through no fault of the trial's.

    Ray keeps the error as text, and as a pickle too if it came from an actor: that is not loaded, but that there is one
    says so. A text that begins with a line such as ray::ImplicitFunc.train() is an exception's traceback.
    """
    text = Path(trial.error_file).read_text() if trial.error_file else ""  # get_error looks where it is copied later
    text = re.sub(r"^Failure # \d+ \(occurred at [^)]*\)\n", "", text)
    is_actors = trial.run_metadata.pickled_error_filename is not None
    is_traceback = re.match(r"(\x1b\[\d+m)?ray::", text) is not None
    reason = hide(" ".join(text.split())) or "Ray gave it up and did not say why"
    return reason, is_actors and not is_traceback


class StudySearcher(Searcher):
    """What Ray Tune asks for trials."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def suggest(self, trial_id: str) -> Any:
        given = self._dispatcher.assign(trial_id)
        return Searcher.FINISHED if self._dispatcher.has_ended else given

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the dispatcher knows."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: study.db is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: study.db is the state."""


class Beginnings(Callback):
    """What Ray Tune tells of trials whose worker has come up."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def on_trial_start(self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: Any) -> None:  # noqa: ARG002
        self._dispatcher.begin(trial)


class StudyScheduler(FIFOScheduler):
    """What Ray Tune asks whether a trial goes on."""

    def __init__(self, dispatcher: Dispatcher) -> None:  # the base class has no state
        self._dispatcher = dispatcher

    def on_trial_add(self, _: Any, trial: RayTrial) -> None:
        self._dispatcher.start(trial)

    def on_trial_result(self, _: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        return str(TrialScheduler.CONTINUE if self._dispatcher.receive(trial, result) else TrialScheduler.STOP)

    def on_trial_complete(self, _: Any, trial: RayTrial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """Drop the statistics that Ray keeps of every number that a trial reported.

        Nobody reads them, and they are most of what a trial that has ended takes in the driver's memory.
        """
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()

    def choose_trial_to_run(self, _: Any) -> None:
        """None in particular: Ray starts pending trials in their order, and looking at all of them takes time."""
