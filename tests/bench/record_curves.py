"""Record the learning curves that tests.bench.search replays: real trainings on generated data.

    python -m tests.bench.record_curves [--table wide] [--configurations 512] [--again] [--workers 2] [--out FOLDER]

--table is "recorded" (results/reference/curves.parquet, the default) or "wide" (results/reference/curves_wide.parquet,
of a wide space on harder data). About 4 s of one core each. Those that the table has are not trained again; at the end
the table is written with the new ones. With --again all are trained, and the table stays as it is. Interrupted, the
same command goes on where it was. The runs stay under --out (default: results/curves, or results/curves-wide), with
their predictions of the held-out sequences; tests.bench.blends replays those of "recorded".
"""

import argparse
import concurrent.futures
import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch

from tests.bench.curves import EPOCHS, RECORDINGS, Curves, Recording
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
from trainer.studydir import StudyDir
from trainer.synthetic.generate import synthesize
from trainer.validation import Validation

DIVERGED = "diverged"  # marks the directory of such a run


def dataset(out: Path, recording: Recording) -> PackedDataset:
    """The generated sequences, packed; made when first asked for."""
    source, packed = out / "data" / "asl-signs", out / "data" / "packed"
    if not (packed / MANIFEST).exists():
        synthesize(source, num_signs=recording.num_signs, num_participants=12, repeats=recording.repeats)
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


def collect(recording: Recording, known: np.ndarray, runs: list[Path]) -> Curves:
    """The known curves [N, EPOCHS], then those of finished runs: of its configurations, in their order."""
    params = recording.configurations(len(known) + len(runs))
    accuracies = np.full((len(params), EPOCHS), np.nan)
    accuracies[: len(known)] = known
    for row, path in zip(accuracies[len(known) :], runs, strict=True):
        for metrics in RunDir(path).read_metrics():
            row[metrics.epoch - 1] = metrics.val_accuracy
    return Curves(params, accuracies, np.array([recording.size(item) for item in params]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.record_curves")
    parser.add_argument("--table", choices=RECORDINGS, default="recorded")
    parser.add_argument("--configurations", type=int, default=512)
    parser.add_argument("--again", action="store_true", help="train all, for their predictions; keep the table")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at a time, a thread each")
    parser.add_argument("--out", type=Path, help="(default: results/curves, or results/curves-wide)")
    options = parser.parse_args()
    recording = RECORDINGS[options.table]
    out = options.out or Path("results") / recording.path.stem.replace("_", "-")
    data = dataset(out, recording)
    space = recording.space
    held_out = Validation.of(data, space.base.num_folds, space.base.fold)
    StudyDir(out).write_validation(held_out, tuple(data.sign_names))
    is_kept = recording.path.exists() and not options.again
    known = Curves.read(recording.path).accuracies if is_kept else np.empty((0, EPOCHS))
    numbers = range(len(known), max(len(known), options.configurations))
    runs = [out / "runs" / f"{number:04d}" for number in numbers]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        params = recording.configurations(numbers.stop)
        configs = [space.config(params[number]).replace(seed=number) for number in numbers]
        futures = [pool.submit(record, *item, data.path) for item in zip(runs, configs, strict=True)]
        try:
            for future in track(concurrent.futures.as_completed(futures), len(futures), "training"):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    curves = collect(recording, known, runs)
    if not (options.again and recording.path.exists()):
        curves.write(recording.path)
    final = np.nan_to_num(curves.accuracies[:, -1])
    print(f"{out}: {len(final)} curves, final accuracies {final.min():.3f} to {final.max():.3f}")


if __name__ == "__main__":
    cli.run(main)
