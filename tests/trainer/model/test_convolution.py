"""Convolution of packed sequences, against the sum as textbooks have it, sequence by sequence in float64."""

import numpy as np
import pytest
import torch

from trainer.model.convolution import Convolution, convolve
from trainer.model.packing import Packing

pytestmark = pytest.mark.usefixtures("threads")
LENGTHS = np.array([4, 1, 2, 9, 1, 3])


def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Element by element, of each sequence alone."""
    radius, rows = len(weight) // 2, []
    for sequence in torch.split(x, LENGTHS.tolist()):
        for i in range(len(sequence)):
            near = [j for j in range(len(sequence)) if abs(j - i) <= radius]
            rows.append(torch.stack([weight[j - i + radius] * sequence[j] for j in near]).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("kernel", [3, 5, 31])
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_value_and_gradients(kernel: int, dtype: torch.dtype, share: float) -> None:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(int(LENGTHS.sum()), 64, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(kernel, 64, generator=generator, requires_grad=True)
    doubles = [item.detach().double().requires_grad_() for item in (x, weight)]
    out, expected = convolve(x, weight, Packing(LENGTHS, x.device)), plain(*doubles)
    assert out.dtype == dtype
    towards = torch.randn(out.shape, generator=generator)
    gradients = torch.autograd.grad((out.float() * towards).sum(), (x, weight))
    wanted = torch.autograd.grad((expected * towards.double()).sum(), doubles)
    for ours, theirs in zip((out, *gradients), (expected, *wanted), strict=True):
        assert (ours.double() - theirs).norm() <= share * theirs.norm()


def test_by_hand() -> None:
    x = torch.tensor([[1.0], [10.0], [100.0], [7.0]])
    out = convolve(x, torch.tensor([[2.0], [1.0], [3.0]]), Packing(np.array([3, 1]), x.device))
    assert out[:, 0].tolist() == [31.0, 312.0, 120.0, 7.0]


def test_causal_sees_nothing_that_comes_later() -> None:
    layer = Convolution(5, 64)
    torch.nn.init.ones_(layer.weight)
    x = torch.arange(1.0, 5).repeat(64, 1).T.contiguous()
    packing = Packing(np.array([4]), x.device)
    assert layer(x, packing, causal=True)[:, 0].tolist() == [1.0, 3.0, 6.0, 9.0]
    assert layer(x, packing)[:, 0].tolist() == [6.0, 10.0, 10.0, 9.0]
