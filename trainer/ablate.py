"""Measure what each part of the recipe is worth on held-out participants.

    python -m trainer.ablate --data PACKED --out results/ablation [--rows mixup,ema,...] [--seeds 3] [--epochs 30]

The work is done by trainer.learning.ablation.
"""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.common import cli
from trainer.common.credentials import hide
from trainer.common.fields import option, positive, without_keys
from trainer.config import TrainConfig
from trainer.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class AblateOptions(TrainingOptions):
    """Measure what each part of the recipe is worth.

    Each row changes one thing of the base configuration. Every row is trained with several random seeds. Seed k holds
    out fold k, so that rows are compared on the same participants. Options of the model and of training hold for all
    rows. The table is printed and written to OUT/ablation.md. If it is interrupted, the same command goes on.
    """

    out: Path = option()
    """Folder of the runs and of ablation.md."""
    rows: str | None = option(None, metavar="ROW,...")
    """Measure only these rows, separated by commas: mixup, ema, adamw, layernorm, label-smoothing, hands, hands-lips,
    hands-lips-pose, mirror, time-linear, time-spline, group-shift, landmark-shift, rotation, scale, mixup-of-3,
    align-partners, next-frame, learned-positions, rotary, mean-pooling, motion, short-motion, distances, hand-frame,
    copies, convolution, frame-drop, span-drop, landmark-drop, hand-drop, late-dropout, drop-path, swa, weight-decay
    (default: all)."""
    seeds: int = option(3, parse=positive)
    """Runs of each row, each with a random seed of its own."""
    workers: int = option(os.cpu_count() or 1, parse=positive, group="where it runs")
    """Runs at a time, each on one thread."""
    training: dict[str, Any] = option(
        {}, fields_of=(TrainConfig,), without=frozenset({"model", "seed", "fold"}), group="training"
    )


@cli.command(
    "trainer.ablate",
    AblateOptions,
    examples=[
        "--data results/data/asl-signs --out results/ablation --epochs 30",
        "--data results/data/asl-signs --out results/mixup --rows mixup,mixup-of-3 --seeds 5",
    ],
)
def main(options: AblateOptions) -> None:
    from trainer.common.console import console
    from trainer.common.fields import to_place
    from trainer.common.files import write_bytes
    from trainer.data.dataset import PackedDataset
    from trainer.learning import ablation
    from trainer.learning.devices import check_device, default_device

    changes = ablation.chosen(options.rows)
    device = options.device or default_device()
    check_device(device)
    dataset = PackedDataset.open(to_place(options.data, "data"))
    base = options.config(dataset.num_signs)
    dataset.folds(base.num_folds)
    measured = ablation.measure(changes, base, options.seeds, dataset, options.out, device, options.workers)
    title = (
        f"Ablation: num_heads {base.model.num_heads}, num_layers {base.model.num_layers}, {base.epochs} epochs, "
        f"{options.seeds} seed{'s' if options.seeds > 1 else ''}"
    )
    ablation.show(measured, title)
    command = shlex.join(["python", "-m", "trainer.ablate", *(hide(without_keys(word)) for word in sys.argv[1:])])
    write_bytes(options.out / "ablation.md", ablation.to_markdown(measured, title, command).encode())
    console.print(f"wrote {options.out / 'ablation.md'}")


if __name__ == "__main__":
    cli.run(main)
