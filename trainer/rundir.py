"""A trial's directory: the only place that knows its files' names and formats.

    config.json          the TrainConfig
    metrics.jsonl        one EpochMetrics a line
    checkpoint.safetensors   everything needed to go on from the last epoch; removed when done
    weights.safetensors  EMA weights, float32
    val_probs.npy        float16 [validation sequences, signs]
    done.json            Result; written last: without it the run is not finished

Nothing is pickled. Every file but metrics.jsonl appears whole or not at all.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from trainer.common.errors import UserError
from trainer.common.files import atomic_path, write_bytes, write_json
from trainer.config import TrainConfig
from trainer.metrics import to_half

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.jsonl", "checkpoint.safetensors"
WEIGHTS, VAL_PROBS, DONE = "weights.safetensors", "val_probs.npy", "done.json"


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What an epoch came to, measured with the EMA weights on the held-out participants."""

    epoch: int
    """Epochs done, from 1"""
    train_loss: float
    """Mean over the epoch's steps, of the training objective (mixup included), in nats"""
    val_accuracy: float
    val_log_loss: float
    """Nats"""
    learning_rate: float
    """Of the epoch's last step"""
    skipped_steps: int = 0
    """Steps left out because their gradient was NaN or infinite. Runs of earlier versions do not say"""
    seconds: float
    """Training and validation, of this epoch"""
    sequences_per_second: float
    """Training alone"""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished run came to."""

    val_accuracy: float
    val_log_loss: float
    epochs: int
    num_parameters: int
    seconds: float
    """Of all its epochs, interruptions left out"""
    precision: str
    """float32 or bfloat16, as trained"""
    device: str
    data_fingerprint: str


class RunDir:
    """Reader and writer of one trial's directory. Reading raises UserError naming a file that is missing or broken.

    >>> run = RunDir("results/asl/trials/0007")
    >>> run.is_done
    False
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def require_own(self) -> None:
        """Raises UserError if the directory holds files that are not a trial's, such as a dataset's."""
        known = {CONFIG, METRICS, CHECKPOINT, WEIGHTS, VAL_PROBS, DONE}
        paths = sorted(self.path.iterdir()) if self.path.is_dir() else []
        if others := [path.name for path in paths if path.name not in known and not path.name.startswith(".")]:
            raise UserError(f"{self.path}: holds something else ({others[0]}); choose another directory")

    def write_config(self, config: TrainConfig) -> None:
        write_json(self.path / CONFIG, config.to_json())

    def read_config(self) -> TrainConfig:
        try:
            return TrainConfig.from_json(self._read_json(CONFIG))
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path / CONFIG}: {error}") from error

    def append_metrics(self, metrics: EpochMetrics) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(dataclasses.asdict(metrics), allow_nan=False) + "\n")

    def read_metrics(self) -> list[EpochMetrics]:
        """Epochs recorded so far, oldest first; empty if none. A half-written last line is left out."""
        path = self.path / METRICS
        if not path.exists():
            return []
        try:
            lines = path.read_text().split("\n")[:-1]  # a whole line ends in a newline
            return [EpochMetrics(**json.loads(line)) for line in lines]
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: {error}") from error

    def keep_metrics(self, epochs: int) -> None:
        """Drop what was recorded after the given number of epochs, as when going on from a checkpoint."""
        lines = [json.dumps(dataclasses.asdict(item)) + "\n" for item in self.read_metrics() if item.epoch <= epochs]
        write_bytes(self.path / METRICS, "".join(lines).encode())

    def write_checkpoint(self, tensors: Mapping[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint by named tensors and a JSON object, in one file."""
        with atomic_path(self.path / CHECKPOINT) as temporary:
            safetensors.torch.save_file(dict(tensors), temporary, metadata={"state": json.dumps(state)})

    def read_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and state of the last checkpoint, or None if there is none."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                names = file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
                return tensors, json.loads(file.metadata()["state"])
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"{path}: cannot be read ({error}); remove it to train this run from the start") from error

    def remove_checkpoint(self) -> None:
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def write_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """EMA weights by parameter name, float32."""
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
        with atomic_path(self.path / WEIGHTS) as temporary:
            safetensors.torch.save_file(tensors, temporary)

    def read_weights(self) -> dict[str, torch.Tensor]:
        """EMA weights by parameter name, float32, for ``SignClassifier.load_state_dict``."""
        try:
            return safetensors.torch.load_file(self.path / WEIGHTS)
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f"{self.path / WEIGHTS}: cannot be read ({error})") from error

    def write_val_probs(self, val_probs: np.ndarray) -> None:
        """Probabilities [validation sequences, signs], in the order of ``PackedDataset.split``; kept as float16."""
        with atomic_path(self.path / VAL_PROBS) as temporary, temporary.open("wb") as file:
            np.save(file, to_half(val_probs), allow_pickle=False)

    def read_val_probs(self) -> np.ndarray:
        """float16 [validation sequences, signs], memory-mapped."""
        try:
            probs: np.ndarray = np.load(self.path / VAL_PROBS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{self.path / VAL_PROBS}: cannot be read ({error})") from error
        return probs

    def write_result(self, result: Result) -> None:
        """Declare the run finished. Call it last."""
        write_json(self.path / DONE, dataclasses.asdict(result))

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).exists()

    def read_result(self) -> Result:
        try:
            return Result(**self._read_json(DONE))
        except TypeError as error:
            raise UserError(f"{self.path / DONE}: {error}") from error

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: must hold a JSON object")
        return content
