"""What trials report, also in the format of another tool, through Ray's own callback for it: --log tensorboard|mlflow.

A study's logs lie under STUDY/logs and are written by the driver as reports arrive; nothing is decided by them.
"""

import dataclasses
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import TBXLoggerCallback

from search.trial import Failure, read
from trainer.cli import UserError
from trainer.rundir import EpochMetrics

MLFLOW_DB: Final = "mlflow.db"
EXTRAS: Final = {"mlflow"}  # logs whose package, and extra, of the same name, need not be installed


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


class MLflow(MLflowLoggerCallback):
    """A run for each trial, in an experiment named after the study, in one SQLite file; a step is an epoch."""

    def __init__(self, directory: Path, study_name: str) -> None:
        """Raises ImportError if MLflow is not installed."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(f"sqlite:///{directory / MLFLOW_DB}", experiment_name=study_name)
        for name in ("mlflow", "alembic"):  # they tell of every table that they make
            logging.getLogger(name).setLevel(logging.ERROR)
        self._runs: dict[str, str] = {}  # MLflow's id, by name
        self._failed: set[RayTrial] = set()

    def setup(self, *args: Any, **kwargs: Any) -> None:
        super().setup(*args, **kwargs)  # type: ignore[no-untyped-call]
        found = self.mlflow_util._get_client().search_runs([self.mlflow_util.experiment_id], max_results=50_000)
        self._runs = {run.info.run_name: run.info.run_id for run in found}

    def log_trial_start(self, trial: RayTrial) -> None:
        """Make its run; a trial that goes on has one."""
        name = f"{trial.config['number']:04d}"
        if name not in self._runs:
            self._runs[name] = self.mlflow_util.start_run(run_name=name).info.run_id
            self.mlflow_util.log_params(trial.config["config"], self._runs[name])
        self._trial_runs[trial] = self._runs[name]

    def log_trial_result(self, iteration: int, trial: RayTrial, result: dict[str, Any]) -> None:
        message = read(result)
        if isinstance(message, EpochMetrics):
            metrics = {**dataclasses.asdict(message), "training_iteration": message.epoch}
            super().log_trial_result(iteration, trial, metrics)
        elif isinstance(message, Failure):
            self._failed.add(trial)

    def log_trial_end(self, trial: RayTrial, failed: bool = False) -> None:
        if trial in self._trial_runs:  # not where its worker could not be started
            super().log_trial_end(trial, failed or trial in self._failed)


LOGS: Final[dict[str, Callable[[Path], Callback]]] = {
    "tensorboard": lambda directory: TensorBoard(directory / "logs" / "tensorboard"),
    "mlflow": lambda directory: MLflow(directory / "logs", directory.name),
}


def check_installed(log: str) -> None:
    """Raise UserError if what a log needs is not there."""
    if log in EXTRAS and importlib.util.find_spec(log) is None:
        raise UserError(
            f"--log {log}: it is not installed; pip install --constraint constraints.txt --editable '.[{log}]'"
        )
