"""A straightforward padded trainer of the same model: what one writes first, and a fair reading of the recipe's code.

Batches are padded to their longest sequence and masked; attention is F.scaled_dot_product_attention with the mask
and dropout; dropout is torch's; the optimizer is lion-pytorch; the moving average is a loop over parameters.
"""

import numpy as np
import torch
import torch.nn.functional as F
from lion_pytorch import Lion
from torch import nn

from trainer.config import HEAD_DIM, NORM_EPS, ROTARY_THETA, ModelConfig, TrainConfig
from trainer.learning.optimizer import decay_groups

QUARTERS = 4


class PaddedBlock(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.dropout = config.num_heads, config.dropout
        self.attention_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.gate_up = nn.Linear(width, 2 * config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, width, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, HEAD_DIM)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        q, k = (_rotate(vectors, *rotary) for vectors in (q, k))
        attended = F.scaled_dot_product_attention(q, k, v, mask, self.dropout)
        x = x + F.dropout(self.out(attended.transpose(1, 2).reshape(batch, length, width)), self.dropout)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        return x + F.dropout(self.down(F.silu(gate) * up), self.dropout)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class PaddedClassifier(nn.Module):
    """The layers of trainer.model.classifier.SignClassifier, on padded batches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(170, config.width, bias=False)
        self.positions = nn.Parameter(torch.randn(config.max_frames, config.width) * 0.02)
        self.cls = nn.Parameter(torch.randn(config.width) * 0.02)
        self.blocks = nn.ModuleList(PaddedBlock(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.head = nn.Linear(config.width, config.num_signs)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """frames float32 [batch, longest, 85, 2], lengths int64 [batch] -> logits [batch, num_signs]"""
        batch, longest = frames.shape[:2]
        x = self.embed(frames.flatten(2)) + self.positions[:longest]
        x = torch.cat((self.cls.expand(batch, 1, -1), x), dim=1)
        places = torch.arange(longest + 1, device=x.device)
        mask = (places <= lengths[:, None])[:, None, None]
        half = HEAD_DIM // 2
        angles = places[:, None] * ROTARY_THETA ** (-torch.arange(half, device=x.device) / half)
        for block in self.blocks:
            x = block(x, mask, (angles.cos(), angles.sin()))
        return self.head(self.norm(x[:, 0]))


class PaddedTrainer:
    """Model, optimizer and moving average; ``step`` trains on one batch."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.model = PaddedClassifier(config.model).to(device)
        self.averages = [parameter.detach().clone() for parameter in self.model.parameters()]
        groups = decay_groups(list(self.model.parameters()), config.weight_decay)
        self.optimizer = Lion(groups, lr=config.learning_rate, betas=(0.9, 0.99))
        self.device = device

    def step(self, sequences: list[np.ndarray], labels: np.ndarray) -> None:
        """One optimizer step on sequences float32 [n_i, 85, 2], padded to the longest.

        Forward and backward go through the batch in quarters: whole, 6 heads x 5 layers would need over 24 GB.
        """
        frames = nn.utils.rnn.pad_sequence([torch.from_numpy(sequence) for sequence in sequences], batch_first=True)
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        signs = torch.from_numpy(labels)
        for part in torch.arange(len(labels)).chunk(QUARTERS):
            logits = self.model(frames[part].to(self.device), lengths[part].to(self.device))
            (F.cross_entropy(logits, signs[part].to(self.device)) / QUARTERS).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for average, parameter in zip(self.averages, self.model.parameters(), strict=True):
                average.lerp_(parameter, 1 - self.config.ema_decay)
