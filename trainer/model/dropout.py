"""Dropout, of elements and of whole branches, whose random numbers come from an explicit generator.

Dropout of elements takes a tenth of the time of torch's on CPU. torch.nn.functional.dropout draws a Bernoulli variable
an element, on CPU one after the other: on small models that takes longer than the matrix products around it. Here an
element takes 16 bits of a 64-bit draw. The probability is rounded to a multiple of 1/65,536 and the scale follows the
rounded one, so the expectation is exact. On CUDA torch draws, from the device's global generator.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from trainer.model.ops import arrays, in_loops
from trainer.model.packing import Packing


class Dropout:
    """Zeroes elements with a given probability and scales the others to keep the expectation."""

    def __init__(self, probability: float, rng: np.random.Generator | None) -> None:
        """No generator, or a probability that rounds to 0, means that nothing is dropped."""
        self.probability = probability if rng is not None else 0.0
        self._threshold = np.uint16(round(probability * 65536) if rng is not None else 0)
        self._rng = rng
        self._scale = 65536 / (65536 - int(self._threshold))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of ``x`` with elements dropped; ``x`` itself if nothing is dropped."""
        if x.is_cuda:
            return F.dropout(x, self.probability, training=self.probability > 0)
        if self._rng is None or self._threshold == 0:
            return x
        count = x.numel()
        bits = self._rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
        if in_loops(x):
            out: torch.Tensor = _DropoutInLoops.apply(x, bits, self._threshold, self._scale)
            return out
        mask = np.multiply(bits >= self._threshold, np.float32(self._scale), dtype=np.float32)
        return x * torch.from_numpy(mask).to(x.device, x.dtype).view(x.shape)


class DropPath:
    """Skips a block's branch for some sequences of a batch: stochastic depth (Huang et al. 2016, arXiv:1603.09382).

    Branches that are kept are scaled so that the expectation stays.
    """

    def __init__(self, probability: float, packing: Packing, rng: np.random.Generator | None) -> None:
        """Without a generator nothing is skipped."""
        self._probability = probability if rng is not None else 0.0
        self._packing = packing
        self._rng = rng

    def __call__(self, branch: torch.Tensor) -> torch.Tensor:
        """A row a token [sum of lengths, width], or a row a sequence [batch, width] -> the same, some rows 0."""
        if self._rng is None or self._probability == 0:
            return branch
        size = len(self._packing.lengths)
        drawn = torch.rand(size, device=branch.device) if branch.is_cuda else torch.from_numpy(self._rng.random(size))
        scales = ((drawn >= self._probability) / (1 - self._probability)).to(branch.dtype)
        if len(branch) != size:
            scales = scales.index_select(0, self._packing.sequences)
        return branch * scales[:, None]


class _DropoutInLoops(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: np.ndarray, threshold: int, scale: float) -> torch.Tensor:
        ctx.drop = bits, threshold, scale
        return _drop(x, bits, threshold, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return _drop(grad.contiguous(), *ctx.drop), None, None, None


def _drop(x: torch.Tensor, bits: np.ndarray, threshold: int, scale: float) -> torch.Tensor:
    from trainer.model import loops

    out = torch.empty_like(x)
    loops.dropout(*arrays(x.view(-1)), bits, threshold, scale, *arrays(out.view(-1)))
    return out
