"""What a running search looks like: a live view on a terminal, plain lines anywhere else."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.rundir import EpochMetrics

NARROW = 60  # columns
STATE_STYLES = {"COMPLETE": "green", "PRUNED": "yellow", "FAIL": "red"}


def describe(params: dict[str, Any]) -> str:
    """Parameters of a trial on one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )


def _outcome(val_accuracy: float | None, epoch: int | None) -> str:
    return f"accuracy {val_accuracy or 0:.4f} after {epoch or 0} epochs"


@dataclass
class _Running:
    params: dict[str, Any]
    epochs: int
    epoch: int = 0
    val_accuracy: float | None = None
    was_let_through: bool = False
    """It had waited, and goes on to its end unless it waits again"""
    epochs_here: int = 0
    """Since it was handed out"""
    seconds_here: float = 0.0


@dataclass(frozen=True)
class _Best:
    number: int
    val_accuracy: float
    params: dict[str, Any]


class Progress:
    """Told of every event of a search; shows where it stands."""

    def __init__(
        self,
        console: Console,
        study_name: str,
        num_trials: int,
        foresee: Callable[[Collection[int], int], int | None] = lambda _done, _failed: None,
    ) -> None:
        """``foresee`` tells the epochs of the whole search, if it can, from those of each trial and how many failed."""
        self._console = console
        self._study_name = study_name
        self._num_trials = num_trials
        self._counts: Counter[str] = Counter()
        self._foresee = foresee
        self._num_earlier = 0
        self._epochs: dict[int, int] = {}  # done, of every trial that was started
        self._epochs_here, self._seconds_here = 0, 0.0  # of training, done since this process began
        self._running: dict[int, _Running] = {}
        self._waiting: set[int] = set()
        self._best: _Best | None = None
        self._began = monotonic()
        self._live = Live(self, console=console, refresh_per_second=4, transient=True, redirect_stdout=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Print one line above the live view; a terminal wraps it at words, anywhere else it stays one."""
        self._console.print(" ".join(text.split()), soft_wrap=not self._console.is_terminal)

    def earlier(self, number: int, state: str, val_accuracy: float | None, params: dict[str, Any], epochs: int) -> None:
        """A trial that ended before this process began."""
        self._num_earlier += 1
        self._epochs[number] = epochs
        self._count(number, state, val_accuracy, params)

    def waited(self, number: int, epochs: int) -> None:
        """A trial that waits since before this process began."""
        self._waiting.add(number)
        self._epochs[number] = epochs

    def started(self, number: int, params: dict[str, Any], epochs: int, last_epoch: int) -> None:
        """A trial was handed out; ``last_epoch`` of its ``epochs`` were done before."""
        self._running[number] = _Running(params, epochs, last_epoch, was_let_through=number in self._waiting)
        self._waiting.discard(number)
        self._epochs[number] = last_epoch
        if not self._console.is_terminal:
            self.note(f"trial {number} {'goes on' if last_epoch else 'starts'}: {escape(describe(params))}")

    def epoch(self, number: int, metrics: EpochMetrics) -> None:
        """A trial did an epoch."""
        running = self._running[number]
        running.epoch, running.val_accuracy = metrics.epoch, metrics.val_accuracy
        if metrics.epoch > self._epochs[number]:
            running.epochs_here += 1
            running.seconds_here += metrics.seconds
            self._epochs_here += 1
            self._seconds_here += metrics.seconds
            self._epochs[number] = metrics.epoch
        if metrics.skipped_steps:
            steps = f"{metrics.skipped_steps} steps of epoch {metrics.epoch}"
            self.note(f"trial {number}: {steps} were left out, as their gradient was nan or inf")

    def ended(self, number: int, state: str, val_accuracy: float | None = None, reason: str = "") -> None:
        """A trial ended: COMPLETE, PRUNED or FAIL."""
        running = self._running.pop(number)
        self._count(number, state, val_accuracy, running.params)
        self._tell_end(number, state, escape(reason) if state == "FAIL" else _outcome(val_accuracy, running.epoch))

    def waits(self, number: int) -> None:
        """A trial lets others go first."""
        self._waiting.add(number)
        running = self._running.pop(number)
        if not self._console.is_terminal:
            self.note(f"trial {number} waits: {_outcome(running.val_accuracy, running.epoch)}")

    def waited_in_vain(self, number: int, val_accuracy: float | None, epoch: int | None) -> None:
        """A trial that waited ended: PRUNED."""
        self._waiting.discard(number)
        self._count(number, "PRUNED", val_accuracy, {})
        self._tell_end(number, "PRUNED", _outcome(val_accuracy, epoch))

    def _tell_end(self, number: int, state: str, outcome: str) -> None:
        if state == "FAIL" or not self._console.is_terminal:
            self.note(f"trial {number} [{STATE_STYLES[state]}]{state}[/]: {outcome} ({self._standing()})")

    def lost(self, number: int, reason: str) -> None:
        """A trial's worker died; it will be started again."""
        del self._running[number]
        first = reason.split(". ")[0].rstrip(".")  # of Ray's many sentences on what may have been
        self.note(f"trial {number} lost its worker and will go on from its last epoch: {escape(first)}")

    def _count(self, number: int, state: str, val_accuracy: float | None, params: dict[str, Any]) -> None:
        self._counts[state] += 1
        is_better = self._best is None or (val_accuracy or 0) > self._best.val_accuracy
        if state == "COMPLETE" and val_accuracy is not None and is_better:
            self._best = _Best(number, val_accuracy, params)

    def _standing(self) -> str:
        left = self._seconds_left()
        time_left = "" if left is None else f", {timedelta(seconds=round(left))} left"
        return f"{self._counts.total()}/{self._num_trials} ended{time_left}"

    def _seconds_left(self) -> float | None:
        """At the pace so far: of seconds of training where epochs are foreseen, else of trials, running ones by their
        share of epochs.

        Epochs of trials that were let through take what theirs took, all others the mean. None before there is a pace.
        """
        epochs, running = list(self._epochs.values()), list(self._running.values())
        if (total := self._foresee(epochs, self._counts["FAIL"])) is not None:
            done = self._seconds_here
            mean = done / max(self._epochs_here, 1)
            own = [its for its in running if its.was_let_through and its.epochs_here]
            left = mean * max(total - sum(epochs) - sum(its.epochs - its.epoch for its in own), 0)
            left += sum((its.epochs - its.epoch) * its.seconds_here / its.epochs_here for its in own)
        else:
            shares = sum(its.epoch / its.epochs for its in running)
            done = self._counts.total() - self._num_earlier + shares
            left = self._num_trials - self._counts.total() - shares
        return (monotonic() - self._began) / done * max(left, 0.0) if done > 0 else None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        elapsed = timedelta(seconds=round(monotonic() - self._began))
        counts = ", ".join(
            f"[{style}]{self._counts[state]} {word}[/]"
            for (state, style), word in zip(STATE_STYLES.items(), ("complete", "pruned", "failed"), strict=True)
        )
        if self._waiting:
            counts += f", {len(self._waiting)} waiting"
        is_narrow = options.max_width < NARROW
        name = "" if is_narrow else f"{self._study_name}: "
        yield Text(f"{name}{self._standing()}, {elapsed} gone", no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=self._num_trials, completed=self._counts.total(), width=20)
        grid = Table.grid(padding=(0, 1))
        for row in ((bar,), (counts,)) if is_narrow else ((bar, counts),):
            grid.add_row(*row)
        yield grid
        if self._best is not None:
            text = f"best {self._best.val_accuracy:.4f}: trial {self._best.number}, {describe(self._best.params)}"
            yield Text(text, no_wrap=True, overflow="ellipsis")
        yield self._running_table(max(1, console.height - (7 if is_narrow else 6)))

    def _running_table(self, max_rows: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        for name, width in (("trial", 5), ("epoch", 7), ("accuracy", 8)):
            table.add_column(name, justify="right", width=width)
        table.add_column("running", ratio=1, no_wrap=True, overflow="ellipsis")
        running = sorted(self._running.items())
        for number, trial in running[:max_rows]:
            accuracy = "" if trial.val_accuracy is None else f"{trial.val_accuracy:.4f}"
            table.add_row(str(number), f"{trial.epoch}/{trial.epochs}", accuracy, describe(trial.params))
        if len(running) > max_rows:
            table.add_row("…", "", "", f"and {len(running) - max_rows} more")
        return table
