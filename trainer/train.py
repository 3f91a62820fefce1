"""Train one model on a packed dataset.

    python -m trainer.train --data PACKED --out DIR --num-heads 2 --num-layers 6 --epochs 30

The work is done by trainer.learning.loop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.common import cli
from trainer.common.errors import TrainingDivergedError, UserError
from trainer.common.fields import option, threads
from trainer.options import TrainingOptions

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.data.dataset import PackedDataset
    from trainer.rundir import EpochMetrics, Result, RunDir


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainingOptions):
    """Train one model on a packed dataset.

    Prints a line per epoch and leaves the configuration, the metrics, the weights and the probabilities of held-out
    sequences in a folder. If it is interrupted, the same command goes on from the last epoch; on CPU it then ends with
    the very weights of an undisturbed run. Defaults are those of the recipe, the 26th-place solution of the contest.
    """

    out: Path = option()
    """Folder of the run."""
    threads: int | None = option(None, parse=threads, group="where it runs")
    """CPU threads (default: all cores)."""
    capture: bool = option(False, group="where it runs")
    """Replay training steps as CUDA graphs: on a GPU, in bfloat16. New: not yet tried on a GPU."""


@cli.command(
    "trainer.train",
    TrainOptions,
    examples=[
        "--data results/data/asl-signs --out results/runs/first --epochs 30",
        "--data results/data/asl-signs --out results/runs/wide --num-heads 6 --num-layers 5 --learning-rate 2e-4",
    ],
)
def main(options: TrainOptions) -> None:
    import torch

    from trainer.common.console import console
    from trainer.common.fields import to_place
    from trainer.data.dataset import PackedDataset
    from trainer.learning.allocator import keep_freed_memory
    from trainer.learning.devices import check_device, default_device
    from trainer.learning.loop import resolve_precision
    from trainer.learning.static_step import why_not_captured
    from trainer.rundir import RunDir

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = options.device or default_device()
    place = check_device(device)
    keep_freed_memory()
    dataset = PackedDataset.open(to_place(options.data, "data"))
    config = options.config(dataset.num_signs)
    if options.capture:
        dtype = getattr(torch, resolve_precision(config.precision, place))
        if reason := why_not_captured(place, dtype):
            console.print(f"steps are not captured: {reason}", soft_wrap=True)
    run = RunDir(options.out)
    was_done = run.is_done
    try:
        result = train_visibly(config, dataset, run, device, capture=options.capture)
    except TrainingDivergedError as error:
        raise UserError(f"{error}; try a lower --learning-rate") from error
    whom = "participants that it was trained on" if config.all_participants else "the held-out participants"
    console.print(
        f"{options.out}: {result.num_parameters:,} parameters, accuracy {result.val_accuracy:.4f} and log loss "
        f"{result.val_log_loss:.4f} on {whom}, {result.seconds:.0f} s "
        f"({result.precision}, {result.device})",
        markup=False,
        soft_wrap=True,
    )
    if was_done:
        console.print(
            "this run was finished before: nothing was trained; choose another --out to train anew", soft_wrap=True
        )


def train_visibly(
    config: "TrainConfig", dataset: "PackedDataset", run: "RunDir", device: str, *, capture: bool = False
) -> "Result":
    """Train with a line per epoch and, on a terminal, a progress bar below them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from trainer.common.console import console
    from trainer.learning.loop import train

    print_line = console.print
    head = f"{'epoch':>6} {'train loss':>11} {'val accuracy':>13} {'val log loss':>13} {'seq/s':>7} {'seconds':>8}"
    has_begun = False
    columns = (TextColumn("epochs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("epochs", total=config.epochs)

        def report(metrics: "EpochMetrics") -> None:
            nonlocal has_begun
            if not has_begun:
                print_line(head)
                has_begun = True
            progress.update(task, completed=metrics.epoch)
            print_line(
                f"{metrics.epoch:>6} {metrics.train_loss:>11.4f} {metrics.val_accuracy:>13.4f} "
                f"{metrics.val_log_loss:>13.4f} {metrics.sequences_per_second:>7.0f} {metrics.seconds:>8.1f}"
                + (f"  {metrics.skipped_steps} steps left out" if metrics.skipped_steps else "")
            )

        return train(config, dataset, run, report=report, device=device, capture=capture)


if __name__ == "__main__":
    cli.run(main)
