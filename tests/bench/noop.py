"""Trials that do nothing, for tests.bench.orchestration; in a module whose import costs a worker next to nothing."""

import os
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from ray import tune

SLEEP_SECONDS = 20.0
SLEPT = "slept"  # a sleeping trial's file: its process, when it began, when it ended
_RESULT = {"val_log_loss": 1.0, "epochs": 1, "num_parameters": 10, "batch_size": 1, "seconds": 1.0}
_PLACE = {"precision": "float32", "device": "cpu", "data_fingerprint": ""}


def our_trial(order: dict[str, Any]) -> None:
    """The end of a trial, and nothing before."""
    tune.report({"message": "Result", "val_accuracy": _score(order["config"]["learning_rate"]), **_RESULT, **_PLACE})


def our_sleeping_trial(order: dict[str, Any]) -> None:
    """Sleeps, and leaves word of when."""
    began = monotonic()
    sleep(SLEEP_SECONDS)
    run = Path(order["run"])
    run.mkdir(parents=True)
    (run / SLEPT).write_text(f"{os.getpid()} {began} {monotonic()}")
    our_trial(order)


def their_trial(params: dict[str, Any]) -> None:
    tune.report({"val_accuracy": _score(params["learning_rate"])})


def _score(learning_rate: float) -> float:
    """Something that looks like an accuracy."""
    return (learning_rate * 1e9) % 1.0
