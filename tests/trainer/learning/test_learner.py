"""What training changes, and that a checkpoint holds all of it."""

import numpy as np
import pytest
import torch

from trainer.config import ModelConfig, TrainConfig
from trainer.learning.learner import Learner, NextFrame
from trainer.model.packing import Packing

CONFIG = TrainConfig(model=ModelConfig(num_heads=1, num_layers=1, num_signs=3, max_frames=8), next_frame_frequency=0.5)
FRAMES, LENGTHS = torch.randn(6, 85, 2, generator=torch.Generator().manual_seed(0)), np.array([4, 2])


def step(learner: Learner) -> None:
    learner.model(FRAMES, LENGTHS).square().sum().backward()
    learner.optimizer.step()
    learner.optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", ["lion", "adamw"])
def test_a_learner_goes_on_bitwise_from_what_it_wrote(optimizer: str) -> None:
    config = CONFIG.replace(optimizer=optimizer)
    one, other = Learner(config, torch.device("cpu")), Learner(config.replace(seed=1), torch.device("cpu"))
    step(one)
    other.load({name: tensor.clone() for name, tensor in one.tensors().items()})
    for learner in (one, other):
        step(learner)
    tensors = other.tensors()
    assert tensors.keys() == one.tensors().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in one.tensors().items())


def test_a_checkpoint_of_an_older_version_is_understood() -> None:
    one, other = Learner(CONFIG, torch.device("cpu")), Learner(CONFIG, torch.device("cpu"))
    step(one)
    other.load({name.replace(".exp_avg", ".momentum"): tensor.clone() for name, tensor in one.tensors().items()})
    for learner in (one, other):
        step(learner)
    assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


def test_predicting_no_movement_costs_one() -> None:
    states = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    assert NextFrame(CONFIG.model).loss(states, FRAMES, Packing(LENGTHS, FRAMES.device).moving).item() == pytest.approx(
        1
    )
