"""A gradient that is not finite leaves no trace, and such steps are counted."""

import math

import pytest
import torch
from torch import nn

from trainer.learning.guard import StepGuard
from trainer.learning.optimizer import make_optimizer

SHAPES = [(5, 3), (7,)]
CPU = torch.device("cpu")


def begin(name: str) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    optimizer = make_optimizer(name, [*parameters], 0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    return parameters, optimizer


def run(
    name: str, bad_steps: dict[int, float], num_steps: int, *, on_device: bool
) -> tuple[list[torch.Tensor], StepGuard]:
    """Weights after steps of which some, by number, have a gradient with one such value, clipped as all are."""
    parameters, optimizer = begin(name)
    guard = StepGuard(optimizer, CPU)
    for step in range(num_steps):
        for item in parameters:
            item.grad = torch.randn(item.shape, generator=torch.Generator().manual_seed(step))
        if step in bad_steps:
            assert parameters[0].grad is not None
            parameters[0].grad[1, 1] = bad_steps[step]
        norm = nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        (guard.step_on_device if on_device else guard.step)(norm)
        optimizer.zero_grad()
    return [item.detach() for item in parameters], guard


def expected(name: str, good_steps: list[int]) -> list[torch.Tensor]:
    """Weights after these steps alone."""
    parameters, optimizer = begin(name)
    for step in good_steps:
        for item in parameters:
            item.grad = torch.randn(item.shape, generator=torch.Generator().manual_seed(step))
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
    return [item.detach() for item in parameters]


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad", [[0], [0, 1, 4], [5], [2, 3], [7], [6, 7]])
@pytest.mark.parametrize("name", ["lion", "adamw"])
def test_a_step_with_a_bad_gradient_is_as_if_it_had_not_been(
    name: str, bad: list[int], value: float, on_device: bool
) -> None:
    weights, guard = run(name, dict.fromkeys(bad, value), 8, on_device=on_device)
    for found, wanted in zip(weights, expected(name, [step for step in range(8) if step not in bad]), strict=True):
        assert torch.equal(found, wanted)
    assert guard.skipped == len(bad)
    assert guard.longest == (2 if len(bad) > 1 else 1)


@pytest.mark.parametrize("name", ["lion", "adamw"])
def test_without_bad_gradients_the_steps_are_the_optimizers_own(name: str) -> None:
    for on_device in (False, True):
        weights, guard = run(name, {}, 8, on_device=on_device)
        assert all(torch.equal(*pair) for pair in zip(weights, expected(name, list(range(8))), strict=True))
        assert (guard.skipped, guard.longest) == (0, 0)
