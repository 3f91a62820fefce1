"""Progress and tables, on a terminal and into a pipe."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from trainer.common.console import Pace, console, for_tables, on_stderr, prose, track


@pytest.mark.parametrize("terminal", [False, True])
def test_track_yields_everything_and_says_how_far_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    there = Console(file=shown, force_terminal=terminal, width=80, highlight=False)
    monkeypatch.setattr("trainer.common.console.console", there)
    assert list(track(iter(range(30)), 30, "counting")) == list(range(30))
    assert "counting" in shown.getvalue()
    assert "30/30" in shown.getvalue()
    assert ("\x1b[" in shown.getvalue()) == terminal


class Clock:
    """Stands still but where items come, each at its time."""

    now = 0.0

    def items(self, times: Iterable[float]) -> Iterator[float]:
        for self.now in times:
            yield self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trainer.common.console.monotonic", lambda: clock.now)
    return clock


def test_track_prints_a_line_now_and_then_where_there_is_no_terminal(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("trainer.common.console.console", Console(file=shown, width=80))
    times = [15 + item / 2 for item in range(60)]  # the first waits until processes have started
    list(track(clock.items(times), 60, "counting"))
    assert shown.getvalue().splitlines() == [
        "counting: 1/60",
        "counting: 21/60, 2.0/s, 0:00:20 left",
        "counting: 41/60, 2.0/s, 0:00:10 left",
        "counting: 60/60, 1.3/s",
    ]


@pytest.mark.parametrize(
    ("times", "total", "said"),
    [
        ([], 9, ""),
        ([15], 9, ""),
        ([15, 16, 17], 9, ""),
        ([15, 16, 18], 8, "0.67/s, 0:00:08 left"),
        ([60, 120], 4, "0.017/s, 0:02:00 left"),
        ([1, 2], 2, "1.0/s"),
    ],
)
def test_a_time_left_is_told_once_there_is_a_rate(times: list[float], total: int, said: str, clock: Clock) -> None:
    pace = Pace(total)
    for clock.now in times:
        pace.step()
    assert str(pace) == said


def test_a_time_left_gets_shorter_between_items_and_is_never_negative(clock: Clock) -> None:
    pace = Pace(3)
    for clock.now in (10, 20):
        pace.step()
    clock.now = 24
    assert pace.left == timedelta(seconds=6)
    clock.now = 99
    assert pace.left == timedelta(0)


def test_a_bar_on_a_terminal_tells_no_time_left_of_the_first_item(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("trainer.common.console.console", Console(file=shown, force_terminal=True, width=80))
    tracked = track(clock.items([15, 16, 20, 21]), 5, "counting")
    for _ in range(2):
        next(tracked)
    time.sleep(0.3)  # it is drawn ten times a second
    assert "left" not in shown.getvalue()
    next(tracked), next(tracked)
    time.sleep(0.3)
    assert "0.4/s, 0:00:04 left" in shown.getvalue()
    tracked.close()


@pytest.mark.parametrize(("terminal", "lines"), [(True, ["a b [c]", "defghi j"]), (False, ["a b [c] defghi j"])])
def test_a_sentence_is_broken_between_words(terminal: bool, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    there = Console(file=shown, force_terminal=terminal, color_system=None, width=10, highlight=False)
    monkeypatch.setattr("trainer.common.console.console", there)
    prose("a b [c] defghi j")
    assert [line.rstrip() for line in shown.getvalue().splitlines()] == lines


def test_what_is_printed_can_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with on_stderr():
        console.print("progress")
        for_tables().print("a table")
    console.print("a result")
    printed = capsys.readouterr()
    assert printed.err == "progress\na table\n"
    assert printed.out == "a result\n"


def test_tables_are_never_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"a column called number {index}" for index in range(12)]
    table = Table(*words)
    table.add_row(*words)
    for_tables().print(table)
    counts = {line.count("number") for line in capsys.readouterr().out.splitlines()}
    assert len(words) in counts <= {0, len(words)}


WORK = """
import pathlib, sys
from trainer.common import cli
from trainer.common.console import console, for_tables
def main():
    for number in range(20000):
        console.print(f"line {number}")
    for_tables().print("a table")
    pathlib.Path(sys.argv[1]).write_text("done")
cli.run(main)
"""


def test_work_goes_on_where_the_reader_of_a_pipe_leaves(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", WORK, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"line 0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
    assert (tmp_path / "out").read_text() == "done"
