"""Operations of the model with hand-written gradients: autograd's own would pass over memory twice as often.

Each is a torch.autograd.Function behind a plain function; tests compare value and gradient with the obvious formula.
Float32 on one CPU thread, which is how a search trains, goes through compiled loops (trainer.model.loops).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable


def in_loops(*tensors: torch.Tensor) -> bool:
    """Whether compiled loops are the fastest, and can be used: float32 in one piece, on one CPU thread.

    On more threads, torch's own operations share their work.
    """
    return torch.get_num_threads() == 1 and all(
        item.device.type == "cpu" and item.dtype == torch.float32 and item.is_contiguous() for item in tensors
    )


def arrays(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    """The tensors' memory as arrays."""
    return tuple(item.detach().numpy() for item in tensors)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, as ``dtype``: [n, width] -> [n, width]."""
    if dtype == torch.float32 and in_loops(x, weight):
        out: torch.Tensor = _RMSNormInLoops.apply(x, weight, eps)
    else:
        out = _RMSNorm.apply(x, weight, eps, dtype)
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


class _RMSNormInLoops(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        from trainer.model import loops  # numba, which takes half a second, where it is used

        out, scale = torch.empty_like(x), x.new_empty(len(x))
        loops.rms_norm(*arrays(x, weight), eps, *arrays(out, scale))
        ctx.save_for_backward(x, weight, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        from trainer.model import loops

        x, weight, scale = ctx.saved_tensors
        grad_x, grad_weight = torch.empty_like(x), np.zeros(len(weight))
        loops.rms_norm_backward(*arrays(x, weight, scale, grad.contiguous(), grad_x), grad_weight)
        return grad_x, torch.from_numpy(grad_weight).to(weight.dtype), None


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up of the two halves of the last dimension: [n, 2 * hidden] -> [n, hidden]."""
    function = _SwiGLUInLoops if in_loops(gate_up) else _SwiGLU
    out: torch.Tensor = function.apply(gate_up)
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


class _SwiGLUInLoops(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        from trainer.model import loops

        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        loops.swiglu(*arrays(gate_up, out))
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        from trainer.model import loops

        (gate_up,) = ctx.saved_tensors
        grad_gate_up = torch.empty_like(gate_up)
        loops.swiglu_backward(*arrays(gate_up, grad.contiguous(), grad_gate_up))
        return grad_gate_up
