"""Worker processes that do not outlive their parent, and native code that is kept quiet."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer.common.processes import silent_stderr

POOL = """
import multiprocessing, os, sys, time
from trainer.common import cli
from trainer.common.processes import pool
def main():
    with pool(1, multiprocessing.get_context("spawn")) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        executor.submit(time.sleep, 600).result()
if __name__ == "__main__":
    cli.run(main)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_with_its_killed_parent(signum: int, tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    worker = Path(f"/proc/{int(parent.stdout.readline())}")
    assert worker.exists()
    parent.send_signal(signum)
    parent.wait(timeout=30)
    give_up = time.monotonic() + 30
    while worker.exists() and "State:\tZ" not in (worker / "status").read_text() and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not worker.exists() or "State:\tZ" in (worker / "status").read_text()


def test_what_native_code_writes_to_stderr_is_thrown_away_only_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with silent_stderr():
        os.write(2, b"meanwhile ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_threads_that_silence_stderr_at_once_bring_it_back(capfd: pytest.CaptureFixture[str]) -> None:
    inside, left = threading.Event(), threading.Event()

    def last() -> None:
        with silent_stderr():
            inside.set()
            left.wait(10)
            os.write(2, b"meanwhile ")

    thread = threading.Thread(target=last)
    with silent_stderr():
        thread.start()
        inside.wait(10)
    left.set()
    thread.join()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
