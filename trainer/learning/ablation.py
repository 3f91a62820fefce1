"""What each part of the recipe is worth: rows of one change each, measured on held-out participants.

Seed k holds out fold k, so rows are compared on the same participants.
"""

import concurrent.futures
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.table import Table

from trainer.common.console import for_tables, track
from trainer.common.errors import TrainingDivergedError, UserError
from trainer.common.processes import pool
from trainer.common.strict import described
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.learning.allocator import keep_freed_memory
from trainer.learning.loop import train
from trainer.rundir import Result, RunDir

BASE = "base"
CLEAR = 2.0  # a difference counts when it is this many standard errors from zero


class Claim(StrEnum):
    """What the recipe's author says of a change: the write-up of the 26th-place solution."""

    WORSE = "worse"
    NO_BETTER = "no better"
    UNSAID = ""


@dataclass(frozen=True)
class Change:
    """One change from the base recipe."""

    name: str
    changes: dict[str, Any]
    claim: Claim


CHANGES = (
    Change("mixup", {"mixup_alpha": 0.0}, Claim.WORSE),
    Change("ema", {"ema_decay": 0.0}, Claim.WORSE),
    Change("adamw", {"optimizer": "adamw", "learning_rate": 1e-3}, Claim.WORSE),
    Change("layernorm", {"norm": "layernorm"}, Claim.WORSE),
    Change("label-smoothing", {"label_smoothing": 0.1}, Claim.WORSE),
    Change("hands", {"landmarks": "hands"}, Claim.WORSE),
    Change("hands-lips", {"landmarks": "hands_lips"}, Claim.WORSE),
    Change("hands-lips-pose", {"landmarks": "hands_lips_pose"}, Claim.UNSAID),
    Change("mirror", {"mirror_probability": 0.0}, Claim.NO_BETTER),
    Change("time-linear", {"time_stretch": 0.4}, Claim.NO_BETTER),
    Change("time-spline", {"time_stretch": 0.4, "time_interpolation": "spline"}, Claim.NO_BETTER),
    Change("group-shift", {"group_shift": 0.02}, Claim.NO_BETTER),
    Change("landmark-shift", {"landmark_shift": 0.005}, Claim.NO_BETTER),
    Change("rotation", {"rotation": 10.0}, Claim.NO_BETTER),
    Change("scale", {"scale": 0.2}, Claim.NO_BETTER),
    Change("mixup-of-3", {"mixup_partners": 2}, Claim.NO_BETTER),
    Change("align-partners", {"align_partners": True}, Claim.NO_BETTER),
    Change("next-frame", {"next_frame_frequency": 0.25}, Claim.NO_BETTER),
    Change("learned-positions", {"learned_positions": False}, Claim.UNSAID),
    Change("rotary", {"rotary": False}, Claim.UNSAID),
    Change("mean-pooling", {"pooling": "mean"}, Claim.UNSAID),
    Change("motion", {"motion": 0}, Claim.UNSAID),
    Change("short-motion", {"motion": 1}, Claim.UNSAID),
    Change("distances", {"distances": True}, Claim.UNSAID),
    Change("hand-frame", {"hand_frame": True}, Claim.UNSAID),
    Change("copies", {"copies": 2}, Claim.UNSAID),
    Change("convolution", {"conv_kernel": 7}, Claim.UNSAID),
    Change("frame-drop", {"frame_drop": 0.5}, Claim.UNSAID),
    Change("span-drop", {"span_drop": 0.3}, Claim.UNSAID),
    Change("landmark-drop", {"landmark_drop": 0.1}, Claim.UNSAID),
    Change("hand-drop", {"hand_drop": 0.2}, Claim.UNSAID),
    Change("late-dropout", {"dropout_start": 0.5}, Claim.UNSAID),
    Change("drop-path", {"drop_path": 0.2}, Claim.UNSAID),
    Change("swa", {"swa_start": 0.75}, Claim.UNSAID),
    Change("weight-decay", {"weight_decay": 0.1}, Claim.UNSAID),
)


@dataclass(frozen=True)
class Measured:
    """A row's accuracies over the seeds, beside the base's."""

    row: Change
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
    except TrainingDivergedError:
        return float("nan")
    return result.val_accuracy


def measure(
    rows: list[Change], base: TrainConfig, seeds: int, dataset: PackedDataset, out: Path, device: str, workers: int
) -> list[Measured]:
    """Train every row and the base with every seed, each in its directory under ``out``, several at a time."""
    tasks = {
        (name, seed): base.replace(seed=seed, fold=seed % base.num_folds, **changes)
        for name, changes in ((BASE, {}), *((row.name, row.changes) for row in rows))
        for seed in range(seeds)
    }
    accuracies: dict[tuple[str, int], float] = {}
    context = multiprocessing.get_context("spawn")
    with pool(workers, context) as executor:
        futures = {
            executor.submit(_train_one, out / "runs" / f"{name}-{seed}", config, dataset.path, device): (name, seed)
            for (name, seed), config in tasks.items()
        }
        for future in track(concurrent.futures.as_completed(futures), len(futures), "training"):
            accuracies[futures[future]] = future.result()

    def of(name: str) -> np.ndarray:
        return np.array([accuracies[name, seed] for seed in range(seeds)])

    return [Measured(row, of(row.name), of(BASE)) for row in rows]


HEADINGS = ("row", "change", "accuracy", "spread", "difference", "the recipe says", "agrees")


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
    caption = "difference from base: percentage points, mean over seeds ± standard error"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False)
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


def chosen(names: str | None) -> list[Change]:
    """The changes of these names, separated by commas; all without any. Raises UserError for an unknown one."""
    if names is None:
        return list(CHANGES)
    by_name = {row.name: row for row in CHANGES}
    unknown = [name for name in names.split(",") if name not in by_name]
    if unknown:
        raise UserError(f"there is no row {described(unknown[0])}; the rows are {', '.join(by_name)}", field="rows")
    return [by_name[name] for name in dict.fromkeys(names.split(","))]
