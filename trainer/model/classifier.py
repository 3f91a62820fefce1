"""The classifier: LLaMA-style blocks over packed landmark sequences, read out at a CLS token.

Source: the recipe (LLaMA with RMSNorm, SwiGLU and rotary embedding; heads of 64 channels), with
learned positions and a CLS token added. Sequences are packed: no operation but attention knows where one
ends, so a sequence's logits do not depend on what else is in the batch.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from trainer.common.errors import UserError
from trainer.config import NORM_EPS, ModelConfig
from trainer.data.features import features, num_features
from trainer.model.attention import attend
from trainer.model.convolution import Convolution
from trainer.model.dropout import Dropout, DropPath
from trainer.model.ops import rms_norm, swiglu
from trainer.model.packing import AttentionMode, Packing

INIT_STD = 0.02
MOST_PARAMETERS = 2**31  # what a .tflite file can hold, at a byte each


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[n, width] float32 -> [n, width] of ``dtype``."""
        return rms_norm(x, self.weight, NORM_EPS, dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last dimension (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[n, width] float32 -> [n, width] of ``dtype``."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS).to(dtype)


NORMS = {"rmsnorm": RMSNorm, "layernorm": LayerNorm}


class Linear(nn.Linear):
    """Multiplies in the dtype of its input; without a bias."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Block(nn.Module):
    """Pre-norm attention, then pre-norm SwiGLU (Shazeer 2020, arXiv:2002.05202), each added to the residual stream.

    The residual stream stays in float32; ``dtype`` is what matrix products are computed in.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = NORMS[config.norm]
        self.attention_norm = norm(config.width)
        self.conv = Convolution(config.conv_kernel, config.width) if config.conv_kernel else None
        self.qkv = Linear(config.width, 3 * config.width)
        self.out = Linear(config.width, config.width)
        self.ffn_norm = norm(config.width)
        self.gate_up = Linear(config.width, 2 * config.ffn_width)
        self.down = Linear(config.ffn_width, config.width)

    def forward(
        self,
        x: torch.Tensor,
        packing: Packing,
        dropout: Dropout,
        path: DropPath,
        dtype: torch.dtype,
        mode: AttentionMode,
    ) -> torch.Tensor:
        """[num_tokens, width] -> the same; with ``mode.first_only`` the first tokens' rows alone, [batch, width]."""
        normed = self.attention_norm(x, dtype)
        if self.conv is not None:
            normed = self.conv(normed, packing, causal=mode.causal)
        attended = attend(self.qkv(normed), packing, dropout, mode)
        if mode.first_only:
            x = x[packing.first]
        x = x + path(dropout(self.out(attended)))
        return x + path(dropout(self.down(swiglu(self.gate_up(self.ffn_norm(x, dtype))))))


class SignClassifier(nn.Module):
    """Packed landmark sequences -> one row of logits a sequence.

    Tokens of a sequence are the CLS token (with pooling "cls") and then its frames.
    """

    def __init__(self, config: ModelConfig, generator: torch.Generator | None = None) -> None:
        """Weights come from ``generator``, or from torch's global one. Raises UserError if the model is too large."""
        super().__init__()
        if reason := too_large(config):
            raise UserError(f"{reason}; make the model smaller")
        self.config = config
        self.embed = Linear(num_features(config), config.width)
        self.positions = (
            nn.Parameter(torch.empty(config.max_frames, config.width)) if config.learned_positions else None
        )
        self.cls = nn.Parameter(torch.empty(config.width)) if config.pooling == "cls" else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = NORMS[config.norm](config.width)
        self.head = nn.Linear(config.width, config.num_signs)
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        """Draw all weights: normal with deviation 0.02, projections back into the residual stream smaller by
        1/sqrt(2 * num_layers) (GPT-2's rule), norms one, biases zero, convolutions about the identity."""
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                into_residual = name.endswith(("out.weight", "down.weight"))
                std = INIT_STD / (2 * self.config.num_layers) ** 0.5 if into_residual else INIT_STD
                nn.init.normal_(parameter, std=std, generator=generator)
                if name.endswith("conv.weight"):
                    parameter.data[len(parameter) // 2] += 1

    def forward(
        self,
        frames: torch.Tensor,
        lengths: np.ndarray,
        rng: np.random.Generator | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Logits float32 [batch, num_signs] of frames float32 [sum of lengths, 85, 2], lengths int64 [batch].

        ``rng`` draws dropout; without it nothing is dropped. Matrix products are computed in ``dtype``, float32 or
        bfloat16. Raises ValueError if a sequence is longer than max_frames or empty.
        """
        return self.logits(frames, self.packing(lengths, frames.device), rng, dtype)

    def packing(self, lengths: np.ndarray, device: torch.device, longest: int | None = None) -> Packing:
        """Where the tokens are of sequences of so many frames, int64 [batch]; ``longest`` as in Packing.

        Raises ValueError if one is longer than max_frames or empty.
        """
        if len(lengths) == 0 or lengths.min() < 1 or lengths.max() > self.config.max_frames:
            raise ValueError(f"every sequence must have 1 to {self.config.max_frames} frames, not {lengths}")
        return Packing(lengths, device, 0 if self.cls is None else 1, longest)

    def logits(
        self, frames: torch.Tensor, packing: Packing, rng: np.random.Generator | None, dtype: torch.dtype
    ) -> torch.Tensor:
        """The same as ``forward`` of sequences that are packed."""
        if self.cls is not None:  # only this token is read out: the last block computes nothing else
            pooled = self.encode(frames, packing, rng, dtype, first_only=True)
        else:
            states = self.encode(frames, packing, rng, dtype)
            pooled = torch.segment_reduce(states, "mean", offsets=packing.ends.long(), unsafe=True)
        logits: torch.Tensor = self.head(pooled)
        return logits

    def encode(
        self,
        frames: torch.Tensor,
        packing: Packing,
        rng: np.random.Generator | None,
        dtype: torch.dtype,
        *,
        causal: bool = False,
        first_only: bool = False,
    ) -> torch.Tensor:
        """A normalised state a frame: float32 [sum of lengths, width]; see ``forward``.

        ``causal`` lets a token see only itself and the tokens before it. With ``first_only`` a state a sequence, that
        of its first token: [batch, width].
        """
        x = self.embed(features(frames, packing.frame_positions, self.config).to(dtype)).float()
        if self.positions is not None:
            x = x + self.positions[packing.frame_positions]
        if self.cls is not None:
            x = self.cls.repeat(packing.num_tokens, 1).index_copy(0, packing.frames, x)
        dropout = Dropout(self.config.dropout, rng)
        for depth, block in enumerate(self.blocks, start=1):
            path = DropPath(self.config.drop_path * depth / len(self.blocks), packing, rng)
            mode = AttentionMode(self.config.rotary, causal, first_only and depth == len(self.blocks))
            x = block(x, packing, dropout, path, dtype, mode)
        states: torch.Tensor = self.norm(x, torch.float32)
        return states if first_only else states[packing.frames]


class _WithoutValues(SignClassifier):
    def _initialize(self, generator: torch.Generator | None) -> None:
        """Nothing: on the device "meta" a first draw loads torch's compiler, which takes seconds."""


def weight_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each weight of a classifier, by its name. Raises UserError if the model is too large."""
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in _WithoutValues(config).state_dict().items()}


def num_parameters(config: ModelConfig) -> int:
    """Parameters of a model of this shape, by arithmetic.

    >>> num_parameters(ModelConfig(num_heads=2, num_layers=6, motion=0))
    1694202
    """
    width = config.width
    norm = width if config.norm == "rmsnorm" else 2 * width
    block = 2 * norm + config.conv_kernel * width + 4 * width**2 + 3 * width * config.ffn_width
    embedding = num_features(config) * width
    positions_of_frames = config.max_frames * width if config.learned_positions else 0
    token = width if config.pooling == "cls" else 0
    head = (width + 1) * config.num_signs
    return embedding + positions_of_frames + token + config.num_layers * block + norm + head


def too_large(config: ModelConfig) -> str:
    """Why no model of this shape can be made; empty if one can."""
    if (size := num_parameters(config)) <= MOST_PARAMETERS:
        return ""
    return (
        f"{config.num_heads} heads x {config.num_layers} layers are {size / 1e6:,.0f}M parameters; a .tflite file of "
        f"at most 2 GiB holds {MOST_PARAMETERS / 1e6:,.0f}M"
    )
