"""The training loop: batch, forward, loss, step, moving average, validation, report.

An interrupted run goes on from its last epoch. On CPU it ends with the very weights of an undisturbed run.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from trainer.common.errors import TrainingDivergedError, UserError, in_one_line
from trainer.common.files import to_path
from trainer.common.strict import check_type, checked, described
from trainer.config import TrainConfig
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.learning.devices import check_device
from trainer.learning.guard import MAX_IN_A_ROW
from trainer.learning.learner import Learner
from trainer.learning.optimizer import average_decay, cosine
from trainer.learning.static_step import StaticStep, why_not_captured
from trainer.learning.step import Step
from trainer.metrics import accuracy, log_loss
from trainer.model.classifier import SignClassifier
from trainer.rundir import CHECKPOINT, CONFIG, EpochMetrics, Result, RunDir

DROPOUT_STREAM = 1  # dropout of an epoch draws from (seed, epoch, 1); its batches from (seed, epoch)


def train(
    config: TrainConfig,
    dataset: PackedDataset,
    run: RunDir | Path | str,
    *,
    report: Callable[[EpochMetrics], None] | None = None,
    device: str = "cpu",
    capture: bool = False,
) -> Result:
    """Train a model, from its last checkpoint if ``run`` has one, and leave everything about it in that folder.

    ``report`` is called after every epoch, when its checkpoint is on disk; what it raises ends the training and
    passes through. A finished run that is as it was left returns its result. On CPU, torch's current threads are used;
    on a GPU, ``capture`` replays steps in bfloat16 as CUDA graphs. Raises UserError if ``run`` holds another
    configuration or dataset or ``dataset`` does not fit, TrainingDivergedError if a loss or a probability is NaN or
    infinite, or too many gradients in a row are.

    Example::

        dataset = PackedDataset.open("packed")
        config = TrainConfig(model=ModelConfig(num_signs=dataset.num_signs), epochs=30)
        result = train(config, dataset, "runs/first", report=print)
    """
    _check_arguments(config, dataset, report)
    run = run if isinstance(run, RunDir) else RunDir(to_path(run, "run"))
    place = check_device(device)
    _claim(run, config, dataset)
    if run.is_done:
        return _finished(run, config)
    batches = Batches(dataset, config, place)
    steps = _steps(Learner(config, place), config, place, capture=capture)
    with steps.stream():
        return _train(steps, batches, run, report)


def _train(steps: Step, batches: Batches, run: RunDir, report: Callable[[EpochMetrics], None] | None) -> Result:
    """Epoch after epoch, from the last checkpoint if there is one."""
    learner, dataset = steps.learner, batches.dataset
    labels = dataset.labels[batches.val_indices]
    start, seconds = _restore(run, dataset, learner)
    val_probs: np.ndarray | None = None  # of the last epoch

    for epoch in range(start, batches.config.epochs):
        began = time.perf_counter()
        train_loss, learning_rate, skipped = train_epoch(steps, batches, epoch)
        trained = time.perf_counter()
        val_probs = predict(learner.ema_model, batches)
        ended = time.perf_counter()
        seconds += ended - began
        metrics = EpochMetrics(
            epoch=epoch + 1,
            train_loss=train_loss,
            val_accuracy=accuracy(val_probs, labels),
            val_log_loss=log_loss(val_probs, labels),
            learning_rate=learning_rate,
            skipped_steps=skipped,
            seconds=ended - began,
            sequences_per_second=batches.steps_per_epoch * batches.batch_size / (trained - began),
        )
        run.append_metrics(metrics)
        run.write_checkpoint(learner.tensors(), vars(_Progress(epoch + 1, seconds, dataset.fingerprint)))
        if report is not None:
            report(metrics)

    return _finish(run, batches, learner.ema_model, val_probs, seconds)


def _steps(learner: Learner, config: TrainConfig, device: torch.device, *, capture: bool) -> Step:
    """The steps of a run: captured where that is asked for and can be."""
    dtype = torch.bfloat16 if resolve_precision(config.precision, device) == "bfloat16" else torch.float32
    kind = StaticStep if capture and not why_not_captured(device, dtype) else Step
    return kind(learner, config, dtype)


def _check_arguments(config: TrainConfig, dataset: PackedDataset, report: object) -> None:
    """Raises UserError naming the argument that is of another type."""
    check_type("config", config, TrainConfig)
    check_type("dataset", dataset, PackedDataset)
    if not (report is None or callable(report)):
        raise UserError(f"must be a function of an epoch's metrics, not {described(report)}", field="report")


def _finish(
    run: RunDir,
    batches: Batches,
    ema_model: SignClassifier,
    val_probs: np.ndarray | None,
    seconds: float,
) -> Result:
    """Leave the weights, what they say of the held-out sequences, and the result, in this order."""
    dataset, place = batches.dataset, batches.device
    if val_probs is None:  # interrupted after the last epoch
        val_probs = predict(ema_model, batches)
    labels = dataset.labels[batches.val_indices]
    run.write_weights(ema_model.state_dict())
    if not batches.config.all_participants:  # or somebody would take them for honest ones
        run.write_val_probs(val_probs)
    result = Result(
        val_accuracy=accuracy(val_probs, labels),
        val_log_loss=log_loss(val_probs, labels),
        epochs=batches.config.epochs,
        num_parameters=sum(parameter.numel() for parameter in ema_model.parameters()),
        seconds=seconds,
        precision=resolve_precision(batches.config.precision, place),
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        data_fingerprint=dataset.fingerprint,
        batch_size=batches.batch_size,
    )
    run.write_result(result)
    run.remove_checkpoint()
    return result


def _finished(run: RunDir, config: TrainConfig) -> Result:
    """What a finished run came to. Raises UserError if its files are not what it left."""
    result = run.read_result()
    run.require_unchanged(needs_hashes=False)
    run.require_own_result(config, result)
    return result


def train_epoch(steps: Step, batches: Batches, epoch: int) -> tuple[float, float, int]:
    """One epoch, counted from 0, of optimizer steps: (mean training loss, last learning rate, steps left out).

    A step whose gradient is NaN or infinite is left out. Raises TrainingDivergedError if the loss is NaN or infinite,
    or if MAX_IN_A_ROW steps in a row, or most, are left out.
    """
    config, device = batches.config, batches.device
    num_steps = config.epochs * batches.steps_per_epoch
    last_learning_rate = config.learning_rate * config.final_learning_rate_ratio
    rng = np.random.Generator(np.random.SFC64((config.seed, epoch, DROPOUT_STREAM)))
    if device.type == "cuda":
        steps.seed(int(rng.integers(2**63)))
    steps.begin_epoch()
    for step, batch in enumerate(batches.epoch(epoch), start=epoch * batches.steps_per_epoch):
        dropping = rng if step >= config.dropout_start * num_steps else None
        predicts = config.next_frame_frequency > 0 and rng.random() < config.next_frame_frequency
        learning_rate = cosine(step, num_steps, config.learning_rate, last_learning_rate)
        decay = average_decay(step, num_steps, config.ema_decay, config.swa_start)
        steps(batch, learning_rate, decay, dropping, predicts=predicts)
        if device.type == "cpu" and not math.isfinite(steps.loss.item()):
            break  # on a GPU looking would cost a synchronisation a step
    total_loss = steps.total_loss.item()
    if not math.isfinite(total_loss):
        raise TrainingDivergedError(f"the loss became {total_loss} in epoch {epoch + 1}")
    skipped = steps.guard.skipped
    if steps.guard.longest >= MAX_IN_A_ROW or 2 * skipped > batches.steps_per_epoch:
        raise TrainingDivergedError(
            f"the gradient became nan or inf in {skipped} of {batches.steps_per_epoch} steps of epoch {epoch + 1}, "
            f"{steps.guard.longest} of them in a row"
        )
    return total_loss / batches.steps_per_epoch, learning_rate, skipped


@torch.no_grad()
def predict(model: SignClassifier, batches: Batches) -> np.ndarray:
    """Probabilities of the held-out sequences, in float32: [validation sequences, signs], order of ``val_indices``.

    Raises TrainingDivergedError if the model's weights make one of them NaN.
    """
    probs = np.empty((len(batches.val_indices), model.config.num_signs), dtype=np.float32)
    for places, frames, lengths in batches.validation():
        probs[places] = F.softmax(model(frames, lengths), dim=-1).cpu().numpy()
    if not np.isfinite(probs).all():
        raise TrainingDivergedError("the probabilities of held-out sequences became nan")
    return probs


def resolve_precision(precision: str, device: torch.device) -> str:
    """What "auto" means on a device: bfloat16 where it trains faster, else float32.

    On CPU that takes AMX. Where AVX-512 alone multiplies bfloat16, a step in it took 1.2 to 1.7 times as long as in
    float32, which goes through compiled loops.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if torch.cpu.get_capabilities().get("amx_bf16") else "float32"


def _claim(run: RunDir, config: TrainConfig, dataset: PackedDataset) -> None:
    """Write the configuration into a new run's directory, or check that it is the one there."""
    dataset.split(config.num_folds, config.fold)  # before the folder is taken for a run that cannot begin
    if config.model.num_signs != dataset.num_signs:
        raise UserError(f"{dataset.path}: has {dataset.num_signs} signs, but num_signs is {config.model.num_signs}")
    if not (run.path / CONFIG).exists():
        run.require_own()
        run.write_config(config)
    elif run.read_config() != config:
        raise UserError(f"{run.path}: holds a run of another configuration; choose another directory or remove it")
    if run.is_done:
        _check_data(run, run.read_result().data_fingerprint, dataset)


def _check_data(run: RunDir, fingerprint: str, dataset: PackedDataset) -> None:
    if fingerprint != dataset.fingerprint:
        raise UserError(f"{run.path}: holds a run on another dataset; choose another directory or remove it")


@dataclass(frozen=True)
class _Progress:
    """What a checkpoint says of itself."""

    epochs: int
    """Done"""
    seconds: float
    """That they took"""
    data_fingerprint: str


def _restore(run: RunDir, dataset: PackedDataset, learner: Learner) -> tuple[int, float]:
    """Load the last checkpoint, if any, and return (epochs done, seconds they took)."""
    checkpoint = run.read_checkpoint()
    if checkpoint is None:
        run.keep_metrics(0)
        return 0, 0.0
    tensors, state = checkpoint
    try:
        progress = checked(_Progress, state)
        _check_data(run, progress.data_fingerprint, dataset)
        learner.load(tensors)
    except (KeyError, ValueError) as error:
        path = run.path / CHECKPOINT
        raise UserError(
            f"{path}: is not of this run ({in_one_line(error)}); remove it to train this run from the start"
        ) from error
    run.keep_metrics(progress.epochs)
    return progress.epochs, progress.seconds
