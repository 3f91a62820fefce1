"""What each part of the recipe is worth: rows of one change each, measured on held-out participants.

    python -m trainer.ablate --data PACKED --out results/ablation [--rows mixup,ema,...] [--seeds 3] [--epochs 30]

Every other field of TrainConfig is an option too, and holds for all rows. Seed k holds out fold k, so rows are compared
on the same participants. Interrupted, the same command goes on where it was; the table is printed and
written to OUT/ablation.md.
"""

import concurrent.futures
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from trainer.common import cli
from trainer.common.console import console, for_tables, track
from trainer.common.errors import UserError
from trainer.common.files import write_bytes
from trainer.common.processes import follow_parent
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.learning.allocator import keep_freed_memory
from trainer.options import add_options, check_device, to_config
from trainer.rundir import Result, RunDir
from trainer.train import TrainingDiverged, train

BASE = "base"
CLEAR = 2.0  # a difference counts when it is this many standard errors from zero


class Claim(StrEnum):
    """What the seed says of a change."""

    WORSE = "worse"
    NO_BETTER = "no better"
    UNSAID = ""


@dataclass(frozen=True)
class Row:
    """One change from the base recipe."""

    name: str
    changes: dict[str, Any]
    claim: Claim


ROWS = (
    Row("mixup", {"mixup_alpha": 0.0}, Claim.WORSE),
    Row("ema", {"ema_decay": 0.0}, Claim.WORSE),
    Row("adamw", {"optimizer": "adamw", "learning_rate": 1e-3}, Claim.WORSE),
    Row("layernorm", {"norm": "layernorm"}, Claim.WORSE),
    Row("label-smoothing", {"label_smoothing": 0.1}, Claim.WORSE),
    Row("hands", {"landmarks": "hands"}, Claim.WORSE),
    Row("hands-lips", {"landmarks": "hands_lips"}, Claim.WORSE),
    Row("hands-lips-pose", {"landmarks": "hands_lips_pose"}, Claim.UNSAID),
    Row("mirror", {"mirror_probability": 0.0}, Claim.NO_BETTER),
    Row("time-linear", {"time_stretch": 0.4}, Claim.NO_BETTER),
    Row("time-spline", {"time_stretch": 0.4, "time_interpolation": "spline"}, Claim.NO_BETTER),
    Row("group-shift", {"group_shift": 0.02}, Claim.NO_BETTER),
    Row("landmark-shift", {"landmark_shift": 0.005}, Claim.NO_BETTER),
    Row("rotation", {"rotation": 10.0}, Claim.NO_BETTER),
    Row("scale", {"scale": 0.2}, Claim.NO_BETTER),
    Row("mixup-of-3", {"mixup_partners": 2}, Claim.NO_BETTER),
    Row("align-partners", {"align_partners": True}, Claim.NO_BETTER),
    Row("next-frame", {"next_frame_frequency": 0.25}, Claim.NO_BETTER),
    Row("learned-positions", {"learned_positions": False}, Claim.UNSAID),
    Row("rotary", {"rotary": False}, Claim.UNSAID),
    Row("mean-pooling", {"pooling": "mean"}, Claim.UNSAID),
)


@dataclass(frozen=True)
class Measured:
    """A row's accuracies over the seeds, beside the base's."""

    row: Row
    accuracies: np.ndarray
    """float64 [seeds]"""
    base: np.ndarray
    """float64 [seeds], same seeds and participants"""

    @property
    def difference(self) -> float:
        """Mean of the seeds' differences from the base."""
        return float((self.accuracies - self.base).mean())

    @property
    def error(self) -> float:
        """Standard error of ``difference``; NaN with one seed."""
        differences = self.accuracies - self.base
        return float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else float("nan")

    @property
    def verdict(self) -> str:
        """Whether the measurement agrees with the claim: yes, no, or unclear; empty where nothing was claimed."""
        if self.row.claim is Claim.UNSAID:
            return ""
        is_better, is_worse = self.difference > CLEAR * self.error, self.difference < -CLEAR * self.error
        if self.row.claim is Claim.WORSE:
            return "yes" if is_worse else "no" if is_better else "unclear"
        return "no" if is_better else "yes" if is_worse or not np.isnan(self.error) else "unclear"


def _train_one(path: Path, config: TrainConfig, data: Path, device: str) -> float:
    """Train one row with one seed, on one thread: accuracy, or NaN if it diverged."""
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        result: Result = train(config, PackedDataset.open(data), RunDir(path), device=device)
    except TrainingDiverged:
        return float("nan")
    return result.val_accuracy


def measure(
    rows: list[Row], base: TrainConfig, seeds: int, dataset: PackedDataset, out: Path, device: str, workers: int
) -> list[Measured]:
    """Train every row and the base with every seed, each in its directory under ``out``, several at a time."""
    tasks = {
        (name, seed): base.replace(seed=seed, fold=seed % base.num_folds, **changes)
        for name, changes in ((BASE, {}), *((row.name, row.changes) for row in rows))
        for seed in range(seeds)
    }
    accuracies: dict[tuple[str, int], float] = {}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context, follow_parent) as pool:
        futures = {
            pool.submit(_train_one, out / "runs" / f"{name}-{seed}", config, dataset.path, device): (name, seed)
            for (name, seed), config in tasks.items()
        }
        try:
            for future in track(concurrent.futures.as_completed(futures), len(futures), "training"):
                accuracies[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise

    def of(name: str) -> np.ndarray:
        return np.array([accuracies[name, seed] for seed in range(seeds)])

    return [Measured(row, of(row.name), of(BASE)) for row in rows]


HEADINGS = ("row", "change", "accuracy", "spread", "difference", "the seed says", "agrees")


def _cells(measured: list[Measured]) -> Iterator[tuple[str, ...]]:
    base = measured[0].base
    yield BASE, "", *_mean_and_spread(base), "", "", ""
    for item in measured:
        changes = ", ".join(f"{name} {value}" for name, value in item.row.changes.items())
        difference = "" if np.isnan(item.difference) else f"{100 * item.difference:+.2f}"
        if not np.isnan(item.error):  # with one seed there is none
            difference += f" ± {100 * item.error:.2f}"
        yield item.row.name, changes, *_mean_and_spread(item.accuracies), difference, item.row.claim, item.verdict


def _mean_and_spread(accuracies: np.ndarray) -> tuple[str, str]:
    if np.isnan(accuracies).any():
        return "diverged", ""
    return f"{accuracies.mean():.4f}", f"{np.ptp(accuracies):.4f}" if len(accuracies) > 1 else ""


def show(measured: list[Measured], title: str) -> None:
    """Print the rows as a rich table."""
    table = Table(title=title, caption="difference from base: percentage points, mean over seeds ± standard error")
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("accuracy", "spread", "difference") else "left")
    for cells in _cells(measured):
        table.add_row(*cells)
    for_tables().print(table)


def to_markdown(measured: list[Measured], title: str, command: str) -> str:
    """The rows as a Markdown table, with the command that made it."""
    lines = [f"# {title}", "", f"    {command}", "", _line(HEADINGS), _line(("---",) * len(HEADINGS))]
    lines += [_line(cells) for cells in _cells(measured)]
    note = (
        "Accuracy on held-out participants, mean over seeds; spread is largest minus smallest; difference from base "
        "in percentage points, mean over seeds ± standard error. A difference under two standard errors is unclear."
    )
    return "\n".join([*lines, "", note, ""])


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _chosen(names: str | None) -> list[Row]:
    if names is None:
        return list(ROWS)
    by_name = {row.name: row for row in ROWS}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise UserError(f"--rows: there is no row {unknown[0]!r}; the rows are {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names.split(","))]


def main() -> None:
    parser = cli.Parser("trainer.ablate", description="Measure the recipe's parts.")
    parser.add_argument("--data", type=Path, required=True, help="packed dataset, made by trainer.pack")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of ablation.md")
    parser.add_argument("--rows", help="only these rows, separated by commas (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row (default: 3)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time, a thread each")
    add_options(parser, without=frozenset({"seed", "fold"}))
    options: dict[str, Any] = vars(parser.parse_args())
    data, out, names, seeds, workers, device = (
        options.pop(name) for name in ("data", "out", "rows", "seeds", "workers", "device")
    )
    if seeds < 1 or workers < 1:
        parser.error("--seeds and --workers must be at least 1")
    rows = _chosen(names)
    check_device(device)
    dataset = PackedDataset.open(data)
    base = to_config(options, dataset)
    measured = measure(rows, base, seeds, dataset, out, device, workers)
    title = (
        f"Ablation: num_heads {base.model.num_heads}, num_layers {base.model.num_layers}, {base.epochs} epochs, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )
    show(measured, title)
    command = shlex.join(["python", "-m", "trainer.ablate", *sys.argv[1:]])
    write_bytes(out / "ablation.md", to_markdown(measured, title, command).encode())
    console.print(f"wrote {out / 'ablation.md'}")


if __name__ == "__main__":
    cli.run(main)
