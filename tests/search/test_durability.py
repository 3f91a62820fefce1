"""The command as users run it: calm, and losing workers, nodes, its driver and its user's patience on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

import search
from tests.nodes import host_of, nodes, processes, without_ray, worker_below
from tests.search.conftest import TINY_SPACE
from trainer.data.dataset import PackedDataset
from trainer.rundir import RunDir

NUM_TRIALS = 4
EPOCHS = 12
PATIENCE = 100.0  # seconds


def _start(
    results: Path, name: str, *arguments: str, start_new_session: bool = False, **environment: str
) -> subprocess.Popen[str]:
    where = ("--results", str(results), "--name", name, "--workers", "1")
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", *where, *arguments],
        cwd=Path(search.__path__[0]).parent,
        env=without_ray() | environment,
        start_new_session=start_new_session,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=PATIENCE)
    return process.returncode, stdout, stderr


def _new(folder: Path, packed: Path, num_trials: int, pruner: str = "median", batch_size: int = 32) -> tuple[str, ...]:
    space = folder / "space.toml"
    space.write_text(TINY_SPACE.replace("batch_size = 32", f"batch_size = {batch_size}"))
    what = ("--data", str(packed), "--space", str(space), "--epochs", str(EPOCHS), "--pruner", pruner)
    return ("--trials", str(num_trials), "--seed", "1", *what)


def _run_dir(study: Path, number: int) -> RunDir:
    return RunDir(study / "trials" / f"{number:04d}")


def _wait_for_epoch(study: Path, number: int, epoch: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(_run_dir(study, number).read_metrics()) < epoch:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


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


@pytest.mark.slow  # with the others here: two searches come before them
def test_a_study_holds_what_it_should(calm: Path, packed: Path) -> None:
    table = pd.read_parquet(calm / "trials.parquet")
    assert table["number"].tolist() == list(range(NUM_TRIALS))
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    request = json.loads((calm / "study.json").read_text())
    dataset = PackedDataset.open(packed)
    assert (request["trials"], request["data_fingerprint"]) == (NUM_TRIALS, dataset.fingerprint)
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
@pytest.mark.parametrize("where", [(), ("--one-process",)], ids=["each alone", "one process"])
def test_a_search_that_loses_worker_and_driver_comes_out_as_a_calm_one(
    calm: Path, tmp_path: Path, packed: Path, where: tuple[str, ...]
) -> None:
    study = tmp_path / "study"
    driver = _start(tmp_path, "study", *_new(tmp_path, packed, NUM_TRIALS), *where)
    _wait_for_epoch(study, 0, 3, driver)
    os.kill(worker_below(driver.pid), signal.SIGKILL)
    _wait_for_epoch(study, 1, 3, driver)
    os.kill(driver.pid, signal.SIGKILL)
    _, stdout, _ = _finish(driver)
    assert "trial 0 lost its worker" in stdout
    assert [outcome[1] for outcome in _outcome(study)] == ["COMPLETE", "RUNNING"]

    driver = _start(tmp_path, "study", "--resume", *where, start_new_session=True)
    _wait_for_epoch(study, 2, 3, driver)
    os.killpg(driver.pid, signal.SIGTERM)  # as batch systems send it: to all processes of the session
    status, stdout, stderr = _finish(driver)
    assert (status, stderr) == (143, "")
    assert "stopping; send SIGTERM again" in stdout
    assert f"python -m search.run --resume --name study --results {tmp_path}" in stdout

    status, _, stderr = _finish(_start(tmp_path, "study", "--resume", *where))
    assert (status, stderr) == (0, "")
    assert _outcome(study) == _outcome(calm)


@pytest.mark.slow
def test_a_search_whose_one_process_is_killed_comes_out_as_a_calm_one(calm: Path, tmp_path: Path, packed: Path) -> None:
    study = tmp_path / "study"
    mark = f"OF_TEST={tmp_path}"
    driver = _start(tmp_path, "study", *_new(tmp_path, packed, NUM_TRIALS), "--one-process", OF_TEST=str(tmp_path))
    for number in (0, 2):
        _wait_for_epoch(study, number, 3, driver)
        os.kill(host_of(mark), signal.SIGKILL)
    status, stdout, stderr = _finish(driver)
    assert (status, stderr) == (0, "")
    assert "trial 0 lost its worker" in stdout
    assert "trial 2 lost its worker" in stdout
    assert _outcome(study) == _outcome(calm)


@pytest.mark.slow
@pytest.mark.parametrize(("pruner", "num_trials"), [("successive-halving", 8), ("predictive-halving", 12)])
def test_trials_that_wait_survive_their_driver(tmp_path: Path, packed: Path, pruner: str, num_trials: int) -> None:
    asked = _new(tmp_path, packed, num_trials, pruner, batch_size=8)
    (tmp_path / "calm").mkdir()
    assert _finish(_start(tmp_path / "calm", "study", *asked))[::2] == (0, "")
    study = tmp_path / "study"
    driver = _start(tmp_path, "study", *asked)
    _wait_for_epoch(study, num_trials - 3, 1, driver)
    os.kill(driver.pid, signal.SIGKILL)
    _finish(driver)
    states = [outcome[1] for outcome in _outcome(study)]
    assert states.count("RUNNING") > 1  # with one worker: the others wait

    status, stdout, stderr = _finish(_start(tmp_path, "study", "--resume"))
    assert (status, stderr) == (0, "")
    assert " waits: " in stdout
    outcome = _outcome(study)
    assert outcome == _outcome(tmp_path / "calm" / "study")
    assert sorted({len(trial[4]) for trial in outcome}) == [EPOCHS // 4, EPOCHS]  # few sequences: not before
    assert sum(trial[1] == "COMPLETE" for trial in outcome) >= 4
    assert not list(study.glob("trials/*/checkpoint*"))


@pytest.mark.slow
def test_a_second_interrupt_ends_a_search_at_once_and_it_comes_out_as_a_calm_one(
    calm: Path, tmp_path: Path, packed: Path
) -> None:
    study = tmp_path / "study"
    driver = _start(tmp_path, "study", *_new(tmp_path, packed, NUM_TRIALS))
    _wait_for_epoch(study, 0, 3, driver)
    worker = worker_below(driver.pid)
    os.kill(worker, signal.SIGSTOP)  # so that the first interrupt has something to wait for
    driver.send_signal(signal.SIGINT)
    assert driver.stdout is not None
    assert any("press Ctrl-C again to stop at once" in line for line in driver.stdout)
    with pytest.raises(subprocess.TimeoutExpired):
        driver.wait(timeout=3)
    driver.send_signal(signal.SIGINT)
    began = time.monotonic()
    status, stdout, stderr = _finish(driver)
    assert (status, stderr) == (130, "interrupted\n"), stdout
    assert time.monotonic() - began < 30  # a search that waits for its worker does so for a minute
    while worker in processes()[0]:  # killed, and for a moment still listed
        assert time.monotonic() - began < 40
        time.sleep(0.2)
    assert [outcome[1] for outcome in _outcome(study)] == ["RUNNING"]

    status, _, stderr = _finish(_start(tmp_path, "study", "--resume"))
    assert (status, stderr) == (0, "")
    assert _outcome(study) == _outcome(calm)


@pytest.mark.slow
def test_a_search_on_a_cluster_that_loses_node_and_driver_comes_out_as_a_calm_one(
    calm: Path, tmp_path: Path, packed: Path
) -> None:
    study, token = tmp_path / "study", "0123456789abcdef" * 4
    with nodes(2, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token) as cluster:
        where = ("--address", cluster.address)
        status, _, stderr = _finish(
            _start(tmp_path, "refused", *where, *_new(tmp_path, packed, NUM_TRIALS), HOME=str(tmp_path))  # has no token
        )
        assert (status, len(stderr.splitlines())) == (2, 1)
        assert "the cluster asks for a token" in stderr
        driver = _start(tmp_path, "study", *where, *_new(tmp_path, packed, NUM_TRIALS), RAY_AUTH_TOKEN=token)
        _wait_for_epoch(study, 0, 3, driver)
        cluster.kill_node_of(worker_below(cluster.process))
        _wait_for_epoch(study, 1, 3, driver)
        os.kill(driver.pid, signal.SIGKILL)
        _, stdout, _ = _finish(driver)
        assert "trial 0 lost its worker" in stdout
        assert [outcome[1] for outcome in _outcome(study)] == ["COMPLETE", "RUNNING"]

        driver = _start(tmp_path, "study", "--resume", *where, RAY_AUTH_TOKEN=token)
        status, stdout, stderr = _finish(driver)
        assert (status, stderr) == (0, ""), stdout
    assert _outcome(study) == _outcome(calm)
