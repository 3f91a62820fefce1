"""What one Ray trial does: train one configuration, telling the driver every epoch and the end.

Runs in a worker that is used again for trial after trial, and imports no more than that takes: no Optuna. A worker and
the driver understand each other by three messages: EpochMetrics, Result, Failure.
"""

import dataclasses
import errno
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray import tune

from trainer.common.credentials import Kept, hide, keep
from trainer.common.errors import StorageError, TrainingDivergedError
from trainer.common.patience import PATIENCE
from trainer.common.storage import Remote, copy_folder, is_uri
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.learning.allocator import give_freed_memory_back, keep_freed_memory
from trainer.learning.loop import train
from trainer.rundir import CHECKPOINT, CONFIG, DONE, METRICS, VAL_PROBS, WEIGHTS, EpochMetrics, Result, RunDir


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a trial cannot go on."""

    reason: str
    concerns_all: bool = False
    """A full disk or storage that cannot be used: no fault of the trial's, and it would end all others too"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """Everything a worker needs to know of a trial, as JSON values."""

    number: int
    config: dict[str, Any]
    """TrainConfig.to_json()"""
    run: str
    """The trial's directory, or its URI"""
    data: str
    """The packed dataset, or its URI"""
    last_epoch: int
    """Epochs that the driver knows already"""
    threads: int
    device: str


Message = EpochMetrics | Result | Failure
_MESSAGES = {kind.__name__: kind for kind in (EpochMetrics, Result, Failure)}


class RemoteRun:
    """The files of a trial whose study lies behind a URI, on its node (see search.record.remote_copy)."""

    def __init__(self, uri: str) -> None:
        """Fetch what the storage has of the trial; what this node has of it counts for nothing."""
        self._remote = Remote.open(uri, PATIENCE)
        self.run = RunDir(copy_folder("trials", uri))
        shutil.rmtree(self.run.path, ignore_errors=True)
        self._remote.copy_to(self.run.path)
        self._was_done = self.run.is_done

    def save_epoch(self) -> None:
        """After an epoch. A checkpoint comes after its epoch's metrics: those ahead of it are dropped and made anew."""
        self._remote.upload_present(self.run.path, CONFIG, METRICS, CHECKPOINT)

    def save_result(self) -> None:
        """After the last, and let go of the local files."""
        if not self._was_done:
            self._remote.upload_present(self.run.path, METRICS, WEIGHTS, VAL_PROBS, DONE)
        self._remote.remove(CHECKPOINT)  # also where it was done, but whoever did it was killed before this
        shutil.rmtree(self.run.path)


def run_trial(order: dict[str, Any], keys: Kept | None = None) -> None:
    """Carry out an Order, given as a dict; the function that Ray Tune runs. ``keys`` are those of the URIs in it.

    Whatever goes wrong is sent as a Failure and leaves the worker in good order for the next trial.
    """
    keep(keys or {})
    try:
        _send(_train(Order(**order)))
    except TrainingDivergedError as error:
        _send(Failure(str(error)))
    except Exception as error:
        _send(Failure(hide(f"{type(error).__name__}: {error}"), _concerns_all(error)))


def _concerns_all(error: Exception) -> bool:
    if isinstance(error, StorageError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _train(order: Order) -> Result:
    give_freed_memory_back()
    torch.set_num_threads(order.threads)
    if not is_uri(order.run):
        return _train_in(RunDir(Path(order.run)), order, _send)
    remote = RemoteRun(order.run)

    def report(metrics: EpochMetrics) -> None:
        remote.save_epoch()
        _send(metrics)

    result = _train_in(remote.run, order, report)
    remote.save_result()
    return result


def _train_in(run: RunDir, order: Order, report: Callable[[EpochMetrics], None]) -> Result:
    for metrics in run.read_metrics():  # the driver may have died between an epoch and its decision on it
        if metrics.epoch >= order.last_epoch:
            _send(metrics)
    keep_freed_memory()
    return train(TrainConfig.from_json(order.config), _dataset(order.data), run, report=report, device=order.device)


@functools.cache
def _dataset(where: str) -> PackedDataset:
    return PackedDataset.open(where, PATIENCE)


def _send(message: Message) -> None:
    """Tell the driver and wait for its answer, which may be to end this trial here (SystemExit)."""
    tune.report({"message": type(message).__name__, **dataclasses.asdict(message)})


def read(result: dict[str, Any]) -> Message:
    """The message in a result as Ray Tune delivers it, among what Ray adds."""
    kind = _MESSAGES[result["message"]]
    return kind(**{item.name: result[item.name] for item in dataclasses.fields(kind)})
