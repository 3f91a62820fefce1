import itertools
import math

import pytest
import torch
from torch import nn

from trainer.config import ModelConfig
from trainer.learning.optimizer import average_decay, cosine, decay_groups, ema_, ema_decay, make_optimizer
from trainer.model.classifier import SignClassifier

SHAPES = [(5, 3), (7,), (1, 4), (2, 2), (1,)]


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_lion_is_the_papers() -> None:
    """Algorithm 2 of arXiv:2302.06675, in float64, with decay on matrices only."""
    moved = parameters()
    lion = make_optimizer("lion", moved, 0.1)
    expected = [item.detach().double() for item in moved]
    momenta = [torch.zeros_like(item) for item in expected]
    generator = torch.Generator().manual_seed(1)
    for step in range(50):
        rate = cosine(step, 50, 1e-2, 1e-3)
        for group in lion.param_groups:
            group["lr"] = rate
        for index, parameter in enumerate(moved):
            gradient = torch.randn(parameter.shape, generator=generator) * 10.0 ** (index - 2)
            parameter.grad = None if (step, index) == (3, 1) else gradient
            if parameter.grad is None:
                continue
            update = torch.sign(0.9 * momenta[index] + 0.1 * gradient.double())
            decay = 0.1 if parameter.ndim >= 2 else 0.0
            expected[index] -= rate * (update + decay * expected[index])
            momenta[index] = 0.99 * momenta[index] + 0.01 * gradient.double()
        lion.step()
    for parameter, wanted in zip(moved, expected, strict=True):
        torch.testing.assert_close(parameter.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_learning_rate_on_the_device_moves_weights_as_a_number_does(weight_decay: float) -> None:
    by_number, by_tensor = parameters(), parameters()
    optimizers = [make_optimizer("lion", moved, weight_decay) for moved in (by_number, by_tensor)]
    generator = torch.Generator().manual_seed(1)
    for rate in (0.5, 0.25, 0.125):
        for index, shape in enumerate(SHAPES):
            gradient = torch.randn(shape, generator=generator)
            by_number[index].grad, by_tensor[index].grad = gradient.clone(), gradient.clone()
        by_tensor[0].grad = by_number[0].grad = None
        for optimizer, its in zip(optimizers, (rate, torch.tensor(rate)), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = its
            optimizer.step()
    for parameter, wanted in zip(by_tensor, by_number, strict=True):
        torch.testing.assert_close(parameter, wanted, rtol=1e-6, atol=1e-7)
        states = [optimizer.state[item] for optimizer, item in zip(optimizers, (wanted, parameter), strict=True)]
        assert [state.keys() for state in states] == [states[0].keys()] * 2
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_averages_move_alike_by_a_weight_on_the_device() -> None:
    averages, others = ([item.detach() for item in parameters()] for _ in range(2))
    moved = [item.detach() + 1 for item in parameters()]
    ema_(averages, moved, 1 - 0.9999)
    ema_(others, moved, torch.tensor(1 - 0.9999))
    for average, other in zip(averages, others, strict=True):
        torch.testing.assert_close(average, other, rtol=1e-6, atol=1e-7)


def test_decay_is_on_matrices_only_and_every_parameter_is_in_one_group() -> None:
    model = SignClassifier(ModelConfig(num_heads=1, num_layers=2, num_signs=3))
    names = {parameter: name for name, parameter in model.named_parameters()}
    decaying, still = decay_groups(list(model.parameters()), 0.25)
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.25, 0.0)
    assert sorted(names[p] for p in [*decaying["params"], *still["params"]]) == sorted(names.values())
    expected = {name for name in names.values() if name.endswith("norm.weight") or name in ("cls", "head.bias")}
    assert {names[parameter] for parameter in still["params"]} == expected


def test_cosine_goes_from_the_first_to_the_last_learning_rate() -> None:
    rates = [cosine(step, 1001, 1e-4, 1e-5) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4, rel=1e-12)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-12)
    assert rates[500] == pytest.approx(5.5e-5, rel=1e-12)
    assert rates[250] == pytest.approx(1e-5 + 9e-5 * (2 + math.sqrt(2)) / 4, rel=1e-12)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates))
    assert cosine(0, 1, 1e-4, 1e-5) == pytest.approx(1e-4)


def test_cosine_equals_pytorchs_scheduler() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=39, eta_min=1e-5)
    for step in range(40):
        assert cosine(step, 40, 1e-4, 1e-5) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_ema_decay_is_ramped() -> None:
    assert [ema_decay(n, 0.9999) for n in (0, 1, 8)] == [1 / 10, 2 / 11, 9 / 18]
    assert ema_decay(89_988, 0.9999) < 0.9999
    assert ema_decay(89_990, 0.9999) == ema_decay(10**9, 0.9999) == 0.9999
    assert ema_decay(100, 0.0) == 0.0


def test_ema_equals_a_plain_loop() -> None:
    averages, expected = ([p.detach().clone() for p in parameters()] for _ in range(2))
    generator = torch.Generator().manual_seed(2)
    for step in range(30):
        weights = [torch.randn(shape, generator=generator) for shape in SHAPES]
        ema_(averages, weights, 1 - ema_decay(step, 0.9999))
        decay = min(0.9999, (1 + step) / (10 + step))
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, weights, strict=True)]
    for average, wanted in zip(averages, expected, strict=True):
        torch.testing.assert_close(average, wanted, rtol=1e-5, atol=1e-6)


def test_from_its_start_on_swa_is_the_plain_mean_and_a_moving_average_before() -> None:
    steps = [torch.randn(3, generator=torch.Generator().manual_seed(step)) for step in range(20)]
    average, moving = torch.zeros(3), torch.zeros(3)
    for step, weights in enumerate(steps):
        ema_([average], [weights], 1 - average_decay(step, 20, 0.99, 0.6))
        ema_([moving], [weights], 1 - average_decay(step, 20, 0.99, 0.0))
        if step < 12:
            assert torch.equal(average, moving)
        else:
            torch.testing.assert_close(average, torch.stack(steps[12 : step + 1]).mean(dim=0))
    assert average_decay(7, 20, 0.99, 0.0) == ema_decay(7, 0.99)
