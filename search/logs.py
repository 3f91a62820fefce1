"""What trials report, also in the format of another tool, through Ray's own callback for it: --log tensorboard.

A study's logs lie under STUDY/logs and are written by the driver as reports arrive; nothing is decided by them.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import TBXLoggerCallback

from search.trial import read
from trainer.rundir import EpochMetrics


class TensorBoard(TBXLoggerCallback):
    """An event file for each time a trial is started, in a folder a trial; a step is an epoch."""

    def __init__(self, directory: Path) -> None:
        """Raises ImportError if tensorboardX is not installed."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._directory = directory

    def log_trial_start(self, trial: RayTrial) -> None:
        folder = self._directory / f"{trial.config['number']:04d}"
        self._trial_writer[trial] = self._summary_writer_cls(str(folder))
        self._trial_result[trial] = {}

    def log_trial_result(self, iteration: int, trial: RayTrial, result: dict[str, Any]) -> None:
        message = read(result)
        if isinstance(message, EpochMetrics):  # Ray counts from 1 again when a trial goes on, the trial does not
            metrics = {**dataclasses.asdict(message), "training_iteration": message.epoch}
            super().log_trial_result(iteration, trial, metrics)


LOGS: Final[dict[str, Callable[[Path], Callback]]] = {
    "tensorboard": lambda directory: TensorBoard(directory / "logs" / "tensorboard"),
}
