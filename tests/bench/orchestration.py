"""What handing out a trial costs: ours against plain Ray Tune with its OptunaSearch, how it grows, and on many workers.

    python -m tests.bench.orchestration [--parts ratio,growth,cluster] [--trials 40,160,1000] [--rounds 3]

A no-op trial ends at once: it reports one value and writes nothing. Seconds a trial are the whole of tune.run over its
trials, the start of its workers included. Both sides run on one Ray, in turns, with a worker a core and reused actors,
over the default space; medians of the rounds, of which 1,000 trials have one. Ray Tune's OptunaSearch has its own
default sampler, which is TPE; its loggers and the snapshots of its state, which it would write by default, are off, as
they are for ours. Ours samples with its own default, a Gaussian process, and keeps every trial in
study.db before it starts and when it ends.

Growth compares ours at 2,000 and at 200 trials; as the start of the workers weighs more on 200, it is also given
between the first trial's end and the last one's, and there with CMA-ES, TPE and random sampling too.

Cluster efficiency is the share of their time that 64 workers on 4 local nodes of 16 CPUs sleep, in trials that sleep
20 seconds, while all are at work: from the begin of the last worker's first trial to the end of the first worker's
last. Before that, 64 Python processes start on however few cores there are: the share over the whole search is given
beside it.
"""

import contextlib
import io
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
import optuna
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from search.decide.samplers import default_sampler
from search.execute import cluster
from search.execute.driver import run_trials
from search.options import RunOptions
from search.problem.objective import Objective
from search.problem.space import DEFAULT_SPACE, Space
from search.show.progress import Progress
from tests.bench.noop import SLEEP_SECONDS, SLEPT, our_sleeping_trial, our_trial, their_trial
from tests.nodes import nodes
from tests.search.studies import open_study
from trainer.common import cli
from trainer.common.console import console
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset

RATIO_TRIALS = (40, 160, 1000)
GROWTH_TRIALS = (200, 2000)
NODES, CPUS_PER_NODE, TRIALS_PER_WORKER = 4, 16, 4


@dataclass(frozen=True)
class Taken:
    """How long a search took, in seconds a trial."""

    whole: float
    between_ends: float
    """From the first trial's end to the last one's"""


def dataset() -> PackedDataset:
    """None that is read: no-op trials have no use for one."""
    empty = np.zeros(0, np.int64)
    frames = np.zeros((0, 85, 2), np.float32)
    return PackedDataset(Path("/nowhere"), frames, empty, empty, empty, empty, empty, (), "")


def ours(folder: Path, num_trials: int, workers: int, trial: Callable[..., None], sampler: str | None = None) -> Taken:
    """A search of ours, in a new folder."""
    folder.mkdir()
    with mock.patch("search.execute.driver.run_trial", trial):
        space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=1))
        study = open_study(folder, space, trials=num_trials, sampler=sampler or default_sampler(space, Objective()))
        progress = Progress(Console(file=io.StringIO()), "study", num_trials)
        began = perf_counter()
        assert run_trials(study, dataset(), RunOptions(workers=workers), progress)
        seconds = perf_counter() - began
        trials = study.trials()
        study.close()
    assert [item.state.name for item in trials] == ["COMPLETE"] * num_trials
    return Taken(seconds / num_trials, _between_ends([item.datetime_complete for item in trials]))


def theirs(folder: Path, num_trials: int, workers: int) -> Taken:
    """A search by Ray Tune and its OptunaSearch, in a new folder."""
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=1))
    searcher = OptunaSearch(dict(space.distributions), metric="val_accuracy", mode="max", seed=0)
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        began = perf_counter()
        tune.run(
            their_trial,
            search_alg=searcher,
            num_samples=num_trials,
            resources_per_trial={"cpu": 1},
            reuse_actors=True,
            max_concurrent_trials=workers,
            storage_path=str(folder),
            verbose=0,
        )
        seconds = perf_counter() - began
    assert searcher._ot_study is not None
    trials = searcher._ot_study.trials
    assert [item.state.name for item in trials] == ["COMPLETE"] * num_trials
    return Taken(seconds / num_trials, _between_ends([item.datetime_complete for item in trials]))


def _between_ends(ends: list[datetime | None]) -> float:
    known = sorted(end for end in ends if end is not None)
    return (known[-1] - known[0]).total_seconds() / (len(known) - 1)


def measure_ratio(folder: Path, counts: list[int], rounds: int, workers: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for count in counts:
        sides: dict[str, list[float]] = {"ours": [], "theirs": []}
        for turn in range(rounds if count < 1000 else 1):
            sides["theirs"].append(theirs(folder / f"theirs-{count}-{turn}", count, workers).whole)
            sides["ours"].append(ours(folder / f"ours-{count}-{turn}", count, workers, our_trial).whole)
        mine, other = median(sides["ours"]), median(sides["theirs"])
        rows = " ".join(f"{name} {' '.join(f'{value:.4f}' for value in values)}" for name, values in sides.items())
        console.print(f"{count} trials, s a trial: {rows}", soft_wrap=True)
        found |= {f"ours_{count}": round(mine, 4), f"ray_optuna_{count}": round(other, 4)}
        found[f"ratio_{count}"] = round(mine / other, 3)
    return found


def measure_growth(folder: Path, workers: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for sampler in ("gp", "cmaes", "tpe", "random"):
        few, many = (ours(folder / f"{sampler}-{count}", count, workers, our_trial, sampler) for count in GROWTH_TRIALS)
        for name, side in (("200", few), ("2,000", many)):
            console.print(
                f"{sampler}, {name} trials: {side.whole:.4f} s a trial, between ends {side.between_ends:.4f} s",
                soft_wrap=True,
            )
        if sampler == "gp":  # the default
            found["growth_2000_over_200"] = round(many.whole / few.whole, 3)
        found[f"growth_between_ends_{sampler}"] = round(many.between_ends / few.between_ends, 3)
    return found


def measure_cluster(folder: Path) -> dict[str, Any]:
    workers = NODES * CPUS_PER_NODE
    study = folder / "cluster"
    with (
        nodes(NODES, CPUS_PER_NODE, RAY_AUTH_MODE="disabled") as started,
        cluster.connect(started.address, cluster.Resources(cpus=1)),
    ):
        taken = ours(study, TRIALS_PER_WORKER * workers, workers, our_sleeping_trial)
    trials = np.array([path.read_text().split() for path in study.glob(f"trials/*/{SLEPT}")], np.float64)
    processes, begins, ends = trials.T
    assert len(set(processes)) == workers
    all_at_work = max(begins[processes == process].min() for process in set(processes))
    first_to_end = min(ends[processes == process].max() for process in set(processes))
    slept = np.clip(np.minimum(ends, first_to_end) - np.maximum(begins, all_at_work), 0, None).sum()
    efficiency = float(slept / (first_to_end - all_at_work) / workers)
    whole = SLEEP_SECONDS / workers / taken.whole
    console.print(
        f"{len(trials)} trials by {workers} workers: asleep {efficiency:.1%} of the {first_to_end - all_at_work:.0f} s "
        f"in which all worked, {whole:.1%} of {taken.whole * len(trials):.0f} s in all",
        soft_wrap=True,
    )
    return {"cluster_efficiency": round(efficiency, 3), "cluster_efficiency_with_start": round(whole, 3)}


def main() -> None:
    parser = cli.Parser("tests.bench.orchestration", description="What handing out a trial costs.")
    parser.add_argument("--parts", default="ratio,growth,cluster", help="of the benchmark, such as ratio,growth")
    parser.add_argument("--trials", default=",".join(map(str, RATIO_TRIALS)), help="numbers of trials of the ratio")
    parser.add_argument("--rounds", type=int, default=3, help="of the ratio, below 1,000 trials (default: 3)")
    options = parser.parse_args()
    parts, workers = options.parts.split(","), os.cpu_count() or 1
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, Any] = {"bench": "orchestration", "workers": workers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "cluster" in parts:
            # first, and in a process of its own: what a Ray leaves behind has the next one cancel its actors' creation
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found |= pool.submit(measure_cluster, folder).result()
        if "ratio" in parts or "growth" in parts:
            with cluster.connect(None, cluster.Resources(cpus=1), workers):
                ours(folder / "warm", 4, workers, our_trial)  # so that both find request and caches as the other does
                theirs(folder / "warm-theirs", 4, workers)
                if "ratio" in parts:
                    counts = [int(count) for count in options.trials.split(",")]
                    found |= measure_ratio(folder, counts, options.rounds, workers)
                if "growth" in parts:
                    found |= measure_growth(folder, workers)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
