"""Studies on real servers, PostgreSQL and an S3 storage, that are killed and stalled while a search is at work."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from search.record.database_url import sqlite_url
from tests.nodes import ROOT, nodes, processes, without_ray, workers_stopped
from tests.search.conftest import TINY_SPACE
from tests.servers import BUCKET, KEY, PASSWORD, Postgres, Seaweed
from trainer.common.storage import Remote
from trainer.studydir import StudyDir

NUM_TRIALS = 4
EPOCHS = 12
PATIENCE = 150.0  # seconds
OUTAGE = 3.0  # seconds


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    pipe, command = subprocess.PIPE, [sys.executable, "-m", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=without_ray() | environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a command printed."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, stdout + stderr
    assert (stderr == "") == (status == 0), stderr
    assert not re.search(SECRETS, stdout + stderr)
    return stdout + stderr


def wait_for(driver: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def outage(server: Postgres | Seaweed) -> None:
    server.kill()
    time.sleep(OUTAGE)
    server.start()


def asked(folder: Path) -> tuple[str, ...]:
    (folder / "space.toml").write_text(TINY_SPACE)
    what = ("--space", str(folder / "space.toml"), "--epochs", str(EPOCHS), "--pruner", "none")
    return ("--trials", str(NUM_TRIALS), *what)


def check_trials(url: str, study: StudyDir) -> None:
    """No trial is lost, none was run twice, and each has the values that its folder has."""
    trials = optuna.load_study(study_name="study", storage=url).trials
    assert [(trial.number, trial.state.name) for trial in trials] == [(k, "COMPLETE") for k in range(NUM_TRIALS)]
    for trial in trials:
        run = study.trial(trial.number)
        metrics = run.read_metrics()
        assert [item.epoch for item in metrics] == list(range(1, EPOCHS + 1))
        assert trial.intermediate_values == {item.epoch: item.val_accuracy for item in metrics}
        assert trial.value == run.read_result().val_accuracy
        assert run.read_config().learning_rate == trial.params["learning_rate"]
    assert len({trial.params["learning_rate"] for trial in trials}) == NUM_TRIALS


SECRETS = re.compile(rf"{PASSWORD}|{PASSWORD.replace('/', '%2F')}|{KEY}")


def check_nothing_tells(*folders: Path) -> None:
    """No file holds the secrets, nor has one in its name."""
    secrets = re.compile(SECRETS.pattern.encode())
    for path in (path for folder in folders for path in folder.rglob("*")):
        held = os.fsencode(path) + (path.read_bytes() if path.is_file() else b"")
        assert not secrets.search(held), path


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    server = Postgres(tmp_path / "pg")
    yield server
    server.stop()


@pytest.fixture
def seaweed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seaweed]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weed").mkdir()
    server = Seaweed(tmp_path / "weed")
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_survives_what_happens_to_postgresql(postgres: Postgres, tmp_path: Path, packed: Path) -> None:
    results, url = tmp_path / "results", postgres.url()
    results.mkdir()
    study = StudyDir(results / "study")
    where = ("search.run", "--workers", "1", "--name", "study", "--storage", url, "--results")
    new = ("--data", str(packed), *asked(tmp_path))
    driver = start(*where, str(results), *new)
    wait_for(driver, lambda: len(study.trial(0).read_metrics()) >= 3)
    outage(postgres)
    wait_for(driver, lambda: len(study.trial(1).read_metrics()) >= 3)
    with postgres.stalled():
        time.sleep(OUTAGE)
    with workers_stopped(driver.pid):
        second = start(*where, str(results), "--resume")
        third = start(*where, str(tmp_path / "elsewhere"), *new)
        assert "another search is at work on this study" in finish(second, status=2)
        assert "has a study named study already" in finish(third, status=2)
    wait_for(driver, lambda: len(study.trial(2).read_metrics()) >= 3)
    driver.kill()
    stdout, _ = driver.communicate()
    assert "lost its worker" not in stdout

    finish(start(*where, str(results), "--resume"))
    check_trials(url, study)

    assert "again with its password" in finish(start("search.table", str(study.path)), status=2)
    table = finish(start("search.table", str(study.path), PGPASSWORD=PASSWORD))
    assert table.count("COMPLETE") == NUM_TRIALS
    finish(start("search.report", str(study.path), "--storage", url))
    refit = ("search.refit", str(study.path), "--storage", url, "--top", "1", "--seeds", "1", "--epochs", "2")
    finish(start(*refit, "--workers", "1"))
    check_nothing_tells(results)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_survives_what_happens_to_its_storage_and_its_keys_land_nowhere(
    seaweed: Seaweed, tmp_path: Path, packed: Path
) -> None:
    for path in packed.iterdir():
        Remote.open(seaweed.uri("packed")).upload(path, path.name)
    there = Remote.open(seaweed.uri("results/study"), patience=30)
    assert KEY not in there.uri
    where = ("search.run", "--name", "study", "--results", seaweed.uri("results"))

    def has_done(count: int) -> bool:
        return sum(name.endswith("done.json") for name in there.files()) >= count

    with tempfile.TemporaryDirectory(prefix="r") as ray, nodes(2, RAY_AUTH_MODE="disabled", RAY_TMPDIR=ray) as cluster:
        address = ("--address", cluster.address)
        driver = start(*where, *asked(tmp_path), "--data", seaweed.uri("packed"), *address)
        wait_for(driver, lambda: bool(there.child("trials").files()))
        assert not [title for title in processes()[1].values() if SECRETS.search(title)]
        outage(seaweed)
        with workers_stopped(cluster.process):
            second = start(*where, "--resume", *address, XDG_CACHE_HOME=str(tmp_path / "other"))
            assert "another search is at work on this study" in finish(second, status=2)
        wait_for(driver, lambda: has_done(1))
        with seaweed.stalled():
            time.sleep(OUTAGE)
        wait_for(driver, lambda: has_done(2))
        driver.kill()
        stdout, stderr = driver.communicate()
        assert not SECRETS.search(stdout + stderr)
        check_nothing_tells(tmp_path / "cache")
        shutil.rmtree(tmp_path / "cache")
        printed = finish(start(*where, "--resume", *address))
        assert "the keys are not kept; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in printed
        check_nothing_tells(Path(ray))
    copy = StudyDir(tmp_path / "copy")
    there.copy_to(copy.path)
    check_trials(sqlite_url(copy.path / "study.db"), copy)
    assert not [name for name in there.files() if "checkpoint" in name]

    study = seaweed.uri("results/study")
    by_environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": PASSWORD}
    assert finish(start("search.table", there.uri, **by_environment)).count("COMPLETE") == NUM_TRIALS
    assert "ACCESS_DENIED" in finish(start("search.table", there.uri), status=2)
    finish(start("search.report", study))
    finish(start("ensemble.select", "--budget", "--results", study))
    finish(start("search.refit", study, "--top", "1", "--seeds", "1", "--epochs", "2", "--workers", "1"))
    everything = tmp_path / "everything"
    Remote.open(seaweed.uri("results")).copy_to(everything)
    assert json.loads((everything / "study" / "ensemble" / "selection.json").read_text())["studies"] == ["study"]
    assert {"report.html", "trials.parquet"} <= {path.name for path in (everything / "study").iterdir()}
    assert (everything / "study-refit" / "trials" / "0000" / "done.json").exists()
    assert f"s3://{BUCKET}/packed" in (everything / "study" / "study.json").read_text()
    check_nothing_tells(everything, tmp_path / "cache", tmp_path / "other")
