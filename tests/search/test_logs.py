"""Logs in another tool's format: read back, epoch by epoch, of trials that are undisturbed and that go on."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from tensorboardX.proto.event_pb2 import Event

import search.run
from search import cluster
from search.logs import LOGS
from search.progress import Progress
from search.space import Space
from search.study import SearchStudy
from tests.search.conftest import TINY_SPACE
from trainer.cli import UserError
from trainer.config import TrainConfig
from trainer.dataset import PackedDataset
from trainer.rundir import RunDir


def _scalars(folder: Path, tag: str) -> dict[int, float]:
    """Values by step, of all event files in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):  # a record: length, its checksum, data, its checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            for item in event.summary.value:
                if item.tag == tag:
                    found[event.step] = item.simple_value
            place += 12 + length + 4
    return found


@pytest.fixture
def search_with(
    tmp_path: Path, packed: Path, base: TrainConfig, progress: Progress, resources: cluster.Resources
) -> Callable[[str], list[dict[int, float]]]:
    """Two searches of one study, the second of which goes on with the first's; accuracies by epoch, of each trial."""

    def run(log: str) -> list[dict[int, float]]:
        for num_trials in (1, 2):
            study = SearchStudy(tmp_path, Space.parse(TINY_SPACE, base), num_trials=num_trials, seed=0, pruner="none")
            callbacks = [LOGS[log](tmp_path)]
            assert search.run.search(study, PackedDataset.open(packed), resources, 1, progress, callbacks)
            study.close()
        runs = [study.run_dir(number).read_metrics() for number in range(2)]
        assert [len(metrics) for metrics in runs] == [base.epochs] * 2
        return [{item.epoch: item.val_accuracy for item in metrics} for metrics in runs]

    return run


@pytest.mark.usefixtures("ray_with_two_workers")
def test_tensorboard_files_hold_every_epoch(
    tmp_path: Path, search_with: Callable[[str], list[dict[int, float]]]
) -> None:
    wanted = search_with("tensorboard")
    folder = tmp_path / "logs" / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["0000", "0001"]
    for number in range(2):
        assert _scalars(folder / f"{number:04d}", "ray/tune/val_accuracy") == pytest.approx(wanted[number])


@pytest.mark.usefixtures("ray_with_two_workers")
def test_mlflow_has_a_run_for_each_trial(
    tmp_path: Path, search_with: Callable[[str], list[dict[int, float]]], capfd: pytest.CaptureFixture[str]
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    wanted = search_with("mlflow")
    assert capfd.readouterr().err == ""
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["mlflow.db"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(tmp_path.name)
    runs = sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)
    assert [(run.info.run_name, run.info.status) for run in runs] == [("0000", "FINISHED"), ("0001", "FINISHED")]
    for number, run in enumerate(runs):
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        assert {item.step: item.value for item in history} == pytest.approx(wanted[number])
        config = RunDir(tmp_path / "trials" / f"{number:04d}").read_config()
        assert float(run.data.params["learning_rate"]) == config.learning_rate
        assert int(run.data.params["model/num_layers"]) == config.model.num_layers


def test_mlflow_goes_on_with_a_trials_run_and_says_that_it_failed(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    order = {"number": 3, "config": {"learning_rate": 0.1}}
    epoch = {"train_loss": 1.0, "val_log_loss": 1.0, "learning_rate": 0.1, "seconds": 1.0, "sequences_per_second": 1.0}
    for number, last in ((1, None), (2, {"message": "Failure", "reason": "no", "concerns_all": False})):
        callback = LOGS["mlflow"](tmp_path)
        callback.setup()
        trial = mock.Mock(config=order)  # another one of Ray's each time
        callback.log_trial_start(trial)
        metrics = {"message": "EpochMetrics", "epoch": number, "val_accuracy": number / 10, **epoch}
        callback.log_trial_result(1, trial, metrics)
        if last:
            callback.log_trial_result(2, trial, last)
        callback.log_trial_end(trial)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    assert [(item.step, item.value) for item in history] == [(1, 0.1), (2, 0.2)]
    assert run.info.status == "FAILED"


def test_a_log_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(
        sys, "argv", ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "new", "--log", "mlflow"]
    )
    with pytest.raises(UserError, match=r"--log mlflow: it is not installed; pip install .*\[mlflow\]"):
        search.run.main()
    assert not list(tmp_path.iterdir())
