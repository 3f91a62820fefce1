"""Depthwise convolution over time, of packed sequences: a token sees its neighbours of the same sequence alone."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from trainer.model.ops import arrays, in_loops
from trainer.model.packing import Packing


class Convolution(nn.Module):
    """Each channel's own weighted sum over the tokens around, zeros beyond a sequence's ends."""

    def __init__(self, kernel: int, width: int) -> None:
        """``kernel``, which is odd, is how many tokens are summed."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(kernel, width))

    def forward(self, x: torch.Tensor, packing: Packing, *, causal: bool = False) -> torch.Tensor:
        """[num_tokens, width] -> the same; ``causal`` leaves out what comes after a token."""
        weight: torch.Tensor = self.weight
        if causal:
            weight = torch.cat((weight[: len(weight) // 2 + 1], torch.zeros_like(weight[len(weight) // 2 + 1 :])))
        return convolve(x, weight, packing)


def convolve(x: torch.Tensor, weight: torch.Tensor, packing: Packing) -> torch.Tensor:
    """out[i] = sum over j of weight[j - i + kernel // 2] * x[j], j in i's sequence: [num_tokens, width] -> the same.

    ``weight`` is float32 [kernel, width]. Float32 on one CPU thread goes through compiled loops, which know where
    sequences end; elsewhere sequences are laid out with zeros between them for torch's own convolution.
    """
    if in_loops(x, weight):
        out: torch.Tensor = _InLoops.apply(x, weight, packing.ends.numpy())
        return out
    radius = len(weight) // 2
    places = packing.spread(radius)
    spread = x.new_zeros(packing.num_tokens + radius * (len(packing.lengths) - 1), x.shape[1])
    spread = spread.index_copy(0, places, x)
    kernels = weight.to(x.dtype).T[:, None]
    return F.conv1d(spread.T[None], kernels, padding=radius, groups=x.shape[1])[0].T[places]


class _InLoops(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, ends: np.ndarray) -> torch.Tensor:
        from trainer.model import loops  # numba, which takes half a second, where it is used

        out = torch.empty_like(x)
        loops.convolve(*arrays(x), ends, *arrays(weight, out))
        ctx.save_for_backward(x, weight)
        ctx.ends = ends
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        from trainer.model import loops

        x, weight = ctx.saved_tensors
        grad, grad_x, grad_weight = grad.contiguous(), torch.empty_like(x), np.zeros(weight.shape)
        loops.convolve(*arrays(grad), ctx.ends, *arrays(weight.flip(0), grad_x))
        loops.convolve_backward_weight(*arrays(x), ctx.ends, *arrays(grad), grad_weight)
        return grad_x, torch.from_numpy(grad_weight).to(weight.dtype), None
