"""An estimate of a model's latency, for comparing trials: milliseconds a sequence.

It is the multiply-adds of a sequence, averaged over lengths like the validation set's, times what a million of them
took on the machine that the study was made on. Both the lengths and that figure are kept in study.json, so trials stay
comparable wherever the search is resumed. ensemble.select measures what finished models really take.
"""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Self

import numpy as np
import torch

from trainer.common.errors import FieldError
from trainer.common.strict import checked
from trainer.config import ModelConfig
from trainer.data.dataset import typical_lengths
from trainer.data.features import num_features
from trainer.landmarks import NUM_LANDMARKS
from trainer.model.classifier import SignClassifier

LENGTHS: Final = 16  # that stand for the validation set's
ROUNDS: Final = 5  # of timing; of each length the fastest counts, as what other processes add is not the model's


@dataclass(frozen=True, kw_only=True)
class LatencyScale:
    """What makes milliseconds of multiply-adds."""

    lengths: list[int]
    """Frames: quantiles of the validation sequences'"""
    ms_per_million: float
    """Milliseconds that a million multiply-adds took when the study was made"""

    @classmethod
    def measure(cls, lengths: np.ndarray) -> Self:
        """For validation sequences of these lengths int64 [N], timing the recipe's small model on one thread here."""
        chosen = typical_lengths(lengths, LENGTHS)
        model = SignClassifier(ModelConfig()).eval()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            seconds = sum(min(_seconds(model, length) for _ in range(ROUNDS)) for length in chosen)
        finally:
            torch.set_num_threads(threads)
        million = sum(multiply_adds(model.config, length) for length in chosen) / 1e6
        return cls(lengths=chosen, ms_per_million=1e3 * seconds / million)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From what ``dataclasses.asdict`` made. Raises FieldError."""
        try:
            scale = checked(cls, values)
        except FieldError as error:
            raise FieldError(str(error), field="latency") from error
        if not scale.lengths or min(scale.lengths) < 1 or scale.ms_per_million <= 0:
            raise FieldError("must have lengths of at least 1 frame, and a speed above 0", field="latency")
        return scale

    def milliseconds(self, model: ModelConfig) -> float:
        """Of a sequence, on average."""
        return self.ms_per_million * float(np.mean([multiply_adds(model, length) for length in self.lengths])) / 1e6


def _seconds(model: SignClassifier, length: int) -> float:
    length = min(length, model.config.max_frames)
    frames = torch.zeros(length, NUM_LANDMARKS, 2)
    with torch.inference_mode():
        began = perf_counter()
        model(frames, np.array([length]))
        return perf_counter() - began


def multiply_adds(model: ModelConfig, frames: int) -> int:
    """That the matrix products of one sequence take; more with every head, layer and frame."""
    width, frames = model.width, min(frames, model.max_frames)
    tokens = frames + (1 if model.pooling == "cls" else 0)
    ffn = 3 * width * model.ffn_width
    block = tokens * (4 * width**2 + ffn) + 2 * tokens**2 * width
    last = tokens * 3 * width**2 + 2 * tokens * width + width**2 + ffn if model.pooling == "cls" else block
    embedding = frames * num_features(model) * width
    return embedding + (model.num_layers - 1) * block + last + width * model.num_signs
