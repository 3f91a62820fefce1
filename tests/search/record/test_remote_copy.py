"""A study behind s3://, on a server of its own: searched by two nodes, lost with its driver's disk, used in place."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

import search.table
from search.decide.warm_start import earlier_trials
from search.ending import resume_command
from search.options import SearchOptions
from search.prepare import new_study
from search.problem.space import Space
from search.record.database_url import sqlite_url
from search.record.finished import load_study
from search.record.remote_copy import RemoteCopy, adopt
from search.record.storage import StudyStorage
from tests.faults.proxy import before
from tests.outcomes import metrics_of
from tests.search.conftest import TINY_SPACE
from tests.search.decide.test_warm_start import asked_of, search_all
from tests.search.record.conftest import BUCKET
from trainer.common import credentials
from trainer.common.cli import Parser
from trainer.common.errors import StorageError, UserError
from trainer.common.storage import Remote
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import CHECKPOINT, METRICS, VAL_PROBS, WEIGHTS
from trainer.studydir import Folder, StudyDir, for_selections


def _upload(folder: Path, uri: str) -> None:
    for path in folder.iterdir():
        Remote.open(uri).upload(path, path.name)


@pytest.mark.usefixtures("s3")
def test_a_dataset_is_fetched_once_and_verified(packed: Path) -> None:
    uri = f"s3://{BUCKET}/data/fetched"
    with pytest.raises(UserError, match="not a packed dataset"):
        PackedDataset.open(uri)
    _upload(packed, uri)
    first = PackedDataset.open(uri)
    assert (first.source, len(first)) == (uri, len(PackedDataset.open(packed)))
    Remote.open(uri).remove("frames.npy")
    assert PackedDataset.open(uri).fingerprint == PackedDataset.open(packed).fingerprint  # not fetched again
    shutil.rmtree(first.path)
    damaged = first.path.parent.parent / "damaged"
    content = bytearray((packed / "frames.npy").read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    Remote.open(uri).upload(damaged, "frames.npy")
    with pytest.raises(UserError, match=r"frames.npy is not what manifest.json says"):
        PackedDataset.open(uri)


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize(
    ("where", "words"),
    [
        (f"s3://{BUCKET}-other/x", "NO_SUCH_BUCKET"),
        (f"s3://{BUCKET}/x?endpoint_override=127.0.0.1:1&scheme=http", "NETWORK_CONNECTION"),
        ("foo://x", "Unrecognized filesystem type"),
    ],
)
def test_storage_that_cannot_be_used_is_refused_in_one_line(where: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        Remote.open(where).check_writable(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_trials_that_the_snapshot_does_not_know_are_adopted(tmp_path: Path, base: TrainConfig) -> None:
    space = Space.parse(TINY_SPACE, base)
    storage = StudyStorage(sqlite_url(tmp_path / "study.db"), "study")
    study = optuna.create_study(storage=storage, study_name="study")
    study.enqueue_trial({"num_layers": 1})
    config = base.replace(num_layers=2, num_heads=1, learning_rate=3e-3, mixup_alpha=0.25)
    adopt(study, storage, space, {0: config, 2: config})
    states = [(trial.state.name, trial.params) for trial in study.trials]
    params = {"num_layers": 2, "learning_rate": 3e-3, "mixup_alpha": 0.25}
    assert states == [("RUNNING", params), ("RUNNING", {}), ("RUNNING", params)]


@pytest.mark.usefixtures("s3")
def test_a_search_begins_with_what_a_study_behind_a_uri_found(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"s3://{BUCKET}/earlier/old"
    asked = asked_of(packed)
    search_all(tmp_path / "old", asked)
    with pytest.raises(UserError, match=rf"warm_start: {uri}: holds no study"):
        earlier_trials([uri], asked)
    _upload(tmp_path / "old", uri)
    here, there = earlier_trials([tmp_path / "old"], asked), earlier_trials([uri], asked)
    assert len(there) == 12
    for one, other in zip(here, there, strict=True):
        assert (one.params, one.values, one.user_attrs) == (other.params, other.values, other.user_attrs)
    wider = asked_of(packed, TINY_SPACE.replace("high = 2", "high = 3"))
    with pytest.raises(UserError, match=rf"warm_start: {uri}: searches another space"):
        earlier_trials([uri], wider)

    space = tmp_path / "space.toml"
    space.write_text(TINY_SPACE)
    argv = ["search.run", "--trials", "1", "--data", str(packed), "--space", str(space), "--epochs", "9"]
    monkeypatch.setattr(sys, "argv", [*argv, "--warm-start", uri])
    (tmp_path / "new").mkdir()
    made, _ = new_study(Parser("search.run", SearchOptions).parse(), StudyDir(tmp_path / "new"))
    assert made.warm_start == [uri]
    assert f"begins with 12 trials of {uri}" in " ".join(capsys.readouterr().out.split())


def test_tables_and_reports_read_kilobytes_a_trial(
    s3: dict[str, str],
    tmp_path: Path,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    search_all(tmp_path / "wide", asked_of(packed))
    study, large = StudyDir(tmp_path / "wide"), np.zeros((2**11, 2**8))  # 1 MB as float16
    for number in range(12):
        run = study.trial(number)
        run.append_metrics(metrics_of(1, 0.5))
        run.write_val_probs(large)
        run.write_weights({"weight": torch.zeros(2**18)})
    uri = f"s3://{BUCKET}/earlier/wide"
    for path in (path for path in study.path.rglob("*") if path.is_file()):
        Remote.open(uri).upload(path, str(path.relative_to(study.path)))
    files = Remote.open(uri).files()
    small = sum(size for name, (size, _) in files.items() if not name.endswith((WEIGHTS, VAL_PROBS)))
    host, _, port = s3["AWS_ENDPOINT_URL"].removeprefix("http://").partition(":")

    def read(act: Callable[[], object]) -> int:
        with before(host, int(port)) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
            act()
            return proxy.answered

    answers = 2**12 * 12  # of what is said about files, and beside their contents
    for name in ("table", "report"):
        monkeypatch.setattr(sys, "argv", [f"search.{name}", uri])
        taken = read(importlib.import_module(f"search.{name}").main)
        assert 0 < taken < small + answers < 2**20
    assert "12 trials" in capsys.readouterr().out
    assert read(lambda: load_study(uri).curves()) < answers  # the report has brought all of it here
    assert len(list((tmp_path / "cache").rglob(METRICS))) == 12
    assert not list((tmp_path / "cache").rglob(WEIGHTS))
    assert read(lambda: Folder.open(uri, for_selections)) > 12 * 2**20  # weights and predictions are what it selects by


def test_keys_in_uris_land_nowhere(
    s3: dict[str, str],
    tmp_path: Path,
    packed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(credentials, "_kept", {})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    clean = f"s3://{BUCKET}/keys"
    with_keys = clean.replace("s3://", "s3://MADEUPKEY:MADEUP%2FSECRET99@")
    asked = asked_of(packed)
    search_all(tmp_path / "old", asked)
    for folder, name in ((tmp_path / "old", "old"), (packed, "data")):
        _upload(folder, f"{with_keys}/{name}")
    (tmp_path / "space.toml").write_text(TINY_SPACE)
    argv = [
        "search.run",
        "--data",
        f"{with_keys}/data",
        "--results",
        with_keys,
        "--space",
        str(tmp_path / "space.toml"),
    ]
    monkeypatch.setattr(sys, "argv", [*argv, "--epochs", "9", "--warm-start", f"{with_keys}/old", "--name", "new"])
    options = Parser("search.run", SearchOptions).parse()
    study = StudyDir(tmp_path / "new")
    request, _ = new_study(options, study)
    request.write(study)
    assert (request.data, request.warm_start) == (f"{clean}/data", [f"{clean}/old"])
    assert f"--results {clean}" in resume_command(options)
    monkeypatch.setattr(sys, "argv", ["search.table", f"{with_keys}/old"])
    search.table.main()

    assert "MADEUPKEY" not in repr(options) + (shown := capsys.readouterr().out)
    assert f"{clean}/old" in shown
    stored = Remote.open(with_keys).files()
    assert "old/trials.parquet" in stored
    Remote.open(with_keys).copy_to(tmp_path / "all")
    for path in (*tmp_path.rglob("*"), *Path(s3["XDG_CACHE_HOME"]).rglob("*")):
        held = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        assert not re.search(rb"MADEUPKEY|SECRET99", held), path


def test_snapshots_take_a_tenth_of_the_time_and_checkpoints_stay_until_one_tells_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    now, copied = [100.0], []
    monkeypatch.setattr("search.record.remote_copy.monotonic", lambda: now[0])

    def copy(_: RemoteCopy) -> None:
        copied.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(RemoteCopy, "_copy_snapshot", copy)
    mirror = RemoteCopy(Remote.open(f"file://{tmp_path}/study"))
    mirror.directory.mkdir(parents=True)
    (mirror.directory / "study.db").touch()
    checkpoints = [tmp_path / "study" / "trials" / f"{number:04d}" / CHECKPOINT for number in range(2)]
    for path in checkpoints:
        path.parent.mkdir(parents=True)
        path.touch()
    runs = [StudyDir(mirror.directory).trial(number) for number in range(2)]
    mirror.save()
    mirror.remove_checkpoint(runs[0])
    assert (copied, [path.exists() for path in checkpoints]) == ([100.0], [False, True])
    mirror.save()
    mirror.remove_checkpoint(runs[1])
    for now[0] in (103.0, 119.0):
        mirror.catch_up()
    assert (copied, checkpoints[1].exists()) == ([100.0], True)
    now[0] = 120.0
    mirror.catch_up()
    mirror.catch_up(at_once=True)  # nothing is due
    assert (copied, checkpoints[1].exists()) == ([100.0, 120.0], False)
    mirror.save()
    mirror.catch_up(at_once=True)
    assert copied == [100.0, 120.0, 122.0]

    def fail(_: RemoteCopy) -> None:
        raise StorageError("gone")

    monkeypatch.setattr(RemoteCopy, "_copy_snapshot", fail)
    now[0] = 200.0
    with pytest.raises(StorageError):
        mirror.save()
    mirror.catch_up(at_once=True)  # as when the search that it ends lets go of the study


def test_logs_go_to_the_storage_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    mirror = RemoteCopy(Remote.open(f"file://{tmp_path}/results/study"))
    files = ("tensorboard/0000/events", "mlflow.db")
    for name in files:
        path = mirror.directory / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    mirror.upload_logs()
    mirror.fetch()
    for name in files:
        assert (tmp_path / "results" / "study" / "logs" / name).read_text() == name
        assert (mirror.directory / "logs" / name).read_text() == name
