"""Signals that end a process: what commands do at them, and what stays as it was."""

import os
import pty
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from trainer.common.signals import STOPPING, Stopped, exit_status, handled, stop

COMMAND = """
import pathlib, sys, time
from trainer.common import cli
def main():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        pathlib.Path(sys.argv[1]).write_text("cleaned up")
cli.run(main)
"""


def heed_signals() -> None:
    """In a process that begins, where these tests were started to ignore signals, as by nohup."""
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_DFL)


@pytest.mark.parametrize("signum", STOPPING)
def test_a_command_cleans_up_and_exits_as_shells_count(signum: int, tmp_path: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path / "left")],
        preexec_fn=heed_signals,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + signum, f"ended by {signal.Signals(signum).name}\n")
    assert (tmp_path / "left").read_text() == "cleaned up"


def test_a_command_whose_terminal_is_gone_ends_in_order(tmp_path: Any) -> None:
    ours, its = pty.openpty()
    command = COMMAND.replace("finally:", "finally:\n        print('a line more', flush=True)")
    process = subprocess.Popen(
        [sys.executable, "-c", command, str(tmp_path / "left")],
        stdin=its,
        stdout=its,
        stderr=its,
        preexec_fn=heed_signals,
        start_new_session=True,  # or the kernel sends a second one, where these tests' own terminal is that
    )
    os.close(its)
    assert os.read(ours, 5) == b"begun"
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # the kernel sends it to those whose controlling terminal it was
    assert process.wait(timeout=30) == exit_status(signal.SIGHUP)
    assert (tmp_path / "left").read_text() == "cleaned up"


def test_what_was_ignored_stays_ignored_and_what_was_done_is_done_again() -> None:
    seen: list[int] = []
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGHUP, signal.SIGINT)}
    try:
        with handled(lambda signum, _: seen.append(signum), signal.SIGINT, *STOPPING):
            for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(signum)
        assert seen == [signal.SIGTERM, signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_ctrl_c_is_told_from_other_signals() -> None:
    with pytest.raises(Stopped) as stopped:
        stop(signal.SIGTERM)
    assert stopped.value.signum == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt) as interrupted:
        stop(signal.SIGINT)
    assert not isinstance(interrupted.value, Stopped)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with handled(stop, signal.SIGTERM):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
