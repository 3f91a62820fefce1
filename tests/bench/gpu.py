"""What one GPU does: captured steps beside eager ones and the padded trainer, and many trials at once.

    python -m tests.bench.gpu [--device cuda] [--rounds 5] [--trials 1,2,4,8,16,32] [--out results/reference/gpu.txt]

Trials train on random batches of 128 sequences as long as the contest's, with the recipe's mixup, data path and all;
sides take turns and every figure is the median of the rounds. Useful TFLOP/s are 6 x the blocks' parameters x real
frames. The padded trainer computes in float32, as the recipe does. Many trials are one process that gives each in turn
a step on a stream of its own. search_hours says how long 64 trials of 30 epochs over 94,477 sequences, a fifth held
out, would take at that rate. On a CPU, where nothing is captured, the benchmark runs too, to show that it does.
"""

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch

from tests.bench.padded import PaddedTrainer
from tests.bench.workload import matmul_rate, packed_dataset, seconds
from trainer.common import cli
from trainer.common.console import console, track
from trainer.common.files import write_bytes
from trainer.config import TrainConfig
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.learning.learner import Learner
from trainer.learning.loop import predict, train_epoch
from trainer.learning.static_step import StaticStep
from trainer.learning.step import Step

SHAPES: Final = ((2, 6), (6, 5))
CONTEST, EPOCHS, TRIALS = 94_477, 30, 64


class Trial:
    """One trial: its learner, its batches, and how it makes its steps."""

    def __init__(
        self,
        kind: type[Step],
        shape: tuple[int, int],
        dataset: PackedDataset,
        device: torch.device,
        steps: int,
        seed: int = 0,
    ) -> None:
        model = {"num_heads": shape[0], "num_layers": shape[1], "num_signs": dataset.num_signs}
        self.config = TrainConfig(steps_per_epoch=steps, epochs=10**6, seed=seed).replace(**model)
        self.batches = Batches(dataset, self.config, device)
        learner = Learner(self.config, device)
        self.steps = kind(learner, self.config, torch.bfloat16 if device.type == "cuda" else torch.float32)
        self.block_parameters = sum(parameter.numel() for parameter in learner.model.blocks.parameters())
        self.epoch = 0
        for _ in range(3):  # libraries, and captured shapes
            self.train()

    def train(self) -> None:
        """An epoch of a few steps."""
        with self.steps.stream():
            train_epoch(self.steps, self.batches, self.epoch)
        self.epoch += 1

    def measure(self) -> tuple[float, float]:
        """(sequences a second, useful TFLOP/s) of an epoch."""
        frames = sum(int(batch.lengths.sum()) for batch in self.batches.epoch(self.epoch))
        elapsed = seconds(self.train, self.batches.device)
        count = self.batches.steps_per_epoch * self.batches.batch_size
        return count / elapsed, 6 * self.block_parameters * frames / elapsed / 1e12


def alone(
    shape: tuple[int, int], dataset: PackedDataset, device: torch.device, rounds: int, steps: int
) -> dict[str, float]:
    """Captured and eager steps in turn, and the padded trainer."""
    sides = {
        name: Trial(kind, shape, dataset, device, steps) for name, kind in (("eager", Step), ("captured", StaticStep))
    }
    captured = sides["captured"]
    padded = PaddedTrainer(captured.config, device)
    batch = next(captured.batches.epoch(0))  # as many frames for the padded trainer too
    sequences = np.split(batch.frames.cpu().numpy(), np.cumsum(batch.lengths)[:-1])
    labels = batch.labels[:, 0].cpu().numpy()
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    of_padded, matmul, data = [], [], []
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for _ in track(range(rounds), rounds, f"{shape[0]}x{shape[1]}"):
        matmul.append(matmul_rate(device, dtype) / 1e3)
        for name, side in sides.items():
            rates[name].append(side.measure())
        data.append(seconds(lambda: list(captured.batches.epoch(0)), device) / steps)
        of_padded.append(len(labels) / seconds(lambda: padded.step(sequences, labels), device))
    speed = {name: median(rate for rate, _ in its) for name, its in rates.items()}
    validation = seconds(lambda: predict(captured.steps.learner.ema_model, captured.batches), device)
    return {
        "eager": round(speed["eager"], 1),
        "captured": round(speed["captured"], 1),
        "captured_over_eager": round(speed["captured"] / speed["eager"], 2),
        "padded": round(median(of_padded), 1),
        "captured_over_padded": round(speed["captured"] / median(of_padded), 2),
        "useful_tflops": round(median(flops for _, flops in rates["captured"]), 2),
        "share_of_matmul": round(median(flops for _, flops in rates["captured"]) / median(matmul), 3),
        "data_path_ms": round(1e3 * median(data), 3),
        "validation_sequences": round(len(captured.batches.val_indices) / validation, 1),
    }


def together(counts: Sequence[int], dataset: PackedDataset, device: torch.device, steps: int) -> dict[int, float]:
    """Sequences a second, all together, of so many trials of 2x6 in one process."""
    rates = {}
    trials: list[Trial] = []
    for count in counts:
        trials += [Trial(StaticStep, SHAPES[0], dataset, device, steps, seed) for seed in range(len(trials), count)]
        elapsed = median(seconds(partial(in_turn, tuple(trials)), device) for _ in range(3))
        rates[count] = round(count * steps * trials[0].batches.batch_size / elapsed, 1)
    return rates


def in_turn(trials: Sequence[Trial]) -> None:
    """An epoch of each, a step of one after a step of another; none waits for the device."""
    rng = np.random.Generator(np.random.SFC64(0))
    epochs = [trial.batches.epoch(0) for trial in trials]
    for _ in range(trials[0].batches.steps_per_epoch):
        for trial, batches in zip(trials, epochs, strict=True):
            with trial.steps.stream():
                trial.steps(next(batches), 1e-4, 0.999, rng, predicts=False)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    report: dict[str, Any] = {"bench": "gpu", "device": name, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        dataset = packed_dataset(Path(folder), options.sequences)
        for shape in SHAPES:
            report[f"{shape[0]}x{shape[1]}"] = alone(shape, dataset, device, options.rounds, options.steps)
        rates = together([int(count) for count in options.trials.split(",")], dataset, device, options.steps)
    report["together"] = rates
    report["together_over_eager"] = round(max(rates.values()) / report["2x6"]["eager"], 2)
    report["search_hours"] = round(TRIALS * EPOCHS * CONTEST * 0.8 / max(rates.values()) / 3600, 2)
    if device.type == "cuda":
        report["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of a round")
    parser.add_argument("--sequences", type=int, default=8192, help="in the dataset; the contest has 94477")
    parser.add_argument("--trials", default="1,2,4,8,16,32", help="at once, such as 1,2,4")
    parser.add_argument("--out", type=Path, help="file that the result is written to")
    options = parser.parse_args()
    report = measure(options)
    for name, value in report.items():
        console.print(f"{name}: {value}", soft_wrap=True, markup=False)
    line = json.dumps(report)
    if options.out is not None:
        write_bytes(options.out, f"$ python -m tests.bench.gpu {shlex.join(sys.argv[1:])}\n{line}\n".encode())
    print(line)


if __name__ == "__main__":
    cli.run(main)
