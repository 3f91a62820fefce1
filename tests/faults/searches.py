"""Searches in processes of their own, as users run them, and what they left."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.nodes import ROOT, without_ray, workers_below
from tests.search.conftest import TINY_SPACE
from trainer.rundir import VAL_PROBS, WEIGHTS
from trainer.studydir import StudyDir

NAME: Final = "study"
EPOCHS: Final = 6
PATIENCE: Final = 300.0
"""Seconds that a search may take; more is a hang"""


@dataclass(frozen=True)
class Ended:
    """How a search ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def is_clean(self) -> bool:
        """Whether it ended well, or said in one line what is wrong."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        return (self.status == 0 and not lines) or (self.status == 2 and len(lines) == 1)


@dataclass
class Search:
    """One search: its options, and what ran of it so far."""

    results: str
    """Folder or URI of all studies"""
    packed: Path
    scratch: Path
    """A local folder for its space file"""
    trials: int
    epochs: int = EPOCHS
    more: Sequence[str] = ()
    """Options of every run"""
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *, resume: bool) -> list[str]:
        """The words of the command line."""
        words = [sys.executable, "-m", "search.run", "--results", self.results, "--name", NAME, *self.more]
        if resume:
            return [*words, "--resume"]
        self.scratch.mkdir(parents=True, exist_ok=True)
        space = self.scratch / "space.toml"
        space.write_text(TINY_SPACE)
        words += ["--trials", str(self.trials), "--epochs", str(self.epochs), "--space", str(space), "--seed", "1"]
        return [*words, "--data", str(self.packed), "--sampler", "random", "--pruner", "none", "--no-seed-points"]

    def start(self, *, resume: bool = False) -> "subprocess.Popen[str]":
        """Start a driver."""
        return subprocess.Popen(
            self.command(resume=resume),
            cwd=ROOT,
            env=without_ray() | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *, resume: bool = False) -> Ended:
        """Run it to its end."""
        return finish(self.start(resume=resume))


def finish(driver: "subprocess.Popen[str]", patience: float = PATIENCE) -> Ended:
    """Wait for a driver. One that hangs is killed, and its status is that of the kill."""
    try:
        stdout, stderr = driver.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        driver.kill()
        stdout, stderr = driver.communicate()
    return Ended(driver.returncode, stdout, stderr)


def kill(process: int, how: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal; False if the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, how)
        return True
    return False


def wait_for_trials(study: Path, count: int, driver: "subprocess.Popen[str]", patience: float = PATIENCE) -> bool:
    """Wait until so many trials are done; False if the driver ends before."""
    deadline = time.monotonic() + patience
    while len(list(study.glob("trials/*/done.json"))) < count:
        if driver.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def epochs_done(study: Path) -> int:
    """Of all trials together."""
    return sum(path.read_bytes().count(b"\n") for path in study.glob("trials/*/metrics.jsonl"))


def kill_workers(driver: "subprocess.Popen[str]", study: Path, rng: random.Random, most: int, pace: int = 4) -> int:
    """SIGKILL a random worker whenever some epochs were done, until the driver ends; how many were killed.

    There are epochs in between, because a trial whose worker dies three times without one is failed on purpose.
    """
    killed, done = 0, epochs_done(study)
    while driver.poll() is None and killed < most:
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            if epochs_done(study) >= done + pace and (found := workers_below(driver.pid)):
                time.sleep(rng.uniform(0, 0.2))
                killed += kill(rng.choice(found))
                done = epochs_done(study) + rng.randrange(pace)
    return killed


Files = dict[int, tuple[int, bytes, bytes]]


def finished(study: Path) -> Files:
    """When each finished trial was declared so, with its weights and probabilities, by number."""
    return {
        int(run.path.name): (
            (run.path / "done.json").stat().st_mtime_ns,
            (run.path / WEIGHTS).read_bytes(),
            (run.path / VAL_PROBS).read_bytes(),
        )
        for run in StudyDir(study).trials()
        if run.is_done
    }
