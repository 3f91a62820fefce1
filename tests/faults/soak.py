"""A long search of trials as short as they can be, while workers are killed: does its driver grow?

    python -m tests.faults.soak
    python -m tests.faults.soak --trials 100

Looks at the driver after every tenth trial: memory, open files, threads. Prints the trend of each and the means of
its first and last quarter, then JSON. What a driver needs for the trials themselves (each is kept in memory, a few
kilobytes) is part of the trend. The exit status is 1 if trials were lost or run twice.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.record.trials import read_rows
from tests.faults.outcome import outcome_of
from tests.faults.searches import NAME, Search, finish, kill_workers
from tests.trainer.conftest import write_dataset

EVERY = 10
"""Trials between two looks"""
LONGEST = 7200.0
"""Seconds that the search may take"""


@dataclass(frozen=True)
class Look:
    """A driver at one time."""

    trials: int
    """Done by then"""
    megabytes: float
    """Resident"""
    files: int
    threads: int


def look_at(process: int, trials: int) -> Look:
    """Raises OSError if the process is gone."""
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    resident = int(fields["VmRSS"].split()[0]) / 1024
    return Look(trials, resident, len(list(Path(f"/proc/{process}/fd").iterdir())), int(fields["Threads"]))


@dataclass(frozen=True)
class Trend:
    """How a number went over the trials."""

    first_quarter: float
    """Mean"""
    last_quarter: float
    per_100_trials: float
    """Slope of the line of least squares, its first eighth left out, in which everything is loaded"""


def trend_of(trials: list[int], values: list[float]) -> Trend:
    """Raises ValueError for fewer than eight looks."""
    if len(values) < 8:
        raise ValueError(f"{len(values)} looks are too few for a trend")
    quarter, eighth = len(values) // 4, len(values) // 8
    slope = np.polyfit(trials[eighth:], values[eighth:], 1)[0]
    return Trend(float(np.mean(values[:quarter])), float(np.mean(values[-quarter:])), float(100 * slope))


def soak(search: Search, study: Path, random_seed: int) -> tuple[int, int, list[Look]]:
    """Run a search and kill a worker now and then: its status, the number of kills, and the looks at its driver."""
    driver = search.start()
    looks: list[Look] = []
    killed = 0

    def kill_some() -> None:
        nonlocal killed
        killed = kill_workers(driver, study, random.Random(random_seed), most=search.trials // 20, pace=15)

    with ThreadPoolExecutor(2) as executor:
        ending = executor.submit(finish, driver, LONGEST)  # reads what it prints, too: a full pipe would stop it
        executor.submit(kill_some)
        while not ending.done():
            done = len(list(study.glob("trials/*/done.json")))
            if not looks or done >= looks[-1].trials + EVERY:
                try:
                    looks.append(look_at(driver.pid, done))
                except (OSError, KeyError):
                    break
            time.sleep(0.1)
        ended = ending.result()
    if ended.status != 0:
        print(ended.stderr[-1000:])
    return ended.status, killed, looks[1:]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="random seed of the faults' moments")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        packed = write_dataset(folder / "packed", repeats=1)
        search = Search(str(folder / "results"), packed, folder, options.trials, epochs=1, more=("--workers", "2"))
        status, killed, looks = soak(search, folder / "results" / NAME, options.seed)
        outcome = outcome_of(folder / "results" / NAME, options.trials, 1, [])
        for row in read_rows(folder / "results" / NAME):
            if row.state != "COMPLETE":
                print(f"trial {row.number}: {row.state} {row.reason}")
    trials = [look.trials for look in looks]
    trends = {
        field: vars(trend_of(trials, [float(getattr(look, field)) for look in looks]))
        for field in ("megabytes", "files", "threads")
    }
    for field, trend in trends.items():
        print(f"{field}: {trend['first_quarter']:.1f} -> {trend['last_quarter']:.1f}, "
              f"{trend['per_100_trials']:+.2f} per 100 trials")  # fmt: skip
    numbers = {"status": status, "workers_killed": killed, "looks": len(looks), **trends}
    print(json.dumps({**outcome.to_json(), **numbers, "wall_seconds": round(time.monotonic() - began, 1)}))
    sys.exit(0 if outcome.is_right and status == 0 else 1)


if __name__ == "__main__":
    main()
