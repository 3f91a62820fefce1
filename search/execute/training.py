"""Carry out an order to train one configuration, telling whoever gave it every epoch and the end.

A worker and the driver understand each other by three messages: EpochMetrics, Result, Failure.
"""

import dataclasses
import errno
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trainer.common.credentials import hide
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
    host: str | None = None
    """Name of the search, whose trials on a GPU are trained by one process of a node (search.execute.host)"""


Message = EpochMetrics | Result | Failure
Send = Callable[[Message], None]
"""Tells a message to whoever ordered, and waits for the answer; raises what ends the training"""
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


def carry_out(order: Order, send: Send) -> None:
    """Train what is ordered, and send every epoch and the end: a Result, or a Failure whatever went wrong.

    What ``send`` raises, such as SystemExit, ends the training there and passes through; the order can be given again,
    and goes on from its last epoch. The process is left in good order for the next.
    """
    try:
        result: Message = _train(order, send)
    except TrainingDivergedError as error:
        result = Failure(str(error))
    except Exception as error:
        result = Failure(hide(f"{type(error).__name__}: {error}"), _concerns_all(error))
    send(result)


def _concerns_all(error: Exception) -> bool:
    if isinstance(error, StorageError):
        return True
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _train(order: Order, send: Send) -> Result:
    give_freed_memory_back()
    torch.set_num_threads(order.threads)
    if not is_uri(order.run):
        return _train_in(RunDir(Path(order.run)), order, send, send)
    remote = RemoteRun(order.run)

    def report(metrics: EpochMetrics) -> None:
        remote.save_epoch()
        send(metrics)

    result = _train_in(remote.run, order, send, report)
    remote.save_result()
    return result


def _train_in(run: RunDir, order: Order, send: Send, report: Callable[[EpochMetrics], None]) -> Result:
    for metrics in run.read_metrics():  # the driver may have died between an epoch and its decision on it
        if metrics.epoch >= order.last_epoch:
            send(metrics)
    keep_freed_memory()
    config, dataset = TrainConfig.from_json(order.config), _dataset(order.data)
    return train(config, dataset, run, report=report, device=order.device, capture=order.host is not None)


@functools.cache
def _dataset(where: str) -> PackedDataset:
    return PackedDataset.open(where, PATIENCE)


def written(message: Message) -> dict[str, Any]:
    """A message as JSON values."""
    return {"message": type(message).__name__, **dataclasses.asdict(message)}


def read(result: dict[str, Any]) -> Message:
    """Inverse of ``written``, whatever else stands beside: Ray Tune adds numbers of its own."""
    kind = _MESSAGES[result["message"]]
    return kind(**{item.name: result[item.name] for item in dataclasses.fields(kind)})
