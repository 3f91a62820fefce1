"""What one Ray trial does: train one configuration, telling the driver every epoch and the end.

Runs in a worker that is used again for trial after trial. A worker and the driver understand each other by
three messages: EpochMetrics, Result, Failure.
"""

import dataclasses
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ray import tune
from safetensors import SafetensorError

from search.mirror import RemoteRun
from trainer.config import TrainConfig
from trainer.dataset import PackedDataset
from trainer.remote import StorageError, is_uri, open_dataset
from trainer.rundir import EpochMetrics, Result, RunDir
from trainer.train import TrainingDiverged, train


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


def run_trial(order: dict[str, Any]) -> None:
    """Carry out an Order, given as a dict; the function that Ray Tune runs.

    Whatever goes wrong is sent as a Failure and leaves the worker in good order for the next trial.
    """
    try:
        _send(_train(Order(**order)))
    except TrainingDiverged as error:
        _send(Failure(str(error)))
    except Exception as error:
        _send(Failure(f"{type(error).__name__}: {error}", _concerns_all(error)))


def _concerns_all(error: Exception) -> bool:
    if isinstance(error, StorageError):
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SafetensorError) and os.strerror(errno.ENOSPC) in str(error)


def _train(order: Order) -> Result:
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
    return train(TrainConfig.from_json(order.config), _dataset(order.data), run, report=report, device=order.device)


@functools.cache
def _dataset(where: str) -> PackedDataset:
    return open_dataset(where)


def _send(message: Message) -> None:
    """Tell the driver and wait for its answer, which may be to end this trial here (SystemExit)."""
    tune.report({"message": type(message).__name__, **dataclasses.asdict(message)})


def read(result: dict[str, Any]) -> Message:
    """The message in a result as Ray Tune delivers it, among what Ray adds."""
    kind = _MESSAGES[result["message"]]
    return kind(**{item.name: result[item.name] for item in dataclasses.fields(kind)})
