"""The classifier: LLaMA-style blocks over packed landmark sequences, read out at a CLS token.

Source: the seed's recipe (LLaMA with RMSNorm, SwiGLU and rotary embedding; heads of 64 channels), with
learned positions and a CLS token added. Sequences are packed: no operation but attention knows where one
ends, so a sequence's logits do not depend on what else is in the batch.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainer.attention import Packing, attend
from trainer.config import HEAD_DIM, ModelConfig
from trainer.dropout import Dropout
from trainer.landmarks import NUM_LANDMARKS

NORM_EPS = 1e-5
ROTARY_THETA = 10_000.0
INIT_STD = 0.02


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPS)


class Block(nn.Module):
    """Pre-norm attention, then pre-norm SwiGLU (Shazeer 2020, arXiv:2002.05202), each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention_norm = RMSNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.ffn_norm = RMSNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: torch.Tensor, packing: Packing, rotary: "Rotary", dropout: Dropout) -> torch.Tensor:
        """[num_tokens, width] -> [num_tokens, width]"""
        qkv = rotary(self.qkv(self.attention_norm(x)), self.num_heads)
        x = x + dropout(self.out(attend(qkv, packing, self.num_heads, dropout)))
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + dropout(self.down(F.silu(gate) * up))


class Rotary:
    """Rotates pairs of query and key channels by an angle that grows with position (Su et al. 2021, arXiv:2104.09864).

    Channel j of a head's first half and channel j of its second half are a pair, with angle
    position * theta^(-j / 32): LLaMA's embedding up to an order of the channels.
    """

    def __init__(self, positions: torch.Tensor) -> None:
        """positions int64 [num_tokens]"""
        half = HEAD_DIM // 2
        frequencies = ROTARY_THETA ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
        angles = positions[:, None] * frequencies
        self.cos, self.sin = angles.cos()[:, None], angles.sin()[:, None]

    def __call__(self, qkv: torch.Tensor, num_heads: int) -> torch.Tensor:
        """[num_tokens, 3 * width] -> the same with queries and keys rotated, values as they are."""
        heads = qkv.view(len(qkv), 3 * num_heads, HEAD_DIM)
        first, second = heads[:, : 2 * num_heads].chunk(2, dim=-1)
        cos, sin = self.cos.to(qkv.dtype), self.sin.to(qkv.dtype)
        rotated = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return torch.cat((rotated, heads[:, 2 * num_heads :]), dim=1).view_as(qkv)


class SignClassifier(nn.Module):
    """Packed landmark sequences -> one row of logits a sequence."""

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        """Weights come from ``generator``, or from torch's global one."""
        super().__init__()
        self.config = config
        self.embed = nn.Linear(2 * NUM_LANDMARKS, config.width, bias=False)
        self.positions = nn.Parameter(torch.empty(config.max_frames, config.width))
        self.cls = nn.Parameter(torch.empty(config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, config.num_signs)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        """Draw all weights: normal with deviation 0.02, projections back into the residual stream smaller by
        1/sqrt(2 * num_layers) (GPT-2's rule), norms one, the head's bias zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name == "head.bias":
                nn.init.zeros_(parameter)
            else:
                into_residual = name.endswith(("out.weight", "down.weight"))
                std = INIT_STD / (2 * self.config.num_layers) ** 0.5 if into_residual else INIT_STD
                nn.init.normal_(parameter, std=std, generator=generator)

    def forward(
        self, frames: torch.Tensor, lengths: np.ndarray, rng: np.random.Generator | None = None
    ) -> torch.Tensor:
        """Logits float32 [batch, num_signs] of frames float32 [sum of lengths, 85, 2], lengths int64 [batch].

        ``rng`` draws dropout; without it nothing is dropped. Raises ValueError if a sequence is longer than
        max_frames or empty.
        """
        if lengths.max() > self.config.max_frames:
            raise ValueError(
                f"a sequence of {lengths.max()} frames is longer than max_frames = {self.config.max_frames}"
            )
        packing = Packing(lengths + 1, frames.device)  # CLS stands before the first frame
        is_frame = packing.positions > 0
        dropout = Dropout(self.config.dropout, rng)
        tokens = self.embed(frames.flatten(1)) + self.positions[packing.positions[is_frame] - 1]
        x = self.cls.expand(packing.num_tokens, -1).to(tokens.dtype).clone()
        x[is_frame] = tokens
        rotary = Rotary(packing.positions)
        for block in self.blocks:
            x = block(x, packing, rotary, dropout)
        logits: torch.Tensor = self.head(self.norm(x[packing.first])).float()
        return logits
