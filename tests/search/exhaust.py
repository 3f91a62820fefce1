"""A search of six trials, of which one takes more memory than Ray leaves it, in a process of its own.

    python -m tests.search.exhaust STUDY PACKED

Ray's memory monitor is told to leave little beyond what this machine uses now, and ends that trial's worker. It also
ends that of another one, during which a process that is none of the search's fills the memory once.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ray._private import utils
from rich.console import Console

from search.execute import cluster
from search.execute.driver import run_trials
from search.execute.worker import run_trial
from search.options import RunOptions
from search.problem.space import Space
from search.show.progress import Progress
from tests.nodes import ROOT
from tests.search.conftest import TINY_SPACE
from tests.search.execute.test_driver import scripted_train
from tests.search.studies import open_study
from tests.trainer.conftest import NUM_SIGNS
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import EpochMetrics, Result, RunDir

GREEDY, UNLUCKY = 1, 0  # numbers of the trials
SPARE_BYTES = 3 * 2**30
BLOCK_BYTES = 2**28


def _train(
    config: TrainConfig, dataset: PackedDataset, run: RunDir, *, report: Callable[[EpochMetrics], None], **how: Any
) -> Result:
    def report_and_exhaust(metrics: EpochMetrics) -> None:
        report(metrics)
        if config.seed == GREEDY and metrics.epoch == 2:
            fill()
        if config.seed == UNLUCKY and metrics.epoch == 2:
            subprocess.Popen([sys.executable, "-m", "tests.search.exhaust"], cwd=ROOT, start_new_session=True)
            time.sleep(60)

    if config.seed == GREEDY and len(run.read_metrics()) == 2:
        fill()  # again, now that it goes on
    return scripted_train(config, dataset, run, report=report_and_exhaust, **how)


def fill(parent: int | None = None) -> None:
    """Take more memory than is left, for some seconds; as a process of its own, until its parent has ended."""
    blocks: list[np.ndarray] = []
    while len(blocks) * BLOCK_BYTES < 3 * SPARE_BYTES and parent in (None, os.getppid()):
        blocks.append(np.ones(BLOCK_BYTES, np.uint8))
        time.sleep(0.05)
    end = time.monotonic() + 10
    while time.monotonic() < end and parent in (None, os.getppid()):
        time.sleep(0.1)


def run_scripted_trial(order: dict[str, Any]) -> None:
    with mock.patch("search.execute.training.train", _train):
        run_trial(order)


def main() -> None:
    used, total = utils.get_used_memory(), utils.get_system_memory()  # type: ignore[attr-defined]
    os.environ |= {"RAY_memory_usage_threshold": str(round((used + SPARE_BYTES) / total, 4))}
    directory, resources = Path(sys.argv[1]), cluster.Resources(cpus=1)
    space = Space.parse(TINY_SPACE, TrainConfig(epochs=9).replace(num_signs=NUM_SIGNS))
    study = open_study(directory, space, trials=6, seed=0, pruner="successive-halving", recipe_points=False)
    console = Console(file=io.StringIO(), width=1000)
    progress = Progress(console, "study", 6)
    with cluster.connect(None, resources, workers=1), mock.patch("search.execute.driver.run_trial", run_scripted_trial):
        run_trials(study, PackedDataset.open(sys.argv[2]), RunOptions(workers=1), progress)
    study.close()
    assert isinstance(console.file, io.StringIO)
    print(console.file.getvalue())


if __name__ == "__main__":
    from tests.search import exhaust  # so that workers find what they run under this name

    exhaust.main() if len(sys.argv) > 1 else exhaust.fill(os.getppid())
