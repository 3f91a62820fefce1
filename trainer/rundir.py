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
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors
import safetensors.torch
import torch

from trainer.common.errors import FieldError, UserError, first_line
from trainer.common.files import (
    atomic_path,
    require_folder,
    sha256,
    special,
    to_path,
    write_array,
    write_bytes,
    write_json,
)
from trainer.common.strict import checked, parse_json, read_array, read_object, read_text, reason_of
from trainer.config import TrainConfig
from trainer.metrics import to_half

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.jsonl", "checkpoint.safetensors"
WEIGHTS, VAL_PROBS, DONE = "weights.safetensors", "val_probs.npy", "done.json"
HASHES = "sha256"  # in done.json: of the other files, by their names
BRING_BACK = "bring the file back as it was written"


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

    @classmethod
    def read(cls, line: str) -> Self:
        """From a line of metrics.jsonl. Raises ValueError."""
        values = parse_json(line)
        if not isinstance(values, dict):
            raise ValueError("must be a JSON object")
        metrics = checked(cls, values)
        _require(metrics.epoch >= 1, "epoch", metrics.epoch, "at least 1")
        _require(0 <= metrics.val_accuracy <= 1, "val_accuracy", metrics.val_accuracy, "between 0 and 1")
        return metrics


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
    batch_size: int | None = None
    """Sequences per optimizer step; None of runs before 0.3"""

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """From the fields of done.json. Raises FieldError."""
        result = checked(cls, values)
        _require(result.epochs >= 1, "epochs", result.epochs, "at least 1")
        _require(result.num_parameters >= 1, "num_parameters", result.num_parameters, "at least 1")
        _require(0 <= result.val_accuracy <= 1, "val_accuracy", result.val_accuracy, "between 0 and 1")
        return result


def _save(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file. Raises OSError with the number that the library's own error tells in words."""
    try:
        safetensors.torch.save_file(tensors, path, metadata=metadata)
    except safetensors.SafetensorError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number) if told else first_line(error)) from error


def _require(holds: bool, name: str, value: float, rule: str) -> None:
    if not holds:
        raise FieldError(f"must be {rule}, not {value}", field=name)


class RunDir:
    """Reader and writer of one trial's directory. Reading raises UserError naming a file that is missing or broken.

    >>> run = RunDir("results/asl/trials/0007")
    >>> run.is_done
    False
    """

    def __init__(self, path: Path | str) -> None:
        self.path = to_path(path, "path")

    def require_own(self) -> None:
        """Raises UserError if it is no directory, or holds files that are not a trial's, such as a dataset's."""
        require_folder(self.path)
        known = {CONFIG, METRICS, CHECKPOINT, WEIGHTS, VAL_PROBS, DONE}
        paths = sorted(self.path.iterdir()) if self.path.is_dir() else []
        if others := [path.name for path in paths if path.name not in known and not path.name.startswith(".")]:
            raise UserError(f"{self.path}: holds something else ({others[0]}); choose another directory")

    def write_config(self, config: TrainConfig) -> None:
        write_json(self.path / CONFIG, config.to_json())

    def read_config(self) -> TrainConfig:
        path = self.path / CONFIG
        try:
            return TrainConfig.from_json(read_object(path, BRING_BACK))
        except FieldError as error:
            raise UserError(f"{path}: {error}; {BRING_BACK}") from error

    def append_metrics(self, metrics: EpochMetrics) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / METRICS
        try:
            with path.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(metrics), allow_nan=False) + "\n")
        except OSError as error:  # of a full disk it does not say which file
            raise OSError(error.errno, error.strerror, str(path)) from error

    def read_metrics(self) -> list[EpochMetrics]:
        """Epochs recorded so far, oldest first; empty if none. A half-written last line is left out."""
        path = self.path / METRICS
        if not path.exists():
            return []
        where = ""
        found: list[EpochMetrics] = []
        try:
            for number, line in enumerate(read_text(path).split("\n")[:-1], start=1):  # a whole one ends in a newline
                where = f"line {number}: "
                found.append(EpochMetrics.read(line))
                least = found[-2].epoch + 1 if len(found) > 1 else 1
                _require(found[-1].epoch >= least, "epoch", found[-1].epoch, f"at least {least}")
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: {where}{reason_of(error)}; {BRING_BACK}") from error
        return found

    def require_own_result(self, config: TrainConfig, result: Result) -> None:
        """Raises UserError if a result is not of as many epochs as the configuration has, or of its last one's metrics.

        A run without metrics is taken at its word.
        """
        if result.epochs != config.epochs:
            raise UserError(
                f"{self.path / DONE}: epochs: {result.epochs}, but {CONFIG} has {config.epochs}; {BRING_BACK}"
            )
        metrics = self.read_metrics()
        for name in ("val_accuracy", "val_log_loss") if metrics and metrics[-1].epoch == result.epochs else ():
            last, said = getattr(metrics[-1], name), getattr(result, name)
            if not math.isclose(last, said, rel_tol=1e-6, abs_tol=1e-6):
                raise UserError(f"{self.path / DONE}: {name}: {said:.4f}, but {METRICS} has {last:.4f}; {BRING_BACK}")

    def keep_metrics(self, epochs: int) -> None:
        """Drop what was recorded after the given number of epochs, as when going on from a checkpoint."""
        lines = [json.dumps(dataclasses.asdict(item)) + "\n" for item in self.read_metrics() if item.epoch <= epochs]
        write_bytes(self.path / METRICS, "".join(lines).encode())

    def write_checkpoint(self, tensors: Mapping[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint by named tensors and a JSON object, in one file."""
        text = json.dumps(state)
        with atomic_path(self.path / CHECKPOINT) as temporary:
            _save(dict(tensors), temporary, {"state": text, "sha256": _digest(tensors, text)})

    def read_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors and state of the last checkpoint, or None if there is none."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            _require_file(path)
            with safetensors.safe_open(path, framework="pt") as file:
                names = file.keys()
                tensors, metadata = {name: file.get_tensor(name) for name in names}, file.metadata()
            if metadata.get("sha256") not in (None, _digest(tensors, metadata["state"])):  # 0.1 wrote none
                raise ValueError("it was damaged or changed since it was written")
            return tensors, parse_json(metadata["state"])
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise UserError(
                f"{path}: cannot be read ({first_line(error)}); remove it to train this run from the start"
            ) from error

    def remove_checkpoint(self) -> None:
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def write_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """EMA weights by parameter name, float32."""
        tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
        with atomic_path(self.path / WEIGHTS) as temporary:
            _save(tensors, temporary)

    def read_weights(self) -> dict[str, torch.Tensor]:
        """EMA weights by parameter name, for ``SignClassifier.load_state_dict``; float32 however they are stored."""
        path = self.path / WEIGHTS
        try:
            _require_file(path)
            tensors = safetensors.torch.load_file(path)
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); {BRING_BACK}") from error
        if others := [name for name, tensor in tensors.items() if not tensor.is_floating_point()]:
            raise UserError(f"{path}: {others[0]}: holds {tensors[others[0]].dtype}, not floating point numbers")
        return {name: tensor.float() for name, tensor in tensors.items()}

    def write_val_probs(self, val_probs: np.ndarray) -> None:
        """Probabilities [validation sequences, signs], in the order of ``PackedDataset.split``; kept as float16."""
        write_array(self.path / VAL_PROBS, to_half(val_probs))

    def read_val_probs(self) -> np.ndarray:
        """float16 [validation sequences, signs], memory-mapped."""
        try:
            probs: np.ndarray = read_array(self.path / VAL_PROBS)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / VAL_PROBS}: cannot be read ({first_line(error)}); {BRING_BACK}") from error
        if probs.ndim != 2 or probs.dtype.kind != "f":
            raise UserError(f"{self.path / VAL_PROBS}: must hold one array of floats [sequences, signs]; {BRING_BACK}")
        return probs

    def write_result(self, result: Result) -> None:
        """Declare the run finished, with the hashes of the files that it left. Call it last."""
        write_json(self.path / DONE, {**dataclasses.asdict(result), HASHES: self.hashes()})

    def hashes(self, *more: str) -> dict[str, str]:
        """SHA-256 of the files that a finished run leaves, by their names, but for done.json and metrics.jsonl.

        ``more`` are names of further ones. Raises UserError if one cannot be read.
        """
        paths = [self.path / name for name in (CONFIG, WEIGHTS, VAL_PROBS, *more)]
        try:
            return {path.name: sha256(path) for path in paths if path.is_file()}
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({reason_of(error)}); {BRING_BACK}") from error

    @property
    def has_hashes(self) -> bool:
        """Whether done.json has the SHA-256 of the other files, as runs of 0.2 leave it."""
        return isinstance(expected := self._stated_hashes(), dict) and bool(expected)

    def _stated_hashes(self) -> Any:
        """What done.json says of the other files, of any type; None if nothing."""
        return read_object(self.path / DONE, BRING_BACK).get(HASHES)

    def require_own_val_probs(self) -> None:
        """Raises UserError if val_probs.npy is not what the finished run left, unless that does not say."""
        expected, path = self._stated_hashes(), self.path / VAL_PROBS
        if isinstance(expected, dict) and path.is_file() and expected.get(VAL_PROBS) != sha256(path):
            raise UserError(f"{path}: is not the file that the training left; {BRING_BACK}")

    def require_unchanged(self, needs_hashes: bool = True) -> None:
        """Raises UserError if a file is not the one that the finished run left.

        If the run does not say, as in earlier versions, that is an error too, unless ``needs_hashes`` is false.
        """
        expected = self._stated_hashes()
        if expected is None and not needs_hashes:
            return
        found = self.hashes()
        if not isinstance(expected, dict) or not {CONFIG, WEIGHTS} <= expected.keys():
            raise UserError(f"{self.path / DONE}: {HASHES}: has no hashes of the other files, as in earlier versions")
        if changed := sorted(name for name in {*expected, *found} if found.get(name) != expected.get(name)):
            wrong = "is not the file that the training left" if changed[0] in found else "is gone"
            raise UserError(f"{self.path / changed[0]}: {wrong}")

    @property
    def is_done(self) -> bool:
        return (self.path / DONE).exists()

    def read_result(self) -> Result:
        path = self.path / DONE
        try:
            content = read_object(path, BRING_BACK)
            return Result.read({name: value for name, value in content.items() if name != HASHES})
        except FieldError as error:
            raise UserError(f"{path}: {error}; {BRING_BACK}") from error


def _digest(tensors: Mapping[str, torch.Tensor], state: str) -> str:
    """SHA-256 of a checkpoint's content."""
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_file(path: Path) -> None:
    """Raise ValueError for a pipe or a device, which would be waited for."""
    if wrong := special(path):
        raise ValueError(f"it {wrong}")
