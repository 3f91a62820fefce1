import numpy as np
import pytest
import torch

from trainer.model.dropout import Dropout, DropPath
from trainer.model.packing import Packing

pytestmark = pytest.mark.usefixtures("threads")

SHAPE = (1000, 401)  # odd, so that the count is no multiple of what one draw serves


def drop(probability: float, seed: int = 0) -> torch.Tensor:
    return Dropout(probability, np.random.default_rng(seed))(torch.ones(SHAPE))


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.4, 0.9])
def test_rate_scale_and_expectation(probability: float) -> None:
    dropped = drop(probability)
    share = (dropped == 0).float().mean().item()
    deviation = (probability * (1 - probability) / dropped.numel()) ** 0.5
    assert abs(share - probability) < 5 * deviation + 1 / 65536
    (kept,) = dropped[dropped != 0].unique().tolist()
    assert kept == pytest.approx(1 / (1 - probability), rel=1e-4)
    assert abs(dropped.double().mean().item() - 1) < 5 * deviation / (1 - probability)


def test_elements_are_dropped_independently_of_their_neighbours() -> None:
    zero = drop(0.3).eq(0).double()
    for lag in (1, 2, 3, 4):
        neighbours = (zero[:, lag:] * zero[:, :-lag]).mean().item()
        assert neighbours == pytest.approx(0.09, abs=0.003)
    assert (zero[1:] * zero[:-1]).mean().item() == pytest.approx(0.09, abs=0.003)


def test_a_seed_decides_what_is_dropped() -> None:
    assert torch.equal(drop(0.1, seed=3), drop(0.1, seed=3))
    assert not torch.equal(drop(0.1, seed=3), drop(0.1, seed=4))


def test_one_generator_drops_something_else_each_time() -> None:
    dropout = Dropout(0.5, np.random.default_rng(0))
    x = torch.ones(SHAPE)
    assert not torch.equal(dropout(x), dropout(x))


def test_nothing_is_dropped_without_a_generator_or_a_probability() -> None:
    x = torch.randn(SHAPE)
    assert torch.equal(Dropout(0.5, None)(x), x)
    assert torch.equal(Dropout(0.0, np.random.default_rng(0))(x), x)


def test_the_gradient_is_dropped_alike() -> None:
    x = torch.randn(SHAPE, requires_grad=True)
    dropped = Dropout(0.25, np.random.default_rng(0))(x)
    dropped.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), dropped.detach())
    assert dropped.dtype == x.dtype


LENGTHS = np.array([3, 1, 4, 2] * 500)
PACKING = Packing(LENGTHS, torch.device("cpu"))


def skip(rows: int, probability: float = 0.3, seed: int = 0) -> torch.Tensor:
    return DropPath(probability, PACKING, np.random.default_rng(seed))(torch.ones(rows, 5))


def test_a_branch_is_skipped_for_whole_sequences_and_else_scaled() -> None:
    of_tokens = skip(int(LENGTHS.sum()))
    of_sequences = skip(len(LENGTHS))
    assert sorted(of_sequences.unique().tolist()) == pytest.approx([0, 1 / 0.7])
    torch.testing.assert_close(of_tokens, of_sequences.repeat_interleave(torch.from_numpy(LENGTHS), dim=0))
    assert of_sequences[:, 0].mean().item() == pytest.approx(1, abs=0.06)
    assert not torch.equal(of_sequences, skip(len(LENGTHS), seed=1))


def test_nothing_is_skipped_without_a_generator_or_at_probability_0() -> None:
    branch = torch.ones(4, 5)
    assert DropPath(0.9, PACKING, None)(branch) is branch
    rng = np.random.default_rng(0)
    assert DropPath(0.0, PACKING, rng)(branch) is branch
    assert rng.random() == np.random.default_rng(0).random()  # nor is anything drawn
