"""The command as users run it: calm, and losing a worker, its driver and its user's patience on the way."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

import search
from tests.search.conftest import TINY_SPACE
from trainer.dataset import PackedDataset
from trainer.rundir import RunDir

NUM_TRIALS = 4
EPOCHS = 12
PATIENCE = 100.0  # seconds


def _start(results: Path, name: str, *arguments: str) -> subprocess.Popen[str]:
    where = ("--results", str(results), "--name", name, "--workers", "1")
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", *where, *arguments],
        cwd=Path(search.__path__[0]).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def _new(folder: Path, packed: Path, num_trials: int) -> tuple[str, ...]:
    space = folder / "space.toml"
    space.write_text(TINY_SPACE)
    what = ("--data", str(packed), "--space", str(space), "--epochs", str(EPOCHS), "--pruner", "median")
    return ("--trials", str(num_trials), "--seed", "1", *what)


def _run_dir(study: Path, number: int) -> RunDir:
    return RunDir(study / "trials" / f"{number:04d}")


def _wait_for_epoch(study: Path, number: int, epoch: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(_run_dir(study, number).read_metrics()) < epoch:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _worker_of(driver: int) -> int:
    """The process that carries out a trial, found among the driver's descendants."""
    parents, titles = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            titles[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")

    def ancestors(process: int) -> Iterator[int]:
        while process in parents:
            yield process
            process = parents[process]

    (worker,) = (
        process for process, title in titles.items() if "ray::ImplicitFunc" in title and driver in ancestors(process)
    )
    return worker


def _outcome(study: Path) -> list[tuple[Any, ...]]:
    """Everything about a study's trials that must not depend on what happened on the way."""
    trials = optuna.load_study(study_name="study", storage=f"sqlite:///{study / 'study.db'}").trials
    return [
        (
            trial.number,
            trial.state.name,
            trial.params,
            trial.value,
            trial.intermediate_values,
            _weights(study, trial.number),
        )
        for trial in trials
    ]


def _weights(study: Path, number: int) -> bytes | None:
    path = _run_dir(study, number).path / "weights.safetensors"
    return path.read_bytes() if path.exists() else None


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """A study of two trials, prolonged to four."""
    results = tmp_path_factory.mktemp("calm")
    status, stdout, stderr = _finish(_start(results, "study", *_new(results, packed, 2)))
    assert (status, stderr) == (0, "")
    assert "ensemble.select" in stdout
    assert "\x1b" not in stdout
    assert sorted(path.name for path in (results / "study").glob("study.db*")) == ["study.db"]
    status, _, stderr = _finish(_start(results, "study", "--resume", "--trials", str(NUM_TRIALS)))
    assert (status, stderr) == (0, "")
    return results / "study"


def test_a_study_holds_what_it_should(calm: Path, packed: Path) -> None:
    table = pd.read_parquet(calm / "trials.parquet")
    assert table["number"].tolist() == list(range(NUM_TRIALS))
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    settings = json.loads((calm / "study.json").read_text())
    dataset = PackedDataset.open(packed)
    assert (settings["trials"], settings["data_fingerprint"]) == (NUM_TRIALS, dataset.fingerprint)
    validation = pd.read_parquet(calm / "validation.parquet")
    assert validation["sequence_id"].tolist() == dataset.sequence_ids[dataset.split(5, 0)[1]].tolist()
    for row in table.itertuples():
        run = _run_dir(calm, row.number)
        assert run.is_done == (row.state == "COMPLETE")
        assert run.read_checkpoint() is None
        if run.is_done:
            assert run.read_val_probs().shape == (len(validation), dataset.num_signs)
            assert run.read_result().num_parameters == row.num_parameters
            assert run.read_config().learning_rate == row.learning_rate


@pytest.mark.slow
def test_a_search_that_loses_worker_and_driver_comes_out_as_a_calm_one(
    calm: Path, tmp_path: Path, packed: Path
) -> None:
    study = tmp_path / "study"
    driver = _start(tmp_path, "study", *_new(tmp_path, packed, NUM_TRIALS))
    _wait_for_epoch(study, 0, 3, driver)
    os.kill(_worker_of(driver.pid), signal.SIGKILL)
    _wait_for_epoch(study, 1, 3, driver)
    os.kill(driver.pid, signal.SIGKILL)
    _, stdout, _ = _finish(driver)
    assert "trial 0 lost its worker" in stdout
    assert [outcome[1] for outcome in _outcome(study)] == ["COMPLETE", "RUNNING"]

    driver = _start(tmp_path, "study", "--resume")
    _wait_for_epoch(study, 2, 3, driver)
    driver.send_signal(signal.SIGINT)
    status, stdout, _ = _finish(driver)
    assert status == 130
    assert f"python -m search.run --resume --name study --results {tmp_path}" in stdout

    status, _, stderr = _finish(_start(tmp_path, "study", "--resume"))
    assert (status, stderr) == (0, "")
    assert _outcome(study) == _outcome(calm)
