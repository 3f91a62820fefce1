"""Record the learning curves that tests.bench.search replays: real trainings on generated data.

    python -m tests.bench.record_curves [--configurations 512] [--again] [--workers 2] [--out results/curves]

About 4 s of one core each. Those that results/reference/curves.parquet has are not trained again; at the end the table
is written with the new ones. With --again all are trained, and the table stays as it is. Interrupted, the same command
goes on where it was. The runs stay under --out, with their predictions of the held-out sequences, which
tests.bench.blends replays.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch

from tests.bench.curves import EPOCHS, NUM_SIGNS, TABLE, Curves, configurations, size, space
from trainer.common import cli
from trainer.common.console import track
from trainer.common.errors import TrainingDivergedError
from trainer.common.processes import follow_parent
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import MANIFEST
from trainer.data.packing import pack
from trainer.learning.loop import train
from trainer.rundir import RunDir
from trainer.studydir import StudyDir, Validation
from trainer.synthetic.generate import synthesize

DIVERGED = "diverged"  # marks the directory of such a run


def dataset(out: Path) -> PackedDataset:
    """The generated sequences, packed; made when first asked for."""
    source, packed = out / "data" / "asl-signs", out / "data" / "packed"
    if not (packed / MANIFEST).exists():
        synthesize(source, num_signs=NUM_SIGNS, num_participants=12, repeats=3)
        pack(source, packed)
    return PackedDataset.open(packed)


def record(path: Path, config: TrainConfig, data: Path) -> None:
    """Train one configuration, on one thread, unless that has been done."""
    torch.set_num_threads(1)
    if (path / DIVERGED).exists():
        return
    try:
        train(config, PackedDataset.open(data), RunDir(path))
    except TrainingDivergedError:
        (path / DIVERGED).touch()


def collect(known: np.ndarray, runs: list[Path]) -> Curves:
    """The known curves [N, EPOCHS], then those of finished runs: of ``configurations``, in their order."""
    params = configurations(len(known) + len(runs))
    accuracies = np.full((len(params), EPOCHS), np.nan)
    accuracies[: len(known)] = known
    for row, path in zip(accuracies[len(known) :], runs, strict=True):
        for metrics in RunDir(path).read_metrics():
            row[metrics.epoch - 1] = metrics.val_accuracy
    return Curves(params, accuracies, np.array([size(item) for item in params]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.record_curves")
    parser.add_argument("--configurations", type=int, default=512)
    parser.add_argument("--again", action="store_true", help="train all, for their predictions; keep the table")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, a thread each")
    parser.add_argument("--out", type=Path, default=Path("results/curves"))
    options = parser.parse_args()
    data = dataset(options.out)
    base = space().base
    held_out = Validation.of(data, base.num_folds, base.fold)
    StudyDir(options.out).write_validation(held_out, tuple(data.sign_names))
    known = Curves.read().accuracies if TABLE.exists() and not options.again else np.empty((0, EPOCHS))
    numbers = range(len(known), max(len(known), options.configurations))
    runs = [options.out / "runs" / f"{number:04d}" for number in numbers]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        params = configurations(numbers.stop)
        configs = [space().config(params[number]).replace(seed=number) for number in numbers]
        futures = [pool.submit(record, *item, data.path) for item in zip(runs, configs, strict=True)]
        try:
            for future in track(concurrent.futures.as_completed(futures), len(futures), "training"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    curves = collect(known, runs)
    if not (options.again and TABLE.exists()):
        curves.write()
    final = np.nan_to_num(curves.accuracies[:, -1])
    print(f"{options.out}: {len(final)} curves, final accuracies {final.min():.3f} to {final.max():.3f}")


if __name__ == "__main__":
    cli.run(main)
