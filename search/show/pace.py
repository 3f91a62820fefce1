"""How long a search will go on, from what its epochs took; counted down between two events."""

from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Final

from search.show.live_trial import LiveTrial

MINUTE: Final = 60.0
KEPT: Final = 0.99
"""Of what an epoch counts, after another one"""


class Pace:
    """Seconds of the epochs done by this process, and what follows of the time left."""

    def __init__(
        self,
        num_trials: int,
        foresee: Callable[[Collection[int], int], int | None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``foresee`` tells the epochs of the whole search, if it can, from those of each trial and how many failed."""
        self.clock = clock
        self._num_trials, self._foresee = num_trials, foresee
        self._seconds = 0.0
        self._recent_epochs, self._recent_seconds = 0.0, 0.0
        self._at_work_since: float | None = None
        self._left: tuple[float, float] | None = None  # the last estimate, and when it was made

    @property
    def mean(self) -> float | None:
        """Seconds an epoch, of the last hundred or so: a search tries what is cheap first."""
        return self._recent_seconds / self._recent_epochs if self._recent_epochs else None

    def begin(self, trial: LiveTrial) -> None:
        """An epoch begins: of a trial whose worker is up, or that has just reported one."""
        trial.since = self.clock()
        trial.expected = trial.own_seconds or self.mean
        if self._at_work_since is None:
            self._at_work_since = trial.since

    def end(self, trial: LiveTrial, seconds: float) -> None:
        """The epoch in progress was done; ``seconds`` count where nothing is known of its beginning."""
        now = self.clock()
        if trial.since is not None:
            seconds = now - trial.since
        if self._at_work_since is None:
            self._at_work_since = now - seconds
        trial.epochs_here += 1
        trial.seconds_here += seconds
        self._seconds += seconds
        self._recent_epochs = self._recent_epochs * KEPT + 1
        self._recent_seconds = self._recent_seconds * KEPT + seconds

    def total_epochs(
        self, done: Sequence[int], ended: Sequence[int], running: Sequence[LiveTrial], num_failed: int
    ) -> int:
        """Epochs of the whole search: as its stopping rule foresees, else those of trials like the ones that ended.

        ``done`` are those of all trials that were started and did not fail, ``ended`` of those of them that ended;
        without one, a trial takes as many as it may. Epochs of those that failed are not counted.
        """
        if (total := self._foresee(done, num_failed)) is not None:
            return total
        each = sum(ended) / len(ended) if ended else max((trial.epochs for trial in running), default=1)
        unstarted = max(self._num_trials - len(ended) - num_failed - len(running), 0)
        return round(sum(done) + unstarted * each + sum(max(each - trial.epoch, 0) for trial in running))

    def estimate(self, running: Sequence[LiveTrial], total: int, num_done: int) -> None:
        """Take stock after an event: of ``total`` epochs of the search, ``num_done`` are done.

        Epochs of trials that were let through take what theirs took, all others the mean; the epochs in progress count
        as far as they are. As much is done a second as since the first worker was up.
        """
        now, mean = self.clock(), self.mean
        if mean is None or self._at_work_since is None:
            return
        begun = sum(trial.spent(now) for trial in running)
        own = [trial for trial in running if trial.was_let_through and trial.own_seconds is not None]
        left = mean * max(total - num_done - sum(trial.epochs - trial.epoch for trial in own), 0)
        left += sum((trial.epochs - trial.epoch) * (trial.own_seconds or 0.0) for trial in own)
        side_by_side = (self._seconds + begun) / max(now - self._at_work_since, 1e-9)
        self._left = max(left - begun, 0.0) / max(side_by_side, 1e-9), now

    def left(self) -> float | None:
        """Seconds: the last estimate less what has gone since; None before the first epoch."""
        if self._left is None:
            return None
        estimate, then = self._left
        return max(estimate - (self.clock() - then), 0.0)

    def at_least(self, running: Sequence[LiveTrial], epochs_left: int, num_workers: int) -> float:
        """Seconds left if every epoch took only as long as the longest in progress has taken so far."""
        longest = max((trial.spent(self.clock()) for trial in running), default=0.0)
        return longest * epochs_left / max(num_workers, 1)


def in_words(seconds: float) -> str:
    """A duration, as exact as an estimate is.

    >>> in_words(45 * 60), in_words(19_000), in_words(200_000)
    ('45 minutes', '5.3 hours', '2.3 days')
    """
    for unit, name in ((86_400.0, "days"), (3600.0, "hours")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{max(round(seconds / MINUTE), 1)} minutes"
