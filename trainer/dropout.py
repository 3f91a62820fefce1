"""Dropout whose random numbers come from an explicit generator, at a tenth of the cost of torch's on CPU.

torch.nn.functional.dropout draws a Bernoulli variable an element, on CPU one after the other: on small
models that takes longer than the matrix products around it. Here an element takes 16 bits of a 64-bit draw. The
probability is rounded to a multiple of 1/65,536 and the scale follows the rounded one, so the expectation is exact.
On CUDA torch's own dropout is used, which draws from the device's global generator.
"""

import numpy as np
import torch
import torch.nn.functional as F


class Dropout:
    """Zeroes elements with a given probability and scales the others to keep the expectation."""

    def __init__(self, probability: float, rng: np.random.Generator | None) -> None:
        """No generator, or a probability that rounds to 0, means that nothing is dropped."""
        self.probability = probability if rng is not None else 0.0
        self._threshold = np.uint16(round(probability * 65536) if rng is not None else 0)
        self._rng = rng
        self._scale = 65536 / (65536 - int(self._threshold))

    def mask(self, like: torch.Tensor) -> torch.Tensor | None:
        """0 where an element is dropped and 1 / (1 - probability) elsewhere, or None if nothing is dropped."""
        if self._rng is None or self._threshold == 0:
            return None
        if like.is_cuda:
            return F.dropout(torch.ones_like(like), self.probability)
        count = like.numel()
        bits = self._rng.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
        mask = np.multiply(bits >= self._threshold, np.float32(self._scale), dtype=np.float32)
        return torch.from_numpy(mask).to(like.device, like.dtype).view(like.shape)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A copy of ``x`` with elements dropped; ``x`` itself if nothing is dropped."""
        if x.is_cuda:
            return F.dropout(x, self.probability, training=self.probability > 0)
        mask = self.mask(x)
        return x if mask is None else x * mask
