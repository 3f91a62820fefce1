"""A step in memory that stays, as a GPU captures it, against the step that makes its tensors anew, for every option."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.learning.test_loop import CHANGES, NEEDED
from trainer.config import TrainConfig
from trainer.data.batches import Batch, Batches
from trainer.data.dataset import PackedDataset
from trainer.learning.learner import Learner
from trainer.learning.loop import train
from trainer.learning.static_step import StaticStep, fillers, why_not_captured
from trainer.learning.step import Step
from trainer.rundir import EpochMetrics, RunDir

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    name: {name: value} | NEEDED.get(name, {})
    for name, value in CHANGES.items()
    if name not in ("epochs", "steps_per_epoch", "num_folds", "fold", "all_participants", "precision", "seed")
} | {"two threads": {}, "bfloat16": {}}
STEPS = 8

each_option = pytest.mark.parametrize("option", OPTIONS)


class Filled(Step):
    """Steps on batches that are filled up in the same way, in tensors of their own."""

    def __call__(
        self, batch: Batch, learning_rate: float, decay: float, rng: np.random.Generator | None, *, predicts: bool
    ) -> None:
        more = fillers(len(batch.frames), self.config.model.max_frames)
        frames = torch.cat((batch.frames, batch.frames.new_zeros(int(more.sum()), 85, 2)))
        packing = self.learner.model.packing(np.concatenate((batch.lengths, more)), self.device)
        self.learn(frames, packing, batch.labels, batch.weights, learning_rate, 1 - decay, rng, predicts=predicts)


def learn(
    kind: type[Step],
    config: TrainConfig,
    dataset: PackedDataset,
    option: str = "",
    *,
    dropping: bool = True,
    device: torch.device = CPU,
    bad: int | None = None,
) -> tuple[Step, list[torch.Tensor]]:
    """The steps of an epoch or two, and the norm of the gradient in each."""
    torch.set_num_threads(2 if option == "two threads" else 1)
    steps = kind(Learner(config, device), config, torch.bfloat16 if option == "bfloat16" else torch.float32)
    norms: list[torch.Tensor] = []
    clip = steps.learner.clip_gradients

    def recording(largest: float) -> torch.Tensor:
        norms.append(clip(largest))
        return norms[-1]

    steps.learner.clip_gradients = recording  # type: ignore[method-assign]
    rng = np.random.Generator(np.random.SFC64(5))
    batches = Batches(dataset, config, device)
    with steps.stream():
        steps.begin_epoch()
        if device.type == "cuda":
            steps.seed(config.seed)
        for number, batch in enumerate(batch for epoch in range(3) for batch in batches.epoch(epoch)):
            if number == STEPS:
                break
            predicts = config.next_frame_frequency > 0 and number % 2 == 1
            if number == bad:
                batch.frames[0, 0, 0] = float("nan")
            dropped = rng if dropping and number != 2 else None
            steps(batch, 1e-3 / (1 + number), 0.3 + 0.1 * number, dropped, predicts=predicts)
        steps.total_loss.item()  # waits for a GPU
    return steps, norms


@each_option
def test_a_static_step_is_the_eager_one_bit_for_bit(option: str, config: TrainConfig, dataset: PackedDataset) -> None:
    config = config.replace(**{"dropout": 0.1, "batch_size": 16} | OPTIONS[option])
    static, _ = learn(StaticStep, config, dataset, option)
    eager, _ = learn(Filled, config, dataset, option)
    assert isinstance(static, StaticStep)
    assert 1 <= len(static._shapes) < STEPS, "no memory was used again"
    expected = eager.learner.tensors()
    for name, tensor in static.learner.tensors().items():
        assert torch.equal(tensor, expected[name]), name
    assert torch.equal(static.total_loss, eager.total_loss)


@each_option
def test_what_fills_a_batch_up_teaches_nothing(option: str, config: TrainConfig, dataset: PackedDataset) -> None:
    config = config.replace(**OPTIONS[option])
    filled, norms = learn(Filled, config, dataset, option, dropping=False)
    plain, expected = learn(Step, config, dataset, option, dropping=False)
    tolerance = 1e-2 if option == "bfloat16" else 1e-4
    torch.testing.assert_close(torch.stack(norms), torch.stack(expected), rtol=tolerance, atol=0)
    torch.testing.assert_close(filled.total_loss, plain.total_loss, rtol=tolerance, atol=0)


@pytest.mark.parametrize("longest", [1, 2, 3, 12, 513])
def test_batches_are_filled_up_to_few_sizes_with_as_many_sequences(longest: int) -> None:
    rng = np.random.default_rng(longest)
    shapes = set()
    for _ in range(500):
        frames = int(rng.integers(1, longest + 1, 100).sum())
        more = fillers(frames, longest)
        assert ((more >= 1) & (more <= longest)).all()
        assert more.sum() <= max(frames / 4, 64) + len(more)
        shapes.add((frames + int(more.sum()), len(more)))
    assert len(shapes) <= 5
    assert all(size % 64 == 0 for size, count in shapes if count)


def require_gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    return torch.device("cuda")


def require_alike(captured: Step, eager: Step) -> None:
    """All that training changes, to a hundredth of its size."""
    expected = eager.learner.tensors()
    off, size = 0.0, 0.0
    for name, tensor in captured.learner.tensors().items():
        off += float((tensor.float() - expected[name].float()).square().sum())
        size += float(expected[name].float().square().sum())
    assert off**0.5 <= 1e-2 * size**0.5


@pytest.mark.cuda
@each_option
def test_a_captured_step_learns_what_an_eager_one_learns(
    option: str, config: TrainConfig, dataset: PackedDataset
) -> None:
    gpu = require_gpu()
    config = config.replace(**{"batch_size": 16} | OPTIONS[option])
    captured, _ = learn(StaticStep, config, dataset, "bfloat16", dropping=False, device=gpu)
    eager, _ = learn(Filled, config, dataset, "bfloat16", dropping=False, device=gpu)
    assert isinstance(captured, StaticStep)
    assert any(shape.is_captured for shape in captured._shapes.values())
    torch.testing.assert_close(captured.total_loss, eager.total_loss, rtol=1e-2, atol=0)
    require_alike(captured, eager)


@pytest.mark.cuda
def test_a_captured_step_drops_anew_each_time_and_as_its_seed_says(config: TrainConfig, dataset: PackedDataset) -> None:
    gpu = require_gpu()
    config = config.replace(batch_size=16, dropout=0.3, drop_path=0.3, num_layers=2)
    one, same = (learn(StaticStep, config, dataset, "bfloat16", device=gpu)[1] for _ in range(2))
    other = learn(StaticStep, config, dataset, "bfloat16", dropping=False, device=gpu)[1]
    assert torch.equal(torch.stack(one), torch.stack(same))
    assert not torch.equal(torch.stack(one), torch.stack(other))


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_a_captured_step_leaves_a_bad_gradient_out(optimizer: str, config: TrainConfig, dataset: PackedDataset) -> None:
    gpu = require_gpu()
    config = config.replace(batch_size=16, optimizer=optimizer, mixup_alpha=0.0)
    captured, _ = learn(StaticStep, config, dataset, "bfloat16", dropping=False, device=gpu, bad=6)
    eager, _ = learn(Filled, config, dataset, "bfloat16", dropping=False, device=gpu, bad=6)
    assert captured.guard.skipped == eager.guard.skipped == 1
    assert all(tensor.isfinite().all() for tensor in captured.learner.tensors().values())
    require_alike(captured, eager)


@pytest.mark.cuda
@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_a_captured_run_goes_on_from_its_checkpoint(
    optimizer: str, config: TrainConfig, dataset: PackedDataset, tmp_path: Path
) -> None:
    require_gpu()
    config = config.replace(epochs=4, optimizer=optimizer, precision="bfloat16", dropout=0.0)

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            raise KeyboardInterrupt

    train(config, dataset, tmp_path / "whole", device="cuda", capture=True)
    with pytest.raises(KeyboardInterrupt):
        train(config, dataset, tmp_path / "halved", device="cuda", capture=True, report=stop)
    train(config, dataset, tmp_path / "halved", device="cuda", capture=True)
    losses = [
        [metrics.train_loss for metrics in RunDir(tmp_path / name).read_metrics()] for name in ("whole", "halved")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)


def test_what_cannot_be_captured_says_why() -> None:
    assert "no CUDA graphs" in why_not_captured(CPU, torch.bfloat16)
    assert "bfloat16" in why_not_captured(torch.device("cuda"), torch.float32)
    assert not why_not_captured(torch.device("cuda:1"), torch.bfloat16)
