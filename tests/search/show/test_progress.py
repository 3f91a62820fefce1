"""The live view on terminals of any width, and the lines where there is none."""

import dataclasses
import io
import itertools
from unittest import mock

import pytest
from rich.console import Console

from search.decide.halving import SuccessiveHalving
from search.decide.stopping import NeverStop
from search.show.progress import Progress
from tests.outcomes import metrics_of
from trainer.rundir import EpochMetrics

PARAMS = {"num_heads": 3, "learning_rate": 1.2e-4, "landmarks": "[bold]hands"}


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
    assert "more" in lines[-1] or "…" in lines[-1]


def test_before_anything_happened_there_is_something_to_see() -> None:
    out = io.StringIO()
    Console(file=out, width=80, force_terminal=True, color_system=None).print(Progress(Console(), "s", 3))
    assert "s: 0/3 ended, 0:00:00 gone" in out.getvalue()


def test_trials_that_wait_are_counted_and_told_of() -> None:
    lines = io.StringIO()
    progress = Progress(Console(file=lines, width=200), "study", 8)
    progress.waited(7, 1)
    progress.started(0, {}, 9, 0)
    progress.epoch(0, _metrics(1))
    progress.waits(0)
    progress.waited_in_vain(7, 0.125, 1)
    progress.started(0, {}, 9, 1)
    progress.epoch(0, _metrics(2))
    progress.waits(0)
    told = lines.getvalue().splitlines()
    assert [line.split(" (")[0].rstrip() for line in told] == [
        "trial 0 starts:",
        "trial 0 waits: accuracy 0.1000 after 1 epochs",
        "trial 7 PRUNED: accuracy 0.1250 after 1 epochs",
        "trial 0 goes on:",
        "trial 0 waits: accuracy 0.2000 after 2 epochs",
    ]
    view = io.StringIO()
    Console(file=view, width=100).print(progress)
    assert "0 complete, 1 pruned, 0 failed, 1 waiting" in view.getvalue()


@pytest.mark.parametrize(
    ("pruner", "left"),
    [
        (SuccessiveHalving(30, 64), "0:47:00"),  # 290 epochs, 8 of which are done, 2 of them in 20 s
        (None, "5:09:40"),  # 64 trials, 2 of which have ended; a 15th of another one in 20 s
    ],
)
def test_the_time_left_is_told_by_epochs_where_the_pruner_foresees_them(
    pruner: SuccessiveHalving | None, left: str
) -> None:
    view = io.StringIO()
    with mock.patch("search.show.progress.monotonic", side_effect=itertools.chain([100.0], itertools.repeat(120.0))):
        progress = Progress(Console(), "study", 64, (pruner or NeverStop()).foresee)
        for number in range(2):
            progress.earlier(number, "PRUNED", 0.1, {}, 3)
        progress.started(2, {}, 30, 0)
        progress.epoch(2, _metrics(1))
        progress.epoch(2, _metrics(2))
        Console(file=view, width=100).print(progress)
    assert f"study: 2/64 ended, {left} left, 0:00:20 gone" in view.getvalue()


def test_the_time_left_counts_the_seconds_of_trials_that_go_on() -> None:
    view = io.StringIO()
    with mock.patch("search.show.progress.monotonic", side_effect=itertools.chain([100.0], itertools.repeat(130.0))):
        progress = Progress(Console(), "study", 3, lambda *_: 14)
        for number, seconds in ((0, 2.0), (1, 2.0), (2, 10.0)):
            progress.started(number, {}, 10, 0)
            progress.epoch(number, dataclasses.replace(_metrics(1), seconds=seconds))
            progress.waits(number)
        progress.started(2, {}, 10, 1)
        progress.epoch(2, dataclasses.replace(_metrics(2), seconds=16.0))
        Console(file=view, width=100).print(progress)
    # 30 s of training took 30 s; of 10 epochs left, the 8 of trial 2 take 16 s each, the others 30 / 4 s
    assert "study: 0/3 ended, 0:02:23 left" in view.getvalue()


def test_steps_left_out_are_told_of() -> None:
    out = io.StringIO()
    progress = Progress(Console(file=out, width=200, highlight=False), "study", 8)
    progress.started(3, PARAMS, 30, 0)
    progress.epoch(3, dataclasses.replace(_metrics(1), skipped_steps=2))
    progress.epoch(3, _metrics(2))
    assert out.getvalue().splitlines()[1:] == [
        "trial 3: 2 steps of epoch 1 were left out, as their gradient was nan or inf"
    ]
