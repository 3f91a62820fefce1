"""Training speed against a padded trainer of the same model and against the machine's own matrix products.

    python -m tests.bench.train_step [--device cuda] [--threads 1] [--rounds 2] [--sequences 4096] [--processes 1,2,4,8]

Both sides train on random batches of 128 sequences as long as the contest's, in turn; every figure is the median of
the rounds. The padded side computes in float32, as the recipe does; ours in what precision "auto" comes to (where that
is bfloat16, float32 stands beside it). Useful GFLOP/s are 6 x the blocks' parameters x real frames.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.table import Table

from tests.bench.padded import PaddedTrainer
from tests.bench.workload import matmul_rate, packed_dataset, seconds
from trainer.common import cli
from trainer.common.console import console, track
from trainer.config import TrainConfig
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.learning.allocator import keep_freed_memory
from trainer.learning.learner import Learner
from trainer.learning.loop import resolve_precision, train_epoch
from trainer.learning.step import Step

SHAPES = ((2, 6), (6, 5))
STEPS = 5  # of ours in a round


@dataclass
class Rate:
    """Speed of one side in one round."""

    sequences: float
    """a second"""
    gflops: float
    """useful ones"""


class Ours:
    """This trainer, from memory map to moving average; an epoch is a few steps."""

    def __init__(self, config: TrainConfig, dataset: PackedDataset, device: torch.device) -> None:
        self.batches = Batches(dataset, config, device)
        self.learner = Learner(config, device)
        self.steps = Step(self.learner, config, getattr(torch, resolve_precision(config.precision, device)))
        self.block_parameters = sum(parameter.numel() for parameter in self.learner.model.blocks.parameters())
        self.epoch = 0

    def measure(self) -> Rate:
        frames = sum(int(batch.lengths.sum()) for batch in self.batches.epoch(self.epoch))
        elapsed = seconds(lambda: train_epoch(self.steps, self.batches, self.epoch), self.batches.device)
        self.epoch += 1
        sequences = self.batches.steps_per_epoch * self.batches.batch_size
        return Rate(sequences / elapsed, 6 * self.block_parameters * frames / elapsed / 1e9)

    def data_share(self) -> float:
        """Share of a training step spent on sampling, augmentation and packing, with the recipe's mixup."""
        config = self.batches.config.replace(mixup_alpha=0.5)
        batches = Batches(self.batches.dataset, config, self.batches.device)
        data = seconds(lambda: list(batches.epoch(0)), batches.device)
        return data / seconds(lambda: train_epoch(self.steps, batches, 0), batches.device)


class Padded:
    """The padded trainer, one step a round."""

    def __init__(self, config: TrainConfig, dataset: PackedDataset, device: torch.device, ours: Ours) -> None:
        self.trainer = PaddedTrainer(config, device)
        self.dataset = dataset
        self.block_parameters = ours.block_parameters
        self.batches = self._batches(ours.batches.batch_size, config.model.max_frames)

    def _batches(self, size: int, longest: int) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        rng = np.random.default_rng(0)
        while True:
            chosen = rng.choice(len(self.dataset), size, replace=False)
            sequences = [np.array(self.dataset.sequence(index)[:longest]) for index in chosen]
            yield sequences, self.dataset.labels[chosen]

    def measure(self) -> Rate:
        sequences, labels = next(self.batches)
        elapsed = seconds(lambda: self.trainer.step(sequences, labels), self.trainer.device)
        frames = sum(map(len, sequences))
        return Rate(len(sequences) / elapsed, 6 * self.block_parameters * frames / elapsed / 1e9)


def compare(shape: tuple[int, int], dataset: PackedDataset, device: torch.device, rounds: int) -> dict[str, float]:
    """Both sides in turn on one model shape."""
    config = TrainConfig(mixup_alpha=0.0, steps_per_epoch=STEPS, epochs=10**6).replace(
        num_heads=shape[0], num_layers=shape[1], num_signs=dataset.num_signs
    )
    ours = Ours(config, dataset, device)
    padded = Padded(config, dataset, device, ours)
    sides = {"ours": ours}
    if ours.steps.dtype != torch.float32:
        sides["ours_float32"] = Ours(config.replace(precision="float32"), dataset, device)
    for side in sides.values():
        side.measure()
    rates: dict[str, list[Rate]] = {name: [] for name in ("padded", *sides)}
    matmul: list[float] = []  # the machine's own rate, just before ours, whatever else the machine is doing
    for _ in track(range(rounds), rounds, f"{shape[0]}x{shape[1]}"):
        rates["padded"].append(padded.measure())  # one step of it takes as long as all the rest
        for _ in range(5):
            matmul.append(matmul_rate(device, torch.bfloat16 if device.type == "cuda" else torch.float32))
            for name, side in sides.items():
                rates[name].append(side.measure())
    sequences = {name: median(rate.sequences for rate in measured) for name, measured in rates.items()}
    gflops = {name: median(rate.gflops for rate in measured) for name, measured in rates.items()}
    figures = {name: round(value, 2) for name, value in sequences.items()}
    for name in sides:
        suffix = name.removeprefix("ours")
        figures[f"speedup{suffix}"] = round(sequences[name] / sequences["padded"], 2)
        figures[f"gflops{suffix}"] = round(gflops[name], 1)
        shares = (rate.gflops / own for rate, own in zip(rates[name], matmul, strict=True))
        figures[f"sgemm_share{suffix}"] = round(median(shares), 3)
    figures["sgemm_gflops"] = round(median(matmul), 1)
    figures["data_share"] = round(median(ours.data_share() for _ in range(3)), 3)
    return figures


def _one_of_many(path: str, shape: tuple[int, int], device: str, results: "multiprocessing.Queue[float]") -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    config = TrainConfig(mixup_alpha=0.0, steps_per_epoch=20, epochs=10**6).replace(
        num_heads=shape[0], num_layers=shape[1]
    )
    ours = Ours(config, PackedDataset.open(path), torch.device(device))
    ours.measure()
    results.put(median(ours.measure().sequences for _ in range(3)))


def together(count: int, dataset: PackedDataset, device: str) -> float:
    """Sequences/s of several 2x6 trials at once on one device, one process and one thread each, added up."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[float] = context.Queue()
    arguments = (str(dataset.path), SHAPES[0], device, results)
    processes = [context.Process(target=_one_of_many, args=arguments) for _ in range(count)]
    for process in processes:
        process.start()
    total = sum(results.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    return round(total, 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.train_step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=4096, help="in the dataset; the contest has 94477")
    parser.add_argument("--processes", default="", help="also measure so many 2x6 trials at once, such as 1,2,4,8")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # for both sides
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report: dict[str, object] = {"bench": "train_step", "device": name, "threads": options.threads}
    with tempfile.TemporaryDirectory() as folder:
        dataset = packed_dataset(Path(folder), options.sequences)
        report["precision"] = resolve_precision("auto", device)
        sides = {
            f"{heads}x{layers}": compare((heads, layers), dataset, device, options.rounds) for heads, layers in SHAPES
        }
        report |= sides
        if options.processes:
            report["together"] = {
                count: together(int(count), dataset, options.device) for count in options.processes.split(",")
            }
    if device.type == "cuda":
        report["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    table = Table(title=f"training, {name}, {options.threads} thread(s), {report['precision']}")
    table.add_column("")
    for side in sides:
        table.add_column(side, justify="right")
    for row in next(iter(sides.values())):
        table.add_row(row, *(f"{figures[row]:g}" for figures in sides.values()))
    console.print(table)
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
