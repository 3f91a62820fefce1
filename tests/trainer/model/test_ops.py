"""Hand-written gradients against autograd's own, of the formulas as papers print them."""

from collections.abc import Callable

import pytest
import torch

from trainer.model.ops import rms_norm, swiglu

pytestmark = pytest.mark.usefixtures("threads")


def plain_rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight


def plain_swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return gate / (1 + (-gate).exp()) * up


def compare(
    function: Callable[..., torch.Tensor], plain: Callable[..., torch.Tensor], inputs: list[torch.Tensor], share: float
) -> None:
    doubles = [item.detach().double().requires_grad_() for item in inputs]
    inputs = [item.requires_grad_() for item in inputs]
    out, expected = function(*inputs), plain(*doubles)
    towards = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    gradients = torch.autograd.grad((out.float() * towards).sum(), inputs)
    wanted = torch.autograd.grad((expected * towards.double()).sum(), doubles)
    for ours, theirs in zip((out, *gradients), (expected, *wanted), strict=True):
        assert (ours.double() - theirs).norm() <= share * theirs.norm()


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_rms_norm(dtype: torch.dtype, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(50, 128, generator=generator), torch.randn(128, generator=generator)
    x[:10] *= 100
    x[10:20] *= 1e-3  # here eps decides
    x[20] = 0
    assert rms_norm(x, weight, 1e-5, dtype).dtype == dtype
    compare(lambda x, weight: rms_norm(x, weight, 1e-5, dtype), plain_rms_norm, [x, weight], share)


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_swiglu(dtype: torch.dtype, share: float) -> None:
    gate_up = (4 * torch.randn(50, 256, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert swiglu(gate_up).dtype == dtype
    compare(swiglu, plain_swiglu, [gate_up], share)


def test_nothing_hides_a_nan() -> None:
    """Training stops at one."""
    gate_up = torch.tensor([[torch.nan, 1.0, torch.inf, 1.0]], requires_grad=True)
    assert swiglu(gate_up).isnan().tolist() == [[True, False]]
    x = torch.tensor([[1.0, torch.nan]], requires_grad=True)
    out = rms_norm(x, torch.ones(2, requires_grad=True), 1e-5, torch.float32)
    assert out.isnan().all()
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.isnan().all()


@pytest.mark.parametrize("size", [0.0, 20.0, 80.0, 200.0])
def test_swiglu_of_large_gates(size: float) -> None:
    gate_up = torch.tensor([[size, -size, 1.0, 1.0]])
    torch.testing.assert_close(swiglu(gate_up), torch.tensor([[size, 0.0]]), atol=1e-6, rtol=1e-6)
