"""The states that trials end in on a real Ray, and how a search is stopped."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from ray import tune

from search.execute.dispatch import Brake
from search.execute.driver import _interruptible, run_trials
from search.execute.worker import run_trial
from search.options import RunOptions
from search.problem.space import Space
from search.record.trials import read_rows, write_parquet
from search.show.progress import Progress
from tests.nodes import without_ray
from tests.outcomes import metrics_of, result_of
from tests.search.conftest import TINY_SPACE
from tests.search.studies import open_study
from trainer.common.errors import TrainingDivergedError, UserError
from trainer.common.signals import Stopped
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import EpochMetrics, Result, RunDir
from trainer.studydir import TRIALS_PARQUET


def scripted_train(
    config: TrainConfig,
    dataset: PackedDataset,
    run: RunDir,
    *,
    report: Callable[[EpochMetrics], None],
    device: str,
    **_: Any,
) -> Result:
    """Stands in for trainer.train.train: what happens depends on the trial's number, which is its seed."""
    run.write_config(config)
    for epoch in range(len(run.read_metrics()) + 1, config.epochs + 1):
        accuracy = 0.05 * epoch + (0.0 if config.seed == 2 else 0.3)
        if (config.seed, epoch) == (3, 2):
            raise TrainingDivergedError("the loss became nan in epoch 2")
        if (config.seed, epoch) == (4, 1):
            raise RuntimeError("no such kernel")
        if (config.seed, epoch) == (5, 3) and not (run.path / "died").exists():
            (run.path / "died").touch()
            os._exit(1)
        if config.seed == 6:
            os._exit(1)
        if (config.seed, epoch) == (11, 2):
            if os.path.ismount(run.path):
                run.write_checkpoint({"weights": torch.zeros(2**18)}, {})
            else:
                Path("/dev/full").write_bytes(b"x")
        metrics = metrics_of(epoch, float("nan") if config.seed == 7 else accuracy)
        run.append_metrics(metrics) if config.seed != 7 else None
        report(metrics)
    result = result_of(config.epochs, accuracy, device=device, data_fingerprint=dataset.fingerprint)
    run.write_result(result)
    return result


def _run_scripted_trial(order: dict[str, Any]) -> None:
    with mock.patch("search.execute.training.train", scripted_train):
        run_trial(order)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_with_two_workers")
def test_every_way_a_trial_can_end(
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.execute.driver.run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(epochs=9))
    study = open_study(tmp_path, space, trials=9, seed=0, pruner="successive-halving", recipe_points=False)
    assert run_trials(study, PackedDataset.open(packed), RunOptions(workers=1), progress)
    study.close()

    rows = sorted(read_rows(tmp_path), key=lambda row: row.number)
    states = [row.state for row in rows]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE", "FAIL", "FAIL", "PRUNED"]
    assert [row.epochs for row in rows] == [9, 9, 1, 1, 0, 9, 0, 0, 1]  # four go on, and the last is the fifth
    assert rows[3].reason == "the loss became nan in epoch 2"
    assert rows[4].reason == "RuntimeError: no such kernel"
    assert (rows[6].reason or "").startswith("its worker died 3 times in a row: ")
    assert rows[7].reason == "val_accuracy became nan in epoch 1"
    write_parquet(rows, tmp_path)
    table = pd.read_parquet(tmp_path / TRIALS_PARQUET)
    assert table["state"].tolist() == states
    assert table["learning_rate"].notna().all()
    np.testing.assert_allclose(table.loc[[0, 2], "val_accuracy"], [0.75, 0.05])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of trial 1, with room for less than a checkpoint; where no disk can be mounted, as any other."""
    path = tmp_path / "trials" / "0001"
    path.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mounting, capture_output=True).returncode == 0
    yield path
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.usefixtures("ray_with_two_workers")
@pytest.mark.parametrize("whose", ["worker's", "driver's"])
def test_a_full_disk_ends_the_search_and_no_trial(
    whose: str,
    tmp_path: Path,
    small_disk: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.execute.driver.run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(seed=10 if whose == "worker's" else 20))
    study = open_study(tmp_path, space, trials=9, seed=0, pruner="none", recipe_points=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if whose == "driver's":
        largest = max(path.stat().st_size for path in tmp_path.glob("study.db*")) + 50_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    written = "/0001/checkpoint.safetensors" if os.path.ismount(small_disk) else ""
    full = f"No space left on device.*{written}"
    words = full if whose == "worker's" else "study.db: cannot be written .disk I/O error"
    try:
        with pytest.raises(UserError, match=words + ".* then resume the study"):
            run_trials(study, PackedDataset.open(packed), RunOptions(workers=1), progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    study.close()

    states = [row.state for row in sorted(read_rows(tmp_path), key=lambda row: row.number)]
    assert 1 <= len(states) < 9
    assert states[:-1] == ["COMPLETE"] * (len(states) - 1)
    assert states[-1] in ("interrupted", "COMPLETE")
    if whose == "worker's":
        assert {path.name for path in small_disk.iterdir()} == {"config.json", "metrics.jsonl"}


@pytest.mark.usefixtures("ray_with_two_workers")
def test_a_time_budget_stops_a_search_that_can_go_on(
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("search.execute.driver.run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(seed=20))
    study = open_study(tmp_path, space, trials=10_000, seed=0, sampler="random", pruner="none")
    assert not run_trials(study, PackedDataset.open(packed), RunOptions(workers=1, time_budget=4.0), progress)
    study.close()
    ended = sum(row.state == "COMPLETE" for row in read_rows(tmp_path))
    assert ended < 10_000

    run, found = tune.run, []
    monkeypatch.setattr(tune, "run", lambda *args, **options: found.append(run(*args, **options)))
    study = open_study(tmp_path, space, trials=ended + 2, seed=0, sampler="random", pruner="none")
    assert run_trials(study, PackedDataset.open(packed), RunOptions(workers=1), progress)
    study.close()
    assert len(found[0].trials) >= 2
    assert not any(
        trial.metric_analysis or trial.metric_n_steps for trial in found[0].trials
    )  # most of what each takes in memory
    rows = [row for row in read_rows(tmp_path) if row.state != "WAITING"]
    assert [row.state for row in rows] == ["COMPLETE"] * (ended + 2)
    assert sorted(row.number for row in rows) == list(range(ended + 2))


@pytest.mark.usefixtures("ray_with_two_workers")
@pytest.mark.parametrize("shown", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}], ids=["none", "wrong"])
def test_no_process_joins_a_ray_started_here_without_its_token(shown: dict[str, str], tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    join = f"from ray._raylet import GcsClient; print(GcsClient(address={address!r}).cluster_id)"

    def attempt(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {**without_ray(), "HOME": str(tmp_path), **environment}
        return subprocess.run([sys.executable, "-c", join], env=environment, capture_output=True, text=True, timeout=60)

    right = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    assert "ClusterID" in attempt(right).stdout
    refused = attempt(shown)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "AuthenticationError" in refused.stderr


def test_a_second_interrupt_ends_a_search_that_was_started_to_ignore_the_first(progress: Progress) -> None:
    """As shells start what runs in the background."""
    brake = Brake()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _interruptible(brake, progress):
            signal.raise_signal(signal.SIGINT)
            assert brake.pulled
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_sigterm_pulls_the_brake_and_a_later_one_ends_the_search(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    brake = Brake()
    with _interruptible(brake, progress):
        for _ in range(2):  # to the process and to its group, as timeout(1) sends it
            signal.raise_signal(signal.SIGTERM)
        assert (brake.pulled, brake.signum) == (True, signal.SIGTERM)
        monkeypatch.setattr("search.execute.driver.ONE_SIGNAL_SECONDS", 0.0)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
