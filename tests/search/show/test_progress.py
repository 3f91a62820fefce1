"""What a search says of itself: the lines where there is no terminal, and where it stands."""

import dataclasses
import io
import itertools
import re
from collections.abc import Collection
from typing import Any

import pytest
from rich.console import Console

from search.decide.halving import SuccessiveHalving
from search.show.progress import LATEST, LONG, Progress
from tests.outcomes import metrics_of
from trainer.rundir import EpochMetrics

PARAMS = {"num_heads": 3, "learning_rate": 1.2e-4, "landmarks": "[bold]hands"}


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class _Search:
    """A search whose clock a test sets, told of into memory."""

    def __init__(self, trials: int = 8, width: int = 200, foresee: Any = lambda *_: None, **options: Any) -> None:
        self.clock = _Clock()
        self._out = io.StringIO()
        console = Console(file=self._out, width=width, highlight=False)
        self.progress = Progress(console, "study", trials, foresee, clock=self.clock, **options)

    def start(self, *numbers: int, epochs: int = 9, last_epoch: int = 0) -> None:
        for number in numbers:
            self.progress.started(number, PARAMS, epochs, last_epoch)
            self.progress.begun(number)

    def epoch(self, number: int, epoch: int, val_accuracy: float = 0.5, at: float | None = None) -> None:
        self.clock.now = self.clock.now if at is None else at
        self.progress.epoch(number, metrics_of(epoch, val_accuracy))

    @property
    def told(self) -> list[str]:
        return self._out.getvalue().splitlines()

    def view(self, width: int = 200, height: int = 30) -> str:
        out = io.StringIO()
        Console(file=out, width=width, height=height, force_terminal=True, color_system=None).print(self.progress)
        return out.getvalue()


def _metrics(epoch: int) -> EpochMetrics:
    return metrics_of(epoch, 0.1 * epoch)


def _play(console: Console) -> Progress:
    """A search with a trial that finishes, one that fails, one that loses its worker, and twenty running."""
    progress = Progress(console, "a study with a long name", 64)
    for number in range(3):
        progress.started(number, PARAMS, 30, 0)
        progress.epoch(number, _metrics(7))
    progress.ended(0, "COMPLETE", 0.7125)
    progress.ended(1, "FAIL", reason="RuntimeError: [Errno 28]\n  no space " + 60 * "long ")
    progress.lost(2, "the node\ndied")
    for number in range(3, 23):
        progress.started(number, PARAMS, 30, 4 if number == 3 else 0)
    return progress


@pytest.mark.parametrize("width", [40, 80])
def test_each_event_is_one_line_where_there_is_no_terminal(width: int) -> None:
    out = io.StringIO()
    _play(Console(file=out, width=width, highlight=False))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 + 3 + 20
    assert all(line.startswith("trial ") for line in lines)
    assert lines[0] == "trial 0 starts: num_heads 3, learning_rate 0.00012, landmarks [bold]hands"
    assert lines[3].startswith("trial 0 COMPLETE: accuracy 0.7125 after 7 epochs (1/64 ended, ")
    assert lines[4].startswith("trial 1 FAIL: RuntimeError: [Errno 28] no space long")
    assert lines[5] == "trial 2 lost its worker and will go on from its last epoch: the node died"
    assert lines[6].startswith("trial 3 goes on: ")


@pytest.mark.parametrize("width", [40, 59, 60, 80, 200])
def test_the_live_view_fits_its_terminal(width: int) -> None:
    progress = _play(Console(file=io.StringIO(), width=width))
    out = io.StringIO()
    Console(file=out, width=width, height=16, force_terminal=True, color_system=None).print(progress)
    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    assert len(lines) < 16
    text = "\n".join(lines)
    assert "2/64 ended" in text
    assert "1 complete, 0 pruned, 1 failed" in text
    assert "best 0.7125: trial 0" in text
    assert lines[-1].endswith(" more")


def test_before_anything_happened_there_is_something_to_see() -> None:
    search = _Search(trials=3)
    assert "study: 0/3 ended, 0:00:00 gone" in search.view()
    search.progress.look(2)
    assert "workers starting (0 of 2 ready)" in search.view()
    search.progress.started(0, PARAMS, 9, 0)
    search.progress.started(1, PARAMS, 9, 0)
    search.progress.begun(1)
    assert "workers starting (1 of 2 ready)" in search.view()
    search.progress.begun(0)
    assert "2 of 2 workers at work" in search.view()


def test_memory_in_use_is_shown_where_it_is_known() -> None:
    assert "memory 5.1 of 15.6 GB" in _Search(memory=lambda: (5.12e9, 15.6e9)).view()
    assert "memory" not in _Search().view()


def test_the_best_is_shown_from_the_first_epoch_on_with_its_epoch() -> None:
    search = _Search()
    search.start(4, 5)
    assert "best" not in search.view()
    for epoch, accuracy in enumerate([0.3, 0.6123, 0.6], 1):
        search.epoch(4, epoch, accuracy)
    search.epoch(5, 1, 0.4)
    assert "best so far 0.6123 at epoch 2 of trial 4 (running): num_heads 3" in search.view()
    assert "best complete" not in search.view()
    search.progress.ended(5, "COMPLETE", 0.41)
    assert "best so far 0.6123 at epoch 2 of trial 4 (running): " in search.view()
    assert "best complete 0.4100: trial 5: num_heads 3" in search.view()
    search.progress.waits(4)
    assert "(waiting): " in search.view()
    search.progress.waited_in_vain(4, 0.6, 3)
    assert "best so far 0.6123 at epoch 2 of trial 4 (pruned): " in search.view()


def test_of_a_complete_trial_what_it_came_to_counts() -> None:
    search = _Search()
    search.start(0)
    search.epoch(0, 8, 0.7)
    search.epoch(0, 9, 0.65)
    search.progress.ended(0, "COMPLETE", 0.65)
    assert "best 0.6500: trial 0: num_heads 3" in search.view()
    assert "best so far" not in search.view()


def test_trials_of_an_earlier_process_are_among_the_best_and_the_waiting() -> None:
    search = _Search()
    search.progress.earlier(0, "COMPLETE", 0.5, PARAMS, 9)
    search.progress.earlier(1, "FAIL", None, PARAMS, 0)
    search.progress.waited(2, 0.625, PARAMS, 3)
    view = search.view()
    assert "best so far 0.6250 at epoch 3 of trial 2 (waiting): " in view
    assert "best complete 0.5000: trial 0" in view
    assert "1 trial waits for other trials' results at epoch 3: trial 2 (0.6250)" in view
    search.progress.started(2, PARAMS, 9, 3, {1: 0.25, 2: 0.5, 3: 0.625})
    assert "▁▆█" in search.view()  # (0.5 - 0.25) / (0.625 - 0.25) * 7 = 4.7 blocks above the lowest
    assert "wait" not in search.view()


def test_trials_that_wait_are_counted_and_told_of() -> None:
    search = _Search()
    search.progress.waited(7, 0.125, PARAMS, 1)
    search.start(0)
    search.epoch(0, 1, 0.1)
    search.progress.waits(0)
    search.progress.waited_in_vain(7, 0.125, 1)
    search.start(0, last_epoch=1)
    search.epoch(0, 2, 0.2)
    search.progress.waits(0)
    assert [line.split(" (")[0].split(" num_heads")[0] for line in search.told] == [
        "trial 0 starts:",
        "trial 0 waits: accuracy 0.1000 after 1 epochs",
        "trial 7 PRUNED: accuracy 0.1250 after 1 epochs",
        "trial 0 goes on:",
        "trial 0 waits: accuracy 0.2000 after 2 epochs",
    ]
    assert "0 complete, 1 pruned, 0 failed, 1 waiting" in search.view()


def test_progress_within_an_epoch_is_estimated_from_epochs_before_it() -> None:
    search = _Search()
    search.start(0, 1)
    search.clock.now = 5.0
    assert "%" not in search.view()  # no epoch is known
    search.epoch(0, 1, at=10.0)
    assert "1/9 +0%" in search.view()
    assert "0/9 +99%" in search.view()  # of trial 1, which has taken as long as trial 0
    search.clock.now = 14.0
    assert "1/9 +40%" in search.view()
    search.epoch(1, 1, at=20.0)
    assert "1/9 +0%" in search.view()
    search.clock.now = 30.0
    assert "1/9 +50%" in search.view()  # its own took 20 s


def test_epochs_of_a_trial_that_failed_are_spent_and_tell_nothing_of_others() -> None:
    asked: list[tuple[list[int], int]] = []

    def foresee(done: Collection[int], num_failed: int) -> int:
        asked.append((list(done), num_failed))
        return 18

    search = _Search(foresee=foresee)
    search.start(0, 1)
    search.epoch(0, 1, at=10.0)
    search.progress.ended(0, "FAIL", reason="it broke")
    search.epoch(1, 1, at=20.0)
    assert "1/8 ended, 0:02:50 left" in search.view()  # 1 + 18 epochs, 2 of which are done in 20 s
    assert asked[-1] == ([1], 1)


def test_an_epoch_told_of_again_is_none_of_this_process() -> None:
    search = _Search(foresee=lambda *_: 18)
    search.start(0, last_epoch=3)
    search.epoch(0, 3)
    assert "left" not in search.view()
    search.epoch(0, 4, at=10.0)
    assert "study: 0/8 ended, 0:02:20 left, 0:00:10 gone" in search.view()  # 14 epochs of 10 s


def test_the_time_left_counts_down_between_epochs() -> None:
    search = _Search(trials=64, foresee=SuccessiveHalving(30, 64).foresee)
    for number in range(2):
        search.progress.earlier(number, "PRUNED", 0.1, PARAMS, 3)
    search.start(2, epochs=30)
    search.epoch(2, 1, at=10.0)
    search.epoch(2, 2, at=20.0)
    assert "study: 2/64 ended, 0:57:20 left, 0:00:20 gone" in search.view()  # 352 epochs, 8 of which are done
    search.clock.now = 28.0
    assert "study: 2/64 ended, 0:57:12 left, 0:00:28 gone" in search.view()
    search.clock.now = 20.0 + 57 * 60 + 20
    assert "study: 2/64 ended, 0:57:40 gone" in search.view()  # what has run out is not shown


def test_a_time_budget_that_ends_before_is_told_instead() -> None:
    search = _Search(foresee=lambda *_: 10, allowed=lambda: 45.0)
    assert "0:00:45 left of the time budget" in search.view()
    search.start(0)
    search.epoch(0, 1, at=10.0)
    assert "0:00:45 left of the time budget" in search.view()  # instead of 0:01:30
    search.epoch(0, 7, at=11.0)
    assert "left of the time budget" not in search.view()


def _long(search: _Search) -> list[str]:
    return [line for line in search.told if "shorter" in line]


def test_a_long_search_says_so_once_after_the_first_epochs() -> None:
    search = _Search(trials=64, foresee=lambda *_: 400)
    search.progress.look(2)
    search.start(0, 1, epochs=30)
    search.epoch(0, 1, at=100.0)
    assert not _long(search)
    search.epoch(1, 1, at=100.0)
    search.epoch(0, 2, at=200.0)
    told = (
        "64 trials of up to 30 epochs will take about 5.5 hours; what makes that shorter: fewer trials, fewer epochs, "
    )
    assert _long(search) == [f"{told}a time budget, or more workers where there are idle CPUs"]  # 398 x 100 s / 2


def test_a_search_whose_first_epoch_is_long_says_so_after_two_minutes() -> None:
    search = _Search(trials=64, foresee=lambda *_: 400)
    search.progress.look(2)
    search.start(0, 1, epochs=30)
    search.clock.now = LATEST - 1
    search.progress.look(2)
    assert not _long(search)
    search.clock.now = LATEST
    search.progress.look(2)
    search.progress.look(2)
    assert [line.partition(";")[0] for line in _long(search)] == [
        "64 trials of up to 30 epochs will take at least 6.7 hours"  # 400 x 120 s / 2
    ]


@pytest.mark.parametrize(
    ("total", "allowed", "is_told"),
    [(1 + LONG / 10 - 1, None, False), (1 + LONG / 10, None, True), (1000, 1800.0, False), (1000, 1e6, True)],
)
def test_a_short_search_or_one_with_a_time_budget_needs_no_such_word(
    total: int, allowed: float | None, is_told: bool
) -> None:
    search = _Search(foresee=lambda *_: total, allowed=lambda: allowed)
    search.progress.look(1)
    search.start(0)
    search.epoch(0, 1, at=10.0)
    assert bool(_long(search)) == is_told


def test_steps_left_out_are_told_of() -> None:
    search = _Search()
    search.start(3)
    search.progress.epoch(3, dataclasses.replace(_metrics(1), skipped_steps=2))
    search.progress.epoch(3, _metrics(2))
    assert search.told[1:] == ["trial 3: 2 steps of epoch 1 were left out, as their gradient was nan or inf"]


def test_where_there_is_no_terminal_a_search_that_is_quiet_says_where_it_stands() -> None:
    search = _Search()
    search.progress.look(2)
    search.start(3, 4)
    search.clock.now = 29.0
    search.progress.look(2)
    assert len(search.told) == 2
    search.clock.now = 30.0
    search.progress.look(2)
    trials = "trial 3 has done 0 of 9 epochs; trial 4 has done 0 of 9 epochs"
    assert search.told[2:] == [f"0/8 ended, 2 of 2 workers at work; {trials}"]
    search.epoch(4, 1, val_accuracy=0.25, at=50.0)
    search.progress.look(2)
    assert len(search.told) == 3, "20 seconds after that line there is no other"
    search.clock.now = 60.0
    search.progress.look(2)
    standing = "0/8 ended, 2 of 2 workers at work, best so far 0.2500 at epoch 1 of trial 4 (running)"
    (last,) = search.told[3:]
    assert re.sub(r", [\d:]+ left", "", last) == f"{standing}; {trials.replace('4 has done 0', '4 has done 1')}"


def test_the_longer_a_search_takes_the_rarer_are_the_lines_on_where_it_stands() -> None:
    search = _Search(allowed=lambda: 1e6)
    search.start(*range(6))
    told = []
    for second in range(20_000):
        search.clock.now = float(second)
        before = len(search.told)
        search.progress.look(6)
        told += [second] * (len(search.told) - before)
    gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert gaps[0] == 30
    assert gaps[-1] == 300
    assert gaps == sorted(gaps)
    assert "trial 3 has done" in search.told[-1]
    assert "trial 4 has done" not in search.told[-1], "four trials are enough of a line"
