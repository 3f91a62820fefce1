"""Logs in another tool's format: read back, epoch by epoch, of trials that are undisturbed and that go on."""

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tensorboardX.proto.event_pb2 import Event

import search.run
from search.execute.driver import run_trials
from search.execute.loggers import LOGS
from search.options import RunOptions
from search.problem.space import Space
from search.show.progress import Progress
from tests.search.conftest import TINY_SPACE
from tests.search.studies import open_study
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
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


EPOCH = {"train_loss": 1.0, "val_log_loss": 1.0, "learning_rate": 0.1, "seconds": 1.0, "sequences_per_second": 1.0}


def _wandb_records(folder: Path) -> list[Any]:
    """All that is in the file of a run."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("run-*.wandb")
    content, place, found = path.read_bytes(), 7, []
    assert len(content) < 32768  # larger files consist of blocks
    while place < len(content):  # a record: checksum, length, type, data
        _, length, _ = struct.unpack_from("<IHB", content, place)
        found.append(Record.FromString(content[place + 7 : place + 7 + length]))
        place += 7 + length
    return found


def _values(updates: list[Any]) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def _accuracies(records: list[Any]) -> dict[int, float]:
    """By step, which is an epoch."""
    history = [_values(record.history.item) for record in records if record.HasField("history")]
    assert all(values["epoch"] == values["_step"] for values in history)
    return {values["_step"]: values["val_accuracy"] for values in history}


def _in_two_parts(log: str, directory: Path) -> Iterator[tuple[Any, mock.Mock, bool]]:
    """Trial 3 after its first epoch, and as it goes on, under another driver, to its second and fails."""
    for number, failed in ((1, False), (2, True)):
        callback: Any = LOGS[log](directory)
        callback.setup()
        trial = mock.Mock(trial_id=f"t{number}", config={"number": 3, "config": {"learning_rate": 0.1}})
        callback.log_trial_end(mock.Mock(), failed=True)  # its worker could not be started
        callback.log_trial_start(trial)
        metrics = {"message": "EpochMetrics", "epoch": number, "val_accuracy": number / 10, **EPOCH}
        callback.log_trial_result(1, trial, metrics)
        if failed:
            callback.log_trial_result(2, trial, {"message": "Failure", "reason": "no", "concerns_all": False})
        yield callback, trial, failed


@pytest.fixture
def search_with(
    tmp_path: Path, packed: Path, base: TrainConfig, progress: Progress
) -> Callable[[str], list[dict[int, float]]]:
    """Two searches of one study, the second of which goes on with the first's; accuracies by epoch, of each trial."""

    def run(log: str) -> list[dict[int, float]]:
        for num_trials in (1, 2):
            study = open_study(tmp_path, Space.parse(TINY_SPACE, base), trials=num_trials, seed=0, pruner="none")
            callbacks = [LOGS[log](tmp_path)]
            assert run_trials(study, PackedDataset.open(packed), RunOptions(workers=1), progress, callbacks)
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
    for callback, trial, _ in _in_two_parts("mlflow", tmp_path):
        callback.log_trial_end(trial)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'logs' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
    history = client.get_metric_history(run.info.run_id, "val_accuracy")
    assert [(item.step, item.value) for item in history] == [(1, 0.1), (2, 0.2)]
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("ray_with_two_workers")
def test_wandb_files_hold_a_run_for_each_trial(
    tmp_path: Path,
    search_with: Callable[[str], list[dict[int, float]]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    wanted = search_with("wandb")
    assert capfd.readouterr() == ("", "")
    folders = sorted(tmp_path.glob("logs/wandb/offline-run-*"), key=lambda folder: folder.name[-4:])
    ids = [re.fullmatch(r"offline-run-\d+_\d+-(([0-9a-f]{8})-\d{4})", folder.name) for folder in folders]
    assert len({found and found[2] for found in ids}) == 1
    names = [found and found[1] for found in ids]
    for number, folder in enumerate(folders):
        records = _wandb_records(folder)
        (run,) = (record.run for record in records if record.HasField("run"))
        assert (run.run_id, run.display_name) == (names[number], f"{number:04d}")
        assert (run.project, run.run_group) == (tmp_path.name, tmp_path.name)
        config = _values(run.config.update)
        del config["_wandb"]
        assert config == RunDir(tmp_path / "trials" / f"{number:04d}").read_config().to_json()
        assert _accuracies(records) == pytest.approx(wanted[number])
        assert records[-1].exit.exit_code == 0
        assert not run.host
        assert str(tmp_path) not in str(records)
        assert {record.WhichOneof("record_type") for record in records}.isdisjoint({"environment", "stats", "files"})
    assert len(folders) == 2


@pytest.mark.usefixtures("ray_with_two_workers")
def test_wandb_goes_on_with_a_trials_run_and_says_that_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "signs")
    for callback, trial, failed in _in_two_parts("wandb", tmp_path):
        if failed:
            callback.log_trial_end(trial)
        callback.on_experiment_end([trial])
    runs = [_wandb_records(folder) for folder in sorted(tmp_path.glob("logs/wandb/offline-run-*-0003*"))]
    assert [_accuracies(records) for records in runs] == [{1: 0.1}, {2: 0.2}]
    begins = [record.run for records in runs for record in records if record.HasField("run")]
    assert len({run.run_id for run in begins}) == 1
    assert [(run.project, run.run_group, run.resume) for run in begins] == [("signs", tmp_path.name, True)] * 2
    summaries = [_values([item for record in records for item in record.summary.update]) for records in runs]
    assert [summary["reason"] for summary in summaries] == ["", "no"]
    assert [records[-1].exit.exit_code for records in runs] == [0, 1]


@pytest.mark.parametrize(
    ("mode", "key", "message"),
    [
        ("online", None, "WANDB_MODE is online, and there is no API key; set WANDB_API_KEY, or leave WANDB_MODE unset"),
        ("online", "short", "WANDB_API_KEY invalid.*; set WANDB_API_KEY, or leave WANDB_MODE unset"),
        ("on", None, "WANDB_MODE must be offline, online or unset, not on"),
    ],
)
def test_wandb_is_refused_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, key: str | None, message: str
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {"HOME": str(home), "NETRC": str(home / ".netrc"), "WANDB_MODE": mode}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", key or "")
    monkeypatch.setenv("WANDB_SILENT", "true")
    arguments = ["--trials", "1", "--results", str(tmp_path / "results"), "--log", "wandb"]
    monkeypatch.setattr(sys, "argv", ["search.run", *arguments])
    with pytest.raises(UserError, match=message):
        search.run.main()
    assert not (tmp_path / "results").exists()


def test_a_log_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(
        sys, "argv", ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "new", "--log", "mlflow"]
    )
    with pytest.raises(UserError, match=r"--log: mlflow: it is not installed; pip install .*\[mlflow\]"):
        search.run.main()
    assert not list(tmp_path.iterdir())
