"""What trials report, also in the format of another tool: TensorBoard, MLflow or W&B.

A study's logs lie under STUDY/logs and are written by the driver as reports arrive; nothing is decided by them.
"""

import dataclasses
import importlib.util
import logging
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ray
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune import Callback
from ray.tune.experiment import Trial as RayTrial
from ray.tune.logger import LoggerCallback, TBXLoggerCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.execute.training import Failure, read
from trainer.common.errors import UserError
from trainer.rundir import EpochMetrics
from trainer.studydir import LOGS as LOG_FOLDER

MLFLOW_DB: Final = "mlflow.db"
EXTRAS: Final = {"mlflow", "wandb"}  # logs whose package, and extra, of the same name, need not be installed

WANDB_SECONDS: Final = 60  # to reach the server, and to upload what is left at the end; all of it is in files too
WANDB_SETTINGS: Final = {
    "silent": True,
    "console": "off",
    "host": "",  # nothing of the machine, which is not the one that trains
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "init_timeout": WANDB_SECONDS,
    "finish_timeout": WANDB_SECONDS,
}


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


class WandB(LoggerCallback):
    """A run for each trial, in a group named after the study, in files and at once or later on W&B's server.

    A process of its own writes all runs, so that nothing waits for the server; a step is an epoch. (Ray's own callback
    takes two processes for each run, loads wandb into every search, and does not say that a trial failed.)
    """

    def __init__(self, directory: Path, study_name: str) -> None:
        super().__init__()
        self._directory = directory
        self._study_name = study_name
        self._prefix = _prefix(directory / "wandb")
        self._reasons: dict[RayTrial, str] = {}
        self._running: set[RayTrial] = set()
        self._writer: Any = None

    def setup(self, *_: Any, **__: Any) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        environment = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
        writer: Any = ray.remote(_runs_writer())
        self._writer = writer.options(num_cpus=0, scheduling_strategy=here).remote(_wandb_mode(), environment)

    def log_trial_start(self, trial: RayTrial) -> None:
        """Begin its run; that of a trial that goes on has the id that it had."""
        self._running.add(trial)
        number = trial.config["number"]
        self._writer.start.remote(
            trial.trial_id,
            dir=str(self._directory),
            project=os.environ.get("WANDB_PROJECT") or self._study_name,
            group=self._study_name,
            name=f"{number:04d}",
            id=f"{self._prefix}-{number:04d}",
            config=trial.config["config"],
            settings=WANDB_SETTINGS,
        )

    def log_trial_result(self, _: int, trial: RayTrial, result: dict[str, Any]) -> None:
        message = read(result)
        if isinstance(message, EpochMetrics):
            self._writer.log.remote(trial.trial_id, dataclasses.asdict(message))
        elif isinstance(message, Failure):
            self._reasons[trial] = message.reason

    def log_trial_end(self, trial: RayTrial, failed: bool = False) -> None:
        if trial in self._running:  # not where its worker could not be started
            self._running.remove(trial)
            reason = self._reasons.pop(trial, "its worker died" if failed else "")
            self._writer.finish.remote(trial.trial_id, reason)

    def on_experiment_end(self, *_: Any, **__: Any) -> None:
        """Wait until all is written."""
        for trial in list(self._running):
            self.log_trial_end(trial)
        ray.wait([self._writer.end.remote()], timeout=2 * WANDB_SECONDS)


def _wandb_mode() -> str:
    return os.environ.get("WANDB_MODE") or "offline"


def _prefix(folder: Path) -> str:
    """What the ids of a study's runs begin with, not to be those of another study of its name: found again, or new."""
    found = (re.search(r"run-\d+_\d+-([0-9a-f]{8})-\d", path.name) for path in folder.glob("*run-*"))
    return next((match[1] for match in found if match), secrets.token_hex(4))


def _runs_writer() -> Any:
    """The class of the process that writes runs: made in a function, so that its code is sent along.

    A process that had to import it would take torch with it, some 200 MB.
    """

    class RunsWriter:
        def __init__(self, mode: str, environment: dict[str, str]) -> None:
            os.environ.update(environment)  # the user's, which Ray's processes may not have
            import wandb

            self._wandb: Any = wandb
            self._mode = mode
            self._runs: dict[str, Any] = {}

        def start(self, key: str, **about: Any) -> None:
            """Every run says that it may be resumed: offline, that has `wandb sync` append to it."""
            about |= {"resume": "allow", "reinit": "create_new"}
            try:
                self._runs[key] = self._wandb.init(mode=self._mode, **about)
            except self._wandb.Error:
                if self._mode == "offline":
                    raise
                self._mode = "offline"  # the server cannot be reached, or does not like the key
                self._runs[key] = self._wandb.init(mode=self._mode, **about)

        def log(self, key: str, metrics: dict[str, float]) -> None:
            self._runs[key].log(metrics, step=metrics["epoch"])

        def finish(self, key: str, reason: str) -> None:
            """The reason is that of a failure, or "", also to replace that of a failure before the trial went on."""
            run = self._runs.pop(key)
            run.summary["reason"] = reason
            run.finish(exit_code=1 if reason else 0)

        def end(self) -> None:
            self._wandb.teardown()

    return RunsWriter


LOGS: Final[dict[str, Callable[[Path], Callback]]] = {
    "tensorboard": lambda directory: TensorBoard(directory / LOG_FOLDER / "tensorboard"),
    "mlflow": lambda directory: MLflow(directory / LOG_FOLDER, directory.name),
    "wandb": lambda directory: WandB(directory / LOG_FOLDER, directory.name),
}


def check_installed(log: str) -> None:
    """Raise UserError if what a log needs is not there."""
    if log in EXTRAS:
        spec = importlib.util.find_spec(log)
        if spec is None or spec.origin is None:  # no origin: a folder of that name, here
            raise UserError(
                f"{log}: it is not installed; pip install --constraint constraints.txt --editable '.[{log}]'",
                field="log",
            )
    if log == "wandb":
        _check_key()


def _check_key() -> None:
    """Raise UserError if runs are to be uploaded and there is no key for that."""
    if _wandb_mode() == "offline":
        return
    if _wandb_mode() != "online":
        raise UserError(f"wandb: WANDB_MODE must be offline, online or unset, not {_wandb_mode()}", field="log")
    import wandb

    os.environ["WANDB_SILENT"] = "true"
    advice = "set WANDB_API_KEY, or leave WANDB_MODE unset to write the runs to files"
    try:
        if not wandb.login(prompt=False, verify=False):
            raise UserError(f"wandb: WANDB_MODE is online, and there is no API key; {advice}", field="log")
    except wandb.Error as error:
        raise UserError(f"wandb: {error}; {advice}", field="log") from error
