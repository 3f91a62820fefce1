"""A signal to every process of a search at once, as containers, systemd and batch systems send it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.execute import last_words
from search.record.trials import read_rows
from tests.nodes import processes, without_ray
from tests.search.conftest import TINY_SPACE
from trainer.rundir import RunDir

ROOT = Path(__file__).parents[3]
SECONDS = 30.0  # in which systemd, Docker and SLURM have lost patience, with their defaults 90, 10 and 30


@pytest.mark.parametrize("gone", [True, False])
def test_the_process_leaves_where_ray_has_gone_and_stays_where_it_has_not(gone: bool) -> None:
    program = f"""
import signal, time
from search.execute import last_words
last_words.GRACE_SECONDS = last_words.LOOK_SECONDS = 0.05
last_words.is_ray_gone = lambda: {gone}
signal.signal(signal.SIGTERM, lambda *_: None)
with last_words.leaving(lambda: print("go on", flush=True)):
    signal.raise_signal(signal.SIGTERM)
    time.sleep(20 if {gone} else 0.5)
print("ended by itself")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    expected = (143, "go on\n", "") if gone else (0, "ended by itself\n", "")
    assert (ended.returncode, ended.stdout, ended.stderr) == expected


def test_without_a_signal_nothing_is_said_and_the_wakeup_goes_back_to_whom_it_was() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer)
    try:
        with last_words.leaving(lambda: pytest.fail("nothing came")):
            assert not last_words.is_ray_gone()
        assert signal.set_wakeup_fd(before) == writer
    finally:
        os.close(reader)
        os.close(writer)


def _start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "search.run", "--name", "study", "--workers", "2", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=without_ray(), start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _family(ancestor: int) -> list[int]:
    """A process and all that descend from it, its own first."""
    parents, _ = processes()
    found = [ancestor]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


def _outcome(study: Path) -> list[tuple[int, str, float | None, bytes]]:
    rows = sorted(read_rows(study), key=lambda row: row.number)
    weights = [RunDir(study / "trials" / f"{row.number:04d}").path / "weights.safetensors" for row in rows]
    return [
        (row.number, row.state, row.val_accuracy, path.read_bytes()) for row, path in zip(rows, weights, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("order", [list, lambda found: [*found[1:], found[0]]], ids=["driver first", "driver last"])
def test_a_search_whose_processes_all_get_sigterm_says_how_to_go_on(
    order: Callable[[list[int]], list[int]], tmp_path: Path, packed: Path
) -> None:
    (tmp_path / "space.toml").write_text(TINY_SPACE)
    what = ("--data", str(packed), "--space", str(tmp_path / "space.toml"), "--epochs", "30", "--trials", "3")
    arguments = (*what, "--seed", "1", "--sampler", "random", "--pruner", "none", "--no-seed-points")
    calm = _start("--results", str(tmp_path / "calm"), *arguments)
    assert calm.communicate(timeout=200)[1] == ""
    driver = _start("--results", str(tmp_path / "hit"), *arguments)
    run = RunDir(tmp_path / "hit" / "study" / "trials" / "0000")
    while len(run.read_metrics()) < 3:
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.01)
    for process in order(_family(driver.pid)):
        os.kill(process, signal.SIGTERM)
    stdout, _ = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 143
    command = f"python -m search.run --resume --name study --results {tmp_path / 'hit'} --workers 2"
    assert re.search(rf"go on with:\n  {re.escape(command)}\n", stdout)
    resumed = _start("--resume", "--results", str(tmp_path / "hit"))
    assert resumed.communicate(timeout=200)[1] == ""
    assert resumed.returncode == 0
    assert _outcome(tmp_path / "hit" / "study") == _outcome(tmp_path / "calm" / "study")
