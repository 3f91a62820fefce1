"""What a cluster's study costs its driver: many trials by many workers that only report, and how it is read afterwards.

    python -m tests.bench.scale [--trials 10000] [--workers 256] [--storage sqlite] [--sampler random]
        [--pruner successive-halving]

The workers are simulated, in this process: a trial reports accuracies that its parameters decide, and leaves the files
that a real one leaves, its weights and predictions small. There is no Ray here: tests.bench.orchestration has it. What
is timed is the study alone, as search.execute.dispatch asks it: a decision is a trial handed out, an epoch taken in, or
a trial ended, with what the database is told of it. For each part of the trials: decisions a second, the driver's CPU
time for each (which other programs at work lengthen less), how much the driver grew, and the size of the database.
Then, each in a process of its own, with its own largest memory: opening the study again as --resume does, search.table,
search.report.
"""

import contextlib
import heapq
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np
import torch

from search.decide.samplers import SAMPLERS
from search.decide.stopping import STOPPING_RULES, Decision
from search.decide.study import Assignment, SearchStudy
from search.problem.space import DEFAULT_SPACE, Space
from search.record.consistency import check_database
from search.record.database_url import to_keep
from search.record.request import Request, find_database
from search.record.trials import to_rows
from tests.search.studies import request_of
from tests.servers import Postgres
from trainer.common import cli
from trainer.common.console import console
from trainer.config import TrainConfig
from trainer.model.classifier import num_parameters
from trainer.rundir import EpochMetrics, Result, RunDir
from trainer.studydir import REPORT, STUDY_DB, StudyDir

EPOCHS: Final = 27
PARTS: Final = 10
SEQUENCES, SIGNS = 16, 20  # of a trial's predictions


@dataclass
class Worker:
    """One that is at work on a trial."""

    assignment: Assignment
    rng: np.random.Generator
    last: EpochMetrics | None = None

    def epoch(self, run: RunDir) -> EpochMetrics:
        """The next one, also written down as a real worker does."""
        number = 1 + (self.assignment.last_epoch if self.last is None else self.last.epoch)
        value = float(np.clip(self._best() * (1 - 0.7 ** (number + 2)) + self.rng.normal(0, 0.01), 0, 1))
        self.last = EpochMetrics(
            epoch=number,
            train_loss=4 - 3 * value,
            val_accuracy=value,
            val_log_loss=4 - 3.5 * value,
            learning_rate=1e-4,
            seconds=12.5 + value,
            sequences_per_second=3000 - value,
        )
        run.append_metrics(self.last)
        return self.last

    def result(self, run: RunDir) -> Result:
        """What it leaves after its last epoch."""
        assert self.last is not None
        seconds = sum(item.seconds for item in run.read_metrics())
        result = Result(
            val_accuracy=self.last.val_accuracy,
            val_log_loss=self.last.val_log_loss,
            epochs=self.last.epoch,
            num_parameters=num_parameters(self.assignment.config.model),
            seconds=seconds,
            precision="float32",
            device="cpu",
            data_fingerprint="",
        )
        run.write_weights({"head.weight": torch.zeros(SIGNS, 8)})
        run.write_val_probs(np.full((SEQUENCES, SIGNS), 1 / SIGNS))
        run.write_result(result)
        return result

    def _best(self) -> float:
        config = self.assignment.config
        away = abs(np.log10(config.learning_rate) + 3.6) + abs(config.mixup_alpha - 0.5) + 0.1 / config.model.num_layers
        return float(np.exp(-away / 3))


@dataclass
class Driver:
    """Runs a study to its end, and takes the time that it spends in the study."""

    study: SearchStudy
    workers: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    decisions: int = 0
    begun: int = 0
    _events: list[tuple[float, int, Worker]] = field(default_factory=list)
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def run(self) -> Iterator[None]:
        """Yields after each event."""
        self._fill(0.0)
        while self._events:
            now, number, worker = heapq.heappop(self._events)
            self._step(now, number, worker)
            self._fill(now)
            yield

    def _fill(self, now: float) -> None:
        """Give every idle worker a trial."""
        while len(self._events) < self.workers:
            self._timed(self.study.give_up)
            assignment = self._timed(self.study.ask)
            if assignment is None:
                return
            self.decisions += 1
            if not assignment.last_epoch:
                self.begun += 1
                self.study.run_dir(assignment.number).write_config(assignment.config)
            rng = np.random.default_rng((assignment.number, assignment.last_epoch))
            self._schedule(now, assignment.number, Worker(assignment, rng))

    def _step(self, now: float, number: int, worker: Worker) -> None:
        run = self.study.run_dir(number)
        metrics = worker.epoch(run)
        decision = self._timed(self.study.report, number, metrics)
        self.decisions += 1
        if decision is Decision.STOP:
            self._timed(self.study.prune, number, metrics)
            self.decisions += 1
        elif decision is Decision.CONTINUE and metrics.epoch == EPOCHS:
            self._timed(self.study.complete, number, worker.result(run))
            self.decisions += 1
        elif decision is Decision.CONTINUE:
            self._schedule(now, number, worker)

    def _schedule(self, now: float, number: int, worker: Worker) -> None:
        heapq.heappush(self._events, (now + self._rng.uniform(0.5, 1.5), number, worker))

    def _timed(self, act: Callable[..., Any], *args: Any) -> Any:
        began, busy = perf_counter(), process_time()
        try:
            return act(*args)
        finally:
            self.seconds += perf_counter() - began
            self.cpu_seconds += process_time() - busy


def memory() -> float:
    """Resident megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def search(study: SearchStudy, workers: int, size: Callable[[], float]) -> list[dict[str, float]]:
    """Run the study to its end; what each part of its trials took. ``size`` is that of its database, in MB."""
    driver, start = Driver(study, workers), memory()
    parts: list[dict[str, float]] = []
    seconds, cpu_seconds, decisions = 0.0, 0.0, 0

    def look() -> None:
        nonlocal seconds, cpu_seconds, decisions
        spent, busy, made = driver.seconds - seconds, driver.cpu_seconds - cpu_seconds, driver.decisions - decisions
        seconds, cpu_seconds, decisions = driver.seconds, driver.cpu_seconds, driver.decisions
        part: dict[str, float] = {"begun": driver.begun, "decisions": made, "per_second": round(made / spent)}
        part["cpu_ms"] = round(1000 * busy / made, 2)
        parts.append({**part, "memory_mb": round(memory() - start, 1), "database_mb": round(size(), 1)})
        rates = f"{made / spent:5,.0f} a second, {part['cpu_ms']:5.2f} ms of CPU each"
        sizes = f"memory +{parts[-1]['memory_mb']:5.1f} MB, database {parts[-1]['database_mb']:5.1f} MB"
        console.print(f"{driver.begun:6,} begun, {made:6,} decisions: {rates}; {sizes}", soft_wrap=True)

    step = study.request.trials / PARTS
    for _ in driver.run():
        if len(parts) < PARTS and driver.begun >= step * (len(parts) + 1):
            look()
    look()  # what was left to do when all had begun
    assert study.is_finished
    return parts


def open_again(folder: Path, url: str | None) -> dict[str, float]:
    """Open a study as --resume does, but for its dataset; seconds, CPU seconds, and MB that this process grew to."""
    began, busy, study = perf_counter(), process_time(), StudyDir(folder)
    request = Request.read(study)
    assert check_database(study, request, url) == []
    database, _ = find_database(study, url)
    opened = SearchStudy(study, request, database)
    to_rows(opened.trials())
    assert opened.is_finished
    seconds, cpu_seconds = perf_counter() - began, process_time() - busy
    opened.close()
    return _of("resume", seconds, cpu_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def command(name: str, *arguments: str) -> dict[str, float]:
    """Run a command as a user does; the same of it, its imports included."""
    began = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", f"search.{name}", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"search.{name} failed"
    return _of(name, perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)


def _of(name: str, seconds: float, cpu_seconds: float, kilobytes: int) -> dict[str, float]:
    found = {"s": seconds, "cpu_s": cpu_seconds, "mb": kilobytes / 1e3}
    return {f"{name}_{unit}": round(value, 1) for unit, value in found.items()}


def main() -> None:
    parser = cli.Parser("tests.bench.scale", description="What a cluster's study costs its driver.")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--storage", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--sampler", choices=tuple(SAMPLERS), default="random")
    parser.add_argument("--pruner", choices=tuple(STOPPING_RULES), default="successive-halving")
    parser.add_argument("--folder", type=Path, help="of the study, which then stays (default: a temporary one)")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = options.folder or scratch / "study"
        folder.mkdir(parents=True)
        server = Postgres(scratch / "postgres") if options.storage == "postgres" else None
        if server is not None:
            stack.callback(server.stop)
        url = None if server is None else server.url()

        def size() -> float:
            if server is None:
                return sum(path.stat().st_size for path in folder.glob(f"{STUDY_DB}*")) / 1e6
            return float(server.psql("select pg_database_size('studies');").split()[2]) / 1e6

        space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=EPOCHS))
        storage = None if url is None else to_keep(url)
        asked = {"trials": options.trials, "sampler": options.sampler, "pruner": options.pruner}
        request = request_of(space, **asked, name="scale", storage=storage)
        request.write(StudyDir(folder))
        study = SearchStudy(StudyDir(folder), request, url)
        parts = search(study, options.workers, size)
        study.close()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(open_again, folder, url).result()
        given = [str(folder)] if url is None else [str(folder), "--storage", url]
        found |= command("table", *given) | command("report", *given)
        found["report_file_mb"] = round((folder / REPORT).stat().st_size / 1e6, 2)
    console.print(", ".join(f"{name} {value}" for name, value in found.items()), soft_wrap=True)
    asked = {name: getattr(options, name) for name in ("trials", "workers", "storage", "sampler", "pruner")}
    print(json.dumps({"bench": "scale", **asked, "parts": parts, **found}))


if __name__ == "__main__":
    main()
