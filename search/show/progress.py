"""What a running search looks like: a live view on a terminal, plain lines anywhere else."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.segment import Segment

from search.show.live_trial import LiveTrial, Seen, best_of
from search.show.live_view import NARROW, Standing, draw, named
from search.show.pace import Pace, in_words
from search.show.steady_live import SteadyLive
from trainer.rundir import EpochMetrics

STATE_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red"}
WORDS: Final = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
LONG: Final = 600.0  # seconds that a search may take without a word on it
LATEST: Final = 120.0  # seconds until that word
QUIET: Final = (30.0, 300.0)  # fewest and most seconds off a terminal without a line
MOST_TOLD: Final = 4  # running trials of which that line tells
GIGABYTE: Final = 1e9


def describe(params: dict[str, Any]) -> str:
    """Parameters of a trial on one line."""
    return ", ".join(named(params))


def _outcome(val_accuracy: float | None, epoch: int | None) -> str:
    return f"accuracy {val_accuracy or 0:.4f} after {epoch or 0} epochs"


class Progress:
    """Told of every event of a search; shows where it stands."""

    def __init__(
        self,
        console: Console,
        study_name: str,
        num_trials: int,
        foresee: Callable[[Collection[int], int], int | None] = lambda _done, _failed: None,
        *,
        memory: Callable[[], tuple[float, float]] | None = None,
        allowed: Callable[[], float | None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``foresee`` tells the epochs of the whole search, if it can, from those of each trial and how many failed.

        ``memory`` tells the bytes in use on this machine, and that it has; ``allowed`` the seconds left of a time
        budget, if there is one.
        """
        self._console, self._study_name, self._num_trials = console, study_name, num_trials
        self._memory, self._allowed, self._clock = memory, allowed, clock
        self._pace = Pace(num_trials, foresee, clock)
        self._counts: Counter[str] = Counter()
        self._epochs: dict[int, int] = {}  # done, of every trial that was started
        self._ended: list[int] = []  # epochs of those that ended, but for failed ones
        self._running: dict[int, LiveTrial] = {}
        self._waiting: dict[int, LiveTrial] = {}
        self._seen: dict[int, Seen] = {}
        self._room: int | None = None
        self._has_told_length = self._is_stale = False
        self._began = self._told = clock()
        self._live = SteadyLive(self, console, refresh_per_second=2)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print one line above the live view; a terminal wraps it at words, anywhere else it stays one."""
        self._told = self._clock()
        self._console.print(" ".join(text.split()), soft_wrap=not self._console.is_terminal)

    def earlier(self, number: int, state: str, val_accuracy: float | None, params: dict[str, Any], epochs: int) -> None:
        """A trial that ended before this process began."""
        self._epochs[number] = epochs
        self._see(number, params, WORDS[state], val_accuracy, epochs)
        self._count(number, state)

    def waited(self, number: int, val_accuracy: float | None, params: dict[str, Any], epochs: int) -> None:
        """A trial that waits since before this process began."""
        self._waiting[number] = LiveTrial(number, params, epochs, epochs, {epochs: val_accuracy or 0.0})
        self._epochs[number] = epochs
        self._see(number, params, "waiting", val_accuracy, epochs)

    def look(self, room: int) -> None:
        """Called every now and then, with how many trials may run at a time."""
        self._room = room
        if not self._has_told_length and self._clock() - self._began >= LATEST:
            self._tell_length()
        if not self._console.is_terminal and self._running:
            fewest, most = QUIET
            if self._clock() - self._told >= min(max(fewest, (self._clock() - self._began) / 20), most):
                self._tell_standing()

    def started(
        self,
        number: int,
        params: dict[str, Any],
        epochs: int,
        last_epoch: int,
        curve: Mapping[int, float] | None = None,
    ) -> None:
        """A trial was handed out; ``last_epoch`` of its ``epochs`` were done before, with the accuracies ``curve``."""
        has_waited = self._waiting.pop(number, None) is not None
        self._running[number] = LiveTrial(number, params, epochs, last_epoch, dict(curve or {}), has_waited)
        self._epochs[number] = last_epoch
        self._see(number, params, "running")
        for epoch, value in (curve or {}).items():
            self._seen[number].take(value, epoch)
        if not self._console.is_terminal:
            self.note(f"trial {number} {'goes on' if last_epoch else 'starts'}: {escape(describe(params))}")

    def begun(self, number: int) -> None:
        """A worker that is up has taken a trial on."""
        if number in self._running:
            self._pace.begin(self._running[number])

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        """A trial did an epoch, or told again of one from before it was interrupted."""
        trial = self._running[number]
        trial.epoch = metrics.epoch
        trial.curve[metrics.epoch] = metrics.val_accuracy
        self._seen[number].take(metrics.val_accuracy, metrics.epoch)
        if metrics.epoch > self._epochs[number]:
            self._pace.end(trial, metrics.seconds)
            self._epochs[number] = metrics.epoch
        self._pace.begin(trial)
        for other in list(self._running.values()):
            if other.expected is None:
                other.expected = self._pace.mean
        if metrics.skipped_steps:
            steps = f"{metrics.skipped_steps} steps of epoch {metrics.epoch}"
            self.note(f"trial {number}: {steps} were left out, as their gradient was nan or inf")
        self._is_stale = True
        if not self._has_told_length and self._have_all_begun():
            self._tell_length()

    def ended(self, number: int, state: str, val_accuracy: float | None = None, reason: str = "") -> None:
        """A trial ended: COMPLETE, PRUNED or FAIL."""
        trial = self._running.pop(number)
        self._see(number, trial.params, WORDS[state], val_accuracy if state == "COMPLETE" else None, trial.epoch)
        self._count(number, state)
        self._is_stale = True
        self._tell_end(number, state, escape(reason) if state == "FAIL" else _outcome(val_accuracy, trial.epoch))

    def waits(self, number: int) -> None:
        """A trial lets others go first."""
        trial = self._waiting[number] = self._running.pop(number)
        self._see(number, trial.params, "waiting")
        self._is_stale = True
        if not self._console.is_terminal:
            self.note(f"trial {number} waits: {_outcome(trial.val_accuracy, trial.epoch)}")

    def waited_in_vain(self, number: int, val_accuracy: float | None, epoch: int | None) -> None:
        """A trial that waited ended: PRUNED."""
        self._waiting.pop(number, None)
        if number in self._seen:
            self._seen[number].state = WORDS["PRUNED"]
        self._count(number, "PRUNED")
        self._is_stale = True
        self._tell_end(number, "PRUNED", _outcome(val_accuracy, epoch))

    def _tell_end(self, number: int, state: str, outcome: str) -> None:
        if state == "FAIL" or not self._console.is_terminal:
            self.note(f"trial {number} [{STATE_STYLES[state]}]{state}[/]: {outcome} ({', '.join(self._standing())})")

    def lost(self, number: int, reason: str) -> None:
        """A trial's worker died; it will be started again."""
        trial = self._running.pop(number)
        self._see(number, trial.params, "interrupted")
        self._is_stale = True
        first = reason.split(". ")[0].rstrip(".")  # of Ray's many sentences on what may have been
        self.note(f"trial {number} lost its worker and will go on from its last epoch: {escape(first)}")

    def _see(
        self, number: int, params: dict[str, Any], state: str, val_accuracy: float | None = None, epoch: int = 0
    ) -> None:
        """Keep what became of a trial; an accuracy given here counts in place of the best of its epochs."""
        seen = self._seen.setdefault(number, Seen(number, params, state))
        seen.state = state
        if val_accuracy is not None:
            seen.val_accuracy, seen.epoch = val_accuracy, max(epoch, 1)

    def _count(self, number: int, state: str) -> None:
        self._counts[state] += 1
        if state != "FAIL":
            self._ended.append(self._epochs.get(number, 0))

    def _total_epochs(self) -> int:
        running = list(self._running.values())
        done = [epochs for number, epochs in self._epochs.items() if self._seen[number].state != WORDS["FAIL"]]
        spent = sum(self._epochs.values()) - sum(done)
        return spent + self._pace.total_epochs(done, self._ended, running, self._counts["FAIL"])

    def _left(self) -> float | None:
        """Seconds. Estimated anew after an event, but only when asked for: thousands of trials take a while."""
        if self._is_stale:
            self._is_stale = False
            running = list(self._running.values())
            self._pace.estimate(running, self._total_epochs(), sum(self._epochs.values()))
        return self._pace.left()

    def _have_all_begun(self) -> bool:
        """Whether as many trials as can have done an epoch."""
        begun = sum(trial.epochs_here > 0 for trial in self._running.values())
        most = self._num_trials - self._counts.total()
        return self._room is not None and begun >= min(self._room, most)

    def _tell_length(self) -> None:
        """Say once how long the search will take, if that is long and no time budget ends it before."""
        running = list(self._running.values())
        seconds, about = self._left(), "about"
        if seconds is None:
            left, about = self._total_epochs() - sum(self._epochs.values()), "at least"
            seconds = self._pace.at_least(running, left, self._room or 1)
            if seconds < LONG:
                return
        self._has_told_length = True
        if seconds < LONG or (self._allowed() or seconds) < seconds:
            return
        left = self._num_trials - self._counts.total()
        trials = f"{left} trial{'s' * (left != 1)}"
        most = max((trial.epochs for trial in running), default=0)
        self.note(
            f"{trials} of up to {most} epochs will take {about} {in_words(seconds)}; what makes that shorter: fewer "
            "trials, fewer epochs, a time budget, or more workers where there are idle CPUs"
        )

    def _tell_standing(self) -> None:
        """A line that says that the search is at work, where nothing happened for a while."""
        running = sorted(self._running.values(), key=lambda trial: trial.number)
        parts = [*self._standing(), *self._workers(running), *(line for line, _ in self._best()[:1])]
        done = [f"trial {trial.number} has done {trial.epoch} of {trial.epochs} epochs" for trial in running]
        self.note("; ".join([", ".join(parts), *done[:MOST_TOLD]]))

    def _standing(self) -> list[str]:
        ended = f"{self._counts.total()}/{self._num_trials} ended"
        left, allowed = self._left(), self._allowed()
        if allowed is not None and (left is None or allowed < left):
            return [ended, f"{timedelta(seconds=round(max(allowed, 0)))} left of the time budget"]
        if left is None or left < 0.5:  # an estimate that has run out says nothing
            return [ended]
        return [ended, f"{timedelta(seconds=round(left))} left"]

    def _workers(self, running: list[LiveTrial]) -> list[str]:
        at_work = sum(trial.since is not None for trial in running)
        if self._room is None:
            return []
        if self._pace.mean is None and at_work < self._room:
            return [f"workers starting ({at_work} of {self._room} ready)"]
        return [f"{at_work} of {max(self._room, at_work)} workers at work"]

    def _head(self, running: list[LiveTrial], is_narrow: bool) -> list[str]:
        ended, *left = self._standing()
        parts = [ended if is_narrow else f"{self._study_name}: {ended}", *left]
        parts += [f"{timedelta(seconds=round(self._clock() - self._began))} gone", *self._workers(running)]
        if self._memory is not None:
            used, total = self._memory()
            parts.append(f"memory {used / GIGABYTE:.1f} of {total / GIGABYTE:.1f} GB")
        return parts

    def _best(self) -> list[tuple[str, dict[str, Any]]]:
        seen = list(self._seen.values())
        best = best_of(seen)
        if best is None:
            return []
        if best.state == "complete":
            return [(f"best {best.val_accuracy:.4f}: trial {best.number}", best.params)]
        where = f"at epoch {best.epoch} of trial {best.number} ({best.state})"
        lines = [(f"best so far {best.val_accuracy:.4f} {where}", best.params)]
        if (complete := best_of(trial for trial in seen if trial.state == "complete")) is not None:
            lines.append((f"best complete {complete.val_accuracy:.4f}: trial {complete.number}", complete.params))
        return lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        counts = ", ".join(f"[{style}]{self._counts[state]} {WORDS[state]}[/]" for state, style in STATE_STYLES.items())
        running, waiting = list(self._running.values()), list(self._waiting.values())
        standing = Standing(
            now=self._clock(),
            head=self._head(running, options.max_width < NARROW),
            counts=counts + (f", {len(waiting)} waiting" if waiting else ""),
            num_ended=self._counts.total(),
            num_trials=self._num_trials,
            best=self._best(),
            running=sorted(running, key=lambda trial: trial.number),
            waiting=waiting,
        )
        for line in draw(standing, console, options):
            yield from line
            yield Segment.line()
