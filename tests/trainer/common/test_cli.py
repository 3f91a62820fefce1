"""What every command shares: how it ends, and the progress it shows."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from trainer.common import cli


def end_of(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """Exit status and standard error of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    return ended.value.code, capsys.readouterr().err


def test_success_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(lambda: None, capsys) == (0, "")


def test_a_user_error_exits_2_with_its_message_alone(capsys: pytest.CaptureFixture[str]) -> None:
    message = "data/train.csv: no column 'sign'; [bold]not markup[/bold], and [/path] too " + "long " * 40

    def main() -> None:
        raise cli.UserError(message)

    code, error = end_of(main, capsys)
    assert code == 2
    assert error == f"error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--much"], "unrecognized arguments: --much"),
        (["--number", "x"], "--number: invalid int value: 'x'"),
        (["--number"], "--number: expected one argument"),
        (["--choice", "c"], "--choice: invalid choice: 'c' (choose from 'a', 'b')"),
    ],
)
def test_what_cannot_be_parsed_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = cli.Parser(prog="python -m some.command")
    parser.add_argument("--number", type=int)
    parser.add_argument("--choice", choices=["a", "b"])
    code, error = end_of(lambda: (parser.parse_args(arguments), None)[1], capsys)
    assert code == 2
    assert error == f"error: {words} (python -m some.command --help lists the options)\n"


def test_values_may_begin_with_a_minus() -> None:
    parser = cli.Parser()
    parser.add_argument("--budget", nargs="?")
    parser.add_argument("--seed", type=int)
    given = parser.parse_args(["--budget", "-5MB", "--seed", "-1"])
    assert (given.budget, given.seed) == ("-5MB", -1)
    assert parser.parse_args(["--budget", "--seed", "1"]).budget is None


def test_an_interrupt_exits_130_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert end_of(main, capsys) == (130, "interrupted\n")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


@pytest.mark.parametrize("terminal", [False, True])
def test_track_yields_everything_and_says_how_far_it_is(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=80, highlight=False)
    monkeypatch.setattr(cli, "console", console)
    assert list(cli.track(iter(range(30)), 30, "counting")) == list(range(30))
    assert "counting" in shown.getvalue()
    assert "30/30" in shown.getvalue()
    assert ("\x1b[" in shown.getvalue()) == terminal


def test_track_prints_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(cli, "console", Console(file=shown, width=80))
    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(cli, "monotonic", lambda: next(clock))
    list(cli.track(range(7), 7, "counting"))
    lines = shown.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["counting: 3/7", "counting: 6/7", "counting: 7/7"]
    assert lines[0] == "counting: 3/7, 0.2/s, 16 s left"


def test_what_the_system_says_of_a_file_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: (tmp_path / "[no] such" / "file").write_text(""))
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/[no] such/file: No such file or directory\n"


POOL = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from trainer.common import cli
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), cli.follow_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_a_worker_ends_with_its_killed_parent(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    worker = Path(f"/proc/{int(parent.stdout.readline())}")
    assert worker.exists()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    give_up = time.monotonic() + 30
    while worker.exists() and "State:\tZ" not in (worker / "status").read_text() and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not worker.exists() or "State:\tZ" in (worker / "status").read_text()


def test_tables_are_never_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"a column called number {index}" for index in range(12)]
    table = Table(*words)
    table.add_row(*words)
    cli.for_tables().print(table)
    counts = {line.count("number") for line in capsys.readouterr().out.splitlines()}
    assert len(words) in counts <= {0, len(words)}
