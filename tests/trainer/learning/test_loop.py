"""Training as its users see it: what it learns, what it leaves on disk, and what interruptions change (nothing)."""

import contextlib
import dataclasses
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.trainer.conftest import MAX_FRAMES, NUM_SIGNS
from trainer.common.errors import TrainingDivergedError, UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.learning.learner import Learner
from trainer.learning.loop import resolve_precision, train
from trainer.model.classifier import SignClassifier
from trainer.rundir import EpochMetrics, RunDir


@pytest.fixture(scope="module")
def finished(dataset: PackedDataset, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An undisturbed run of the base configuration."""
    torch.set_num_threads(1)
    run = RunDir(tmp_path_factory.mktemp("runs") / "finished")
    train(config, dataset, run)
    return run


def outcome(run: RunDir) -> dict[str, Any]:
    """Everything in a finished run's directory but the time it took, comparable with ==, bit for bit."""
    files = {name: (run.path / name).read_bytes() for name in ("config.json", "weights.safetensors", "val_probs.npy")}
    metrics = [dataclasses.replace(item, seconds=0.0, sequences_per_second=0.0) for item in run.read_metrics()]
    return {**files, "metrics": metrics, "result": dataclasses.replace(run.read_result(), seconds=0.0)}


def test_a_directory_is_complete_and_readable(finished: RunDir, dataset: PackedDataset, config: TrainConfig) -> None:
    names = {"config.json", "metrics.jsonl", "weights.safetensors", "val_probs.npy", "done.json"}
    assert {path.name for path in finished.path.iterdir()} == names
    assert finished.read_config() == config
    metrics, result = finished.read_metrics(), finished.read_result()
    assert result.batch_size == Batches(dataset, config, torch.device("cpu")).batch_size
    assert [item.epoch for item in metrics] == [1, 2, 3]
    assert metrics[-1].learning_rate == pytest.approx(1e-4, rel=1e-9)
    assert all(item.seconds > 0 and item.sequences_per_second > 0 for item in metrics)
    assert (result.val_accuracy, result.val_log_loss) == (metrics[-1].val_accuracy, metrics[-1].val_log_loss)
    assert result.seconds == pytest.approx(sum(item.seconds for item in metrics))
    assert result.num_parameters == sum(tensor.numel() for tensor in finished.read_weights().values())
    assert (result.epochs, result.precision, result.device) == (3, "float32", "cpu")
    assert result.data_fingerprint == dataset.fingerprint


def test_val_probs_are_what_the_weights_say_of_each_held_out_sequence(
    finished: RunDir, dataset: PackedDataset, config: TrainConfig
) -> None:
    model = SignClassifier(config.model)
    model.load_state_dict(finished.read_weights())
    _, held_out = dataset.split(config.num_folds, config.fold)
    assert dataset.lengths[held_out].max() > MAX_FRAMES
    rows = []
    for index in held_out:
        frames = torch.from_numpy(np.array(dataset.sequence(index)))
        if len(frames) > MAX_FRAMES:  # nearest neighbour, by PyTorch
            columns = F.interpolate(frames.reshape(1, len(frames), -1).mT, size=MAX_FRAMES, mode="nearest")
            frames = columns.mT.reshape(MAX_FRAMES, 85, 2)
        with torch.no_grad():
            rows.append(torch.softmax(model(frames, np.array([len(frames)]))[0], dim=0))
    expected, labels = torch.stack(rows).numpy(), dataset.labels[held_out]
    np.testing.assert_allclose(finished.read_val_probs(), expected, atol=1e-3)
    result = finished.read_result()
    assert result.val_accuracy == np.mean(expected.argmax(axis=1) == labels)
    expected_loss = -np.log(expected[np.arange(len(labels)), labels]).mean()
    assert result.val_log_loss == pytest.approx(expected_loss, abs=1e-5)


EVERY_AUGMENTATION: dict[str, Any] = {
    "mixup_partners": 2,
    "align_partners": True,
    "time_stretch": 0.3,
    "time_interpolation": "spline",
    "rotation": 10.0,
    "scale": 0.1,
    "group_shift": 0.02,
    "landmark_shift": 0.02,
    "label_smoothing": 0.05,
}


@pytest.mark.parametrize("changes", [{}, EVERY_AUGMENTATION], ids=["recipe", "every augmentation"])
def test_training_learns(changes: dict[str, Any], dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    result = train(config.replace(epochs=12, **changes), dataset, run)
    assert result.val_accuracy > 0.8  # chance: 0.25
    assert result.val_log_loss < 0.7  # chance: 1.39
    losses = [item.train_loss for item in run.read_metrics()]
    assert losses[-1] < 0.8 * losses[0]


def test_a_finished_run_returns_its_result_at_once(
    finished: RunDir, dataset: PackedDataset, config: TrainConfig
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in finished.path.iterdir()}
    assert train(config, dataset, finished) == finished.read_result()
    assert {path.name: path.stat().st_mtime_ns for path in finished.path.iterdir()} == before


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: (path / "weights.safetensors").unlink(), r"weights.safetensors: is gone"),
        (lambda path: (path / "val_probs.npy").write_bytes(b"x"), r"val_probs.npy: is not the file that the training"),
        (
            lambda path: (path / "done.json").write_text(
                json.dumps({**json.loads((path / "done.json").read_text()), "val_accuracy": 0.123})
            ),
            r"done.json: val_accuracy: 0.1230, but metrics.jsonl has",
        ),
    ],
)
def test_a_finished_run_that_was_changed_is_not_believed(
    harm: Callable[[Path], object],
    words: str,
    finished: RunDir,
    dataset: PackedDataset,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    copy = Path(shutil.copytree(finished.path, tmp_path / "run"))
    harm(copy)
    with pytest.raises(UserError, match=words):
        train(config, dataset, copy)


def test_report_comes_after_each_epochs_checkpoint(dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    reported: list[EpochMetrics] = []

    def report(metrics: EpochMetrics) -> None:
        reported.append(metrics)
        checkpoint = run.read_checkpoint()
        assert checkpoint is not None
        assert checkpoint[1]["epochs"] == metrics.epoch
        assert run.read_metrics() == reported

    train(config, dataset, run, report=report)
    assert [metrics.epoch for metrics in reported] == [1, 2, 3]


class Stop(Exception):
    """Raised by a report, as a scheduler does that has seen enough."""


def stopping_after(epoch: int) -> Callable[[EpochMetrics], None]:
    def report(metrics: EpochMetrics) -> None:
        if metrics.epoch == epoch:
            raise Stop

    return report


@pytest.mark.parametrize("stops", [[1], [2], [1, 2], [3]])
def test_a_run_stopped_by_report_goes_on_bitwise(
    stops: list[int], finished: RunDir, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    for epoch in stops:
        with pytest.raises(Stop):
            train(config, dataset, run, report=stopping_after(epoch))
        assert not run.is_done
    train(config, dataset, run)
    assert outcome(run) == outcome(finished)


@pytest.mark.parametrize("checkpointed", [0, 1])
def test_metrics_of_an_epoch_that_was_not_checkpointed_are_dropped(
    checkpointed: int, finished: RunDir, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    """As when the power fails between the line and the checkpoint."""
    run = RunDir(tmp_path)
    if checkpointed:
        with pytest.raises(Stop):
            train(config, dataset, run, report=stopping_after(checkpointed))
    run.append_metrics(finished.read_metrics()[checkpointed])
    train(config, dataset, run)
    assert outcome(run) == outcome(finished)


def other_progress(state: dict[str, Any], _: dict[str, torch.Tensor]) -> None:
    state["epochs"] = "1"


def no_weights(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.head.weight"]


def wide_weights(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["ema.head.bias"] = torch.zeros(1)  # which would be broadcast


def wide_momentum(_: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["optimizer.model.head.bias.exp_avg"] = torch.zeros(7)


@pytest.mark.parametrize("spoil", [other_progress, no_weights, wide_weights, wide_momentum])
def test_a_checkpoint_that_is_not_of_the_run_is_named(
    spoil: Callable[[dict[str, Any], dict[str, torch.Tensor]], None],
    dataset: PackedDataset,
    config: TrainConfig,
    tmp_path: Path,
) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(Stop):
        train(config, dataset, run, report=stopping_after(1))
    tensors, state = run.read_checkpoint() or ({}, {})
    spoil(state, tensors)
    run.write_checkpoint(tensors, state)
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: is not of this run \(.*\); remove it to train"):
        train(config, dataset, run)
    run.remove_checkpoint()
    assert train(config, dataset, run).epochs == config.epochs


def test_another_configuration_is_refused(finished: RunDir, dataset: PackedDataset, config: TrainConfig) -> None:
    before = outcome(finished)
    with pytest.raises(UserError, match="another configuration"):
        train(config.replace(seed=1), dataset, finished)
    assert outcome(finished) == before


@pytest.mark.parametrize("epochs", [1, 3])
def test_another_dataset_is_refused(epochs: int, dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    run, other = RunDir(tmp_path), dataclasses.replace(dataset, fingerprint="another")
    with contextlib.suppress(Stop):
        train(config, dataset, run, report=None if epochs == config.epochs else stopping_after(epochs))
    with pytest.raises(UserError, match="another dataset"):
        train(config, other, run)


def test_a_dataset_with_other_signs_is_refused(dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{NUM_SIGNS} signs, but num_signs is 250"):
        train(config.replace(num_signs=250), dataset, RunDir(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cause", ["data", "learning rate", "last step"])
def test_a_diverged_run_stops_and_is_no_candidate(
    cause: str, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    if cause == "data":
        dataset = dataclasses.replace(dataset, frames=np.full_like(dataset.frames, np.inf))
    else:
        config = config.replace(learning_rate=1e38)
    if cause == "last step":  # no loss is left that could show it
        config = config.replace(epochs=1, steps_per_epoch=1)
    run = RunDir(tmp_path)
    with pytest.raises(TrainingDivergedError, match=r"became (nan|inf)"):
        train(config, dataset, run)
    assert not run.is_done
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_steps_with_a_bad_gradient_are_left_out_and_counted(
    optimizer: str, dataset: PackedDataset, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config.replace(optimizer=optimizer, epochs=2, steps_per_epoch=12)
    clip, bad, steps = Learner.clip_gradients, {1, 2, 14}, itertools.count()

    def clip_bad_ones(learner: Learner, largest: float) -> torch.Tensor:
        if next(steps) in bad:
            gradient = next(learner.model.parameters()).grad
            assert gradient is not None
            gradient.view(-1)[0] = math.nan
        return clip(learner, largest)

    monkeypatch.setattr(Learner, "clip_gradients", clip_bad_ones)
    run = RunDir(tmp_path / "some")
    train(config, dataset, run)
    assert [metrics.skipped_steps for metrics in run.read_metrics()] == [2, 1]
    first = SignClassifier(config.model, torch.Generator().manual_seed(config.seed)).state_dict()
    for name, weights in run.read_weights().items():
        assert weights.isfinite().all()
        assert not torch.equal(weights, first[name]), "the weights moved on"

    bad, steps = set(range(2, 12)), itertools.count()
    with pytest.raises(
        TrainingDivergedError, match=r"gradient became nan or inf in 10 of 12 steps of epoch 1, 10 of them"
    ):
        train(config, dataset, RunDir(tmp_path / "many"))


def test_no_participant_is_on_both_sides(dataset: PackedDataset, config: TrainConfig) -> None:
    for fold in range(config.num_folds):
        batches = Batches(dataset, config.replace(fold=fold), torch.device("cpu"))
        trained, held_out = batches.train_indices, batches.val_indices
        assert not set(dataset.participants[trained]) & set(dataset.participants[held_out])
        assert sorted([*trained, *held_out]) == list(range(len(dataset)))


def test_held_out_participants_leave_no_trace_in_the_weights(
    finished: RunDir, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    _, held_out = dataset.split(config.num_folds, config.fold)
    frames, labels = np.array(dataset.frames), dataset.labels.copy()
    for index in held_out:
        frames[dataset.starts[index] : dataset.starts[index] + dataset.lengths[index]] += 1
    labels[held_out] = (labels[held_out] + 1) % NUM_SIGNS
    run = RunDir(tmp_path)
    train(config, dataclasses.replace(dataset, frames=frames, labels=labels), run)
    assert (run.path / "weights.safetensors").read_bytes() == (finished.path / "weights.safetensors").read_bytes()
    assert run.read_result().val_log_loss != finished.read_result().val_log_loss


@pytest.mark.parametrize(
    ("has", "precision"),
    [((), "float32"), (("avx512_bf16",), "float32"), (("avx512_bf16", "amx_bf16"), "bfloat16")],
)
def test_auto_is_the_faster_precision(has: tuple[str, ...], precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(has, True))
    assert resolve_precision("auto", torch.device("cpu")) == precision
    assert resolve_precision("bfloat16", torch.device("cpu")) == "bfloat16"


CHANGES: dict[str, Any] = {
    "num_heads": 2,
    "num_layers": 2,
    "dropout": 0.2,
    "dropout_start": 0.5,
    "drop_path": 0.5,
    "conv_kernel": 3,
    "swa_start": 0.5,
    "frame_drop": 0.5,
    "span_drop": 0.5,
    "landmark_drop": 0.3,
    "hand_drop": 0.5,
    "max_frames": 8,
    "epochs": 2,
    "steps_per_epoch": 5,
    "batch_size": 15,
    "learning_rate": 9e-4,
    "final_learning_rate_ratio": 0.2,
    "weight_decay": 2e-3,
    "clip_norm": 0,
    "ema_decay": 0.3,
    "copies": 2,
    "mixup_alpha": 0.4,
    "mirror_probability": 0.6,
    "mixup_partners": 2,
    "align_partners": True,
    "time_stretch": 0.3,
    "time_interpolation": "spline",
    "rotation": 5.0,
    "scale": 0.1,
    "group_shift": 0.02,
    "landmark_shift": 0.01,
    "label_smoothing": 0.1,
    "landmarks": "hands_lips",
    "motion": 0,
    "distances": True,
    "hand_frame": True,
    "norm": "layernorm",
    "learned_positions": False,
    "rotary": False,
    "pooling": "mean",
    "optimizer": "adamw",
    "next_frame_frequency": 0.5,
    "num_folds": 4,
    "fold": 1,
    "all_participants": True,
    "precision": "bfloat16",
    "seed": 1,
}


NEEDED: dict[str, dict[str, Any]] = {"time_interpolation": {"time_stretch": 0.3}}
"""What a field's change needs beside it to show."""


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_changes_the_weights(
    name: str, finished: RunDir, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    without, changed = finished, RunDir(tmp_path / "changed")
    if name in NEEDED:
        config, without = config.replace(**NEEDED[name]), RunDir(tmp_path / "without")
        train(config, dataset, without)
    train(config.replace(**{name: CHANGES[name]}), dataset, changed)
    assert (changed.path / "weights.safetensors").read_bytes() != (without.path / "weights.safetensors").read_bytes()


def test_no_field_is_left_out_of_the_changes() -> None:
    fields = {item.name for kind in (ModelConfig, TrainConfig) for item in dataclasses.fields(kind)}
    assert set(CHANGES) == fields - {"model", "num_signs"}


def test_two_runs_alike_end_alike(
    finished: RunDir, dataset: PackedDataset, config: TrainConfig, tmp_path: Path
) -> None:
    train(config, dataset, RunDir(tmp_path))
    assert outcome(RunDir(tmp_path)) == outcome(finished)


GOLDEN_TRAIN_LOSS = [0.991152, 0.527805, 0.467981, 0.390035, 0.465476]
GOLDEN_VAL_LOG_LOSS = [0.337324, 0.193254, 0.211243, 0.186593, 0.168425]


def test_a_run_may_be_given_by_its_path(dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    result = train(config.replace(epochs=1, steps_per_epoch=1), dataset, str(tmp_path / "run"))
    assert RunDir(tmp_path / "run").read_result() == result


def test_golden_loss_curve(dataset: PackedDataset, config: TrainConfig, tmp_path: Path) -> None:
    """Guards every refactor: on CPU in float32, losses stay within 0.001 of the committed ones.

    Another order of summation moves them by less than that; another random draw or formula by more, and the numbers
    are then renewed in the commit that explains why.
    """
    run = RunDir(tmp_path)
    train(config.replace(num_heads=2, num_layers=2, motion=0, epochs=5, learning_rate=3e-4), dataset, run)
    metrics = run.read_metrics()
    assert [item.train_loss for item in metrics] == pytest.approx(GOLDEN_TRAIN_LOSS, abs=1e-3)
    assert [item.val_log_loss for item in metrics] == pytest.approx(GOLDEN_VAL_LOG_LOSS, abs=1e-3)
