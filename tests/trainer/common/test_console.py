"""Progress and tables, on a terminal and into a pipe."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from trainer.common.console import for_tables, track


@pytest.mark.parametrize("terminal", [False, True])
def test_track_yields_everything_and_says_how_far_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=80, highlight=False)
    monkeypatch.setattr("trainer.common.console.console", console)
    assert list(track(iter(range(30)), 30, "counting")) == list(range(30))
    assert "counting" in shown.getvalue()
    assert "30/30" in shown.getvalue()
    assert ("\x1b[" in shown.getvalue()) == terminal


def test_track_prints_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("trainer.common.console.console", Console(file=shown, width=80))
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr("trainer.common.console.monotonic", lambda: next(clock))
    list(track(range(7), 7, "counting"))
    lines = shown.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["counting: 3/7", "counting: 6/7", "counting: 7/7"]
    assert lines[0] == "counting: 3/7, 0.2/s, 16 s left"


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
