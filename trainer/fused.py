"""Operations of the model with hand-written gradients: autograd's own would pass over memory twice as often.

Each is a torch.autograd.Function behind a plain function; tests compare value and gradient with the
obvious formula.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, as ``dtype``: [n, width] -> [n, width]."""
    out: torch.Tensor = _RMSNorm.apply(x, weight, eps, dtype)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normalized = x * scale
        ctx.save_for_backward(normalized, scale, weight)
        out: torch.Tensor = (normalized * weight).to(dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        normalized, scale, weight = ctx.saved_tensors
        grad = grad.to(normalized.dtype)
        product = grad * normalized
        grad_weight = product.sum(0)
        along = torch.mv(product, weight).div_(product.shape[-1])[:, None]
        grad_x = torch.addcmul(grad * weight, normalized, along, value=-1).mul_(scale)
        return grad_x, grad_weight, None, None


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of the two halves of the last dimension: [n, 2 * hidden] -> [n, hidden]."""
    out: torch.Tensor = _SwiGLU.apply(gate_up)
    return out


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        activated = F.silu(gate)
        ctx.save_for_backward(gate_up, activated)  # exp takes longer than memory
        return activated * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        gate_up, activated = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        grad_gate_up = torch.empty_like(gate_up)
        grad_gate, grad_up = grad_gate_up.chunk(2, dim=-1)
        torch.mul(grad, activated, out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return grad_gate_up
