"""The states that trials end in on a real Ray, and what is refused before one is started."""

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import pandas as pd
import pytest
import ray

import search.run
from search.decide.study import SearchStudy
from search.execute import cluster
from search.execute.dispatch import Brake
from search.execute.worker import run_trial
from search.prepare import make_study, resume_study
from search.problem.space import Space
from search.record.request import Settings
from search.report import Report, render
from search.show.progress import Progress
from search.table import TRIALS_PARQUET, read_rows, read_trials, write_parquet
from tests.nodes import without_ray
from tests.outcomes import metrics_of, result_of
from tests.search.conftest import TINY_SPACE
from tests.trainer.conftest import write_dataset
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import EpochMetrics, Result, RunDir
from trainer.train import TrainingDiverged


def scripted_train(
    config: TrainConfig, dataset: PackedDataset, run: RunDir, *, report: Callable[[EpochMetrics], None], device: str
) -> Result:
    """Stands in for trainer.train.train: what happens depends on the trial's number, which is its seed."""
    run.write_config(config)
    for epoch in range(len(run.read_metrics()) + 1, config.epochs + 1):
        accuracy = 0.05 * epoch + (0.0 if config.seed == 2 else 0.3)
        if (config.seed, epoch) == (3, 2):
            raise TrainingDiverged("the loss became nan in epoch 2")
        if (config.seed, epoch) == (4, 1):
            raise RuntimeError("no such kernel")
        if (config.seed, epoch) == (5, 3) and not (run.path / "died").exists():
            (run.path / "died").touch()
            os._exit(1)
        if config.seed == 6:
            os._exit(1)
        if (config.seed, epoch) == (11, 2):
            Path("/dev/full").write_bytes(b"x")
        metrics = metrics_of(epoch, float("nan") if config.seed == 7 else accuracy)
        run.append_metrics(metrics) if config.seed != 7 else None
        report(metrics)
    result = result_of(config.epochs, accuracy, device=device, data_fingerprint=dataset.fingerprint)
    run.write_result(result)
    return result


def _run_scripted_trial(order: dict[str, Any]) -> None:
    with mock.patch("search.execute.worker.train", scripted_train):
        run_trial(order)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_with_two_workers")
def test_every_way_a_trial_can_end(
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    resources: cluster.Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search.run, "run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(epochs=9))
    study = SearchStudy(tmp_path, space, num_trials=9, seed=0, pruner="successive-halving", seed_points=False)
    assert search.run.search(study, PackedDataset.open(packed), resources, 1, progress)
    study.close()

    rows = sorted(read_rows(tmp_path), key=lambda row: row.number)
    states = [row.state for row in rows]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE", "FAIL", "FAIL", "PRUNED"]
    assert [row.epochs for row in rows] == [9, 9, 1, 1, 0, 9, 0, 0, 1]  # four go on, and the last is the fifth
    assert rows[3].reason == "the loss became nan in epoch 2"
    assert rows[4].reason == "RuntimeError: no such kernel"
    assert (rows[6].reason or "").startswith("its worker died 3 times in a row: ")
    assert rows[7].reason == "val_accuracy became nan in epoch 1"
    write_parquet(rows, tmp_path / TRIALS_PARQUET)
    table = pd.read_parquet(tmp_path / TRIALS_PARQUET)
    assert table["state"].tolist() == states
    assert table["learning_rate"].notna().all()
    np.testing.assert_allclose(table.loc[[0, 2], "val_accuracy"], [0.75, 0.05])


@pytest.mark.slow
def test_a_trial_that_exceeds_memory_fails_alone(tmp_path: Path, packed: Path) -> None:
    command = [sys.executable, "-m", "tests.search.exhaust", str(tmp_path), str(packed)]
    subprocess.run(command, cwd=Path(__file__).parents[2], env=without_ray(), check=True, timeout=120)

    rows = sorted(read_rows(tmp_path), key=lambda row: row.number)
    assert [row.state for row in rows] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "COMPLETE"]
    assert "memory" in (rows[1].reason or "")
    assert [row.reason for row in rows[3:5]] == ["the loss became nan in epoch 2", "RuntimeError: no such kernel"]
    found = [trial.intermediate_values for trial in read_trials(tmp_path)]
    good = {epoch: 0.3 + 0.05 * epoch for epoch in range(1, 10)}
    expected = [good, {1: 0.35, 2: 0.4}, {1: 0.05}, {1: 0.35}, {}, good]
    assert found == [pytest.approx(values) for values in expected]


@pytest.mark.usefixtures("ray_with_two_workers")
@pytest.mark.parametrize("whose", ["worker's", "driver's"])
def test_a_full_disk_ends_the_search_and_no_trial(
    whose: str,
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    resources: cluster.Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search.run, "run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(seed=10 if whose == "worker's" else 20))
    study = SearchStudy(tmp_path, space, num_trials=9, seed=0, pruner="none", seed_points=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if whose == "driver's":
        largest = max(path.stat().st_size for path in tmp_path.glob("study.db*")) + 50_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    words = "No space left on device" if whose == "worker's" else "study.db: cannot be written .disk I/O error"
    try:
        with pytest.raises(UserError, match=words + ".* go on with --resume"):
            search.run.search(study, PackedDataset.open(packed), resources, 1, progress)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    study.close()

    states = [row.state for row in sorted(read_rows(tmp_path), key=lambda row: row.number)]
    assert 1 <= len(states) < 9
    assert states[:-1] == ["COMPLETE"] * (len(states) - 1)
    assert states[-1] in ("RUNNING", "COMPLETE")


@pytest.mark.usefixtures("ray_with_two_workers")
def test_a_time_budget_stops_a_search_that_can_go_on(
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    progress: Progress,
    resources: cluster.Resources,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search.run, "run_trial", _run_scripted_trial)
    space = Space.parse(TINY_SPACE, base.replace(seed=20))
    study = SearchStudy(tmp_path, space, num_trials=10_000, seed=0, sampler="random", pruner="none")
    assert not search.run.search(study, PackedDataset.open(packed), resources, 1, progress, time_budget=4.0)
    study.close()
    ended = sum(row.state == "COMPLETE" for row in read_rows(tmp_path))
    assert ended < 10_000

    study = SearchStudy(tmp_path, space, num_trials=ended + 2, seed=0, sampler="random", pruner="none")
    assert search.run.search(study, PackedDataset.open(packed), resources, 1, progress)
    study.close()
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


NEW = ("--trials", "2", "--name", "new")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", "2", "--name", "old"), "there is a study of this name"),
        (("--name", "new"), "--trials: say how many"),
        ((*NEW, "--seed", "-1"), "--seed: must be at least 0"),
        ((*NEW, "--seed", str(2**32)), "--seed: must be at least 0 and less than"),
        ((*NEW, "--gpus-per-trial", "nan"), "--gpus-per-trial: must be a share of one GPU"),
        ((*NEW, "--gpus-per-trial", "inf"), "--gpus-per-trial: must be a share of one GPU"),
        ((*NEW, "--workers", "2.5"), "--workers: must be a whole number of at least 1, not 2.5"),
        ((*NEW, "--time-budget", "0s"), "--time-budget: '0s' is no time"),
        ((*NEW, "--storage", "postgresql://host:abc/name"), "--storage: not a database URL"),
        ((*NEW, "--storage", "postgresql://u@h/db?password=x"), "--storage: a password belongs before the host"),
        ((*NEW, "--storage", "mysql://u@h/db?passwd=x"), "--storage: a password belongs before the host"),
        (("--resume", "--name", "old", "--no-seed-points"), "--no-seed-points: was settled when"),
        (("--resume", "--name", "lost"), "study.db: holds no study, but .* has its trials"),
        ((*NEW, "--data", "nowhere"), "nowhere: not a packed dataset"),
        ((*NEW, "--space", "nowhere.toml"), "--space nowhere.toml: there is no such file"),
        ((*NEW, "--max-params", "9K"), "--max-params: even the smallest .* layers, has 0"),
        (("--resume", "--name", "old", "--max-params", "2M"), "--max-params: was settled when"),
        (
            (*NEW, "--objective", "accuracy,params", "--pruner", "median"),
            "--pruner median: with --objective accuracy,params no trial can be stopped early",
        ),
        (
            (*NEW, "--objective", "accuracy,params", "--sampler", "cmaes"),
            "--sampler cmaes: it follows one value, and --objective asks for two; choose another sampler",
        ),
        (("--resume", "--name", "old", "--objective", "accuracy"), "--objective: was settled when"),
        ((*NEW, "--objective", "ensemble"), "--objective: 'ensemble' is not one of"),
        (("--resume", "--name", "members"), "which version 0.2.0 removed, as it was measured not to help"),
        ((*NEW, "--storage", "what"), "--storage: not a database URL"),
        ((*NEW, "--storage", "sqlite:////no/such.db"), "/no/such.db: cannot be used as a"),
        (
            ("--trials", "2", "--name", "taken", "--storage", "sqlite:///its.db"),
            "--storage: it has a study named taken",
        ),
        (("--resume", "--name", "old", "--storage", "sqlite:///its.db"), "--storage: was settled when .*: study.db"),
        ((*NEW, "--time-budget", "soon"), "--time-budget: 'soon' is no time"),
        ((*NEW, "--address", "127.0.0.1:1"), "no Ray cluster answers there"),
        (("--resume",), "--resume: say which study with --name"),
        (("--resume", "--name", "new"), "there is no study here to go on with"),
        (("--resume", "--name", "old", "--seed", "4"), "--seed: was settled when"),
        (("--resume", "--name", "old", "--trials", "1"), "was asked for 2 trials"),
        (("--resume", "--name", "old", "--data", "other"), "is not the dataset of"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    packed: Path,
    base: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(Path("other"), seed=1)
    Path("results/old").mkdir(parents=True)
    for name in ("old", "lost"):
        _write(Path("results", name), packed, base)
    Path("results/lost/trials/0000").mkdir(parents=True)
    _write_as_version_0_1(Path("results/members"), packed, base)
    optuna.create_study(storage="sqlite:///its.db", study_name="taken")
    given = arguments if "--data" in arguments or "--resume" in arguments else (*arguments, "--data", str(packed))
    monkeypatch.setattr(sys, "argv", ["search.run", *given])
    with pytest.raises(UserError, match=words):
        search.run.main()
    assert not Path("results/new/study.json").exists()


def test_two_searches_cannot_share_a_study(tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/new").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["search.run", "--trials", "1", "--name", "new", "--data", str(packed)])
    with Path("results/new", search.run.LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another search is at work on this study"):
            search.run.main()


@pytest.mark.parametrize("name", ["", "..", "x/../../y", "a/b"])
def test_a_name_is_one_folder(name: str, tmp_path: Path) -> None:
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", name]
    with mock.patch("sys.argv", argv), pytest.raises(UserError, match="--name: must be the name of one folder"):
        search.run.main()
    assert not list(tmp_path.iterdir())


def test_what_the_cluster_refuses_leaves_no_study(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("a node does not see it")

    monkeypatch.setattr(search.run.cluster, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(search.run.cluster, "check_nodes", refuse)
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "a", "--data", str(packed)]
    with mock.patch("sys.argv", argv), pytest.raises(UserError, match="a node does not see it"):
        search.run.main()
    assert not list(tmp_path.iterdir())


def test_an_interruption_at_the_start_says_how_to_go_on(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.run.cluster, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(search.run.cluster, "check_nodes", lambda *_: None)
    monkeypatch.setattr(search.run, "SearchStudy", interrupt)
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "a", "--data", str(packed)]
    argv += ["--cpus-per-trial", "2", "--gpus-per-trial", "0.25"]
    with mock.patch("sys.argv", argv), pytest.raises(KeyboardInterrupt):
        search.run.main()
    assert capsys.readouterr().out == (
        f"go on with:\n  python -m search.run --resume --name a --results {tmp_path} --cpus-per-trial 2 "
        "--gpus-per-trial 0.25\n"
    )


def _write(directory: Path, packed: Path, base: TrainConfig, **options: Any) -> None:
    """The settings of a study of two trials."""
    space, dataset = Space.parse(TINY_SPACE, base), PackedDataset.open(packed)
    settings = Settings.make(
        space=space, dataset=dataset, trials=2, seed=0, sampler="tpe", pruner="none", seed_points=True, **options
    )
    settings.write(directory)


def _write_as_version_0_1(directory: Path, packed: Path, base: TrainConfig) -> None:
    """The study.json of a search for the members of an ensemble, which that version had."""
    _write(directory, packed, base)
    asked = json.loads((directory / "study.json").read_text()) | {"objective": "ensemble", "budget": "5M"}
    (directory / "study.json").write_text(json.dumps(asked))


def test_a_study_of_a_removed_objective_can_still_be_read(tmp_path: Path, packed: Path, base: TrainConfig) -> None:
    _write_as_version_0_1(tmp_path, packed, base)
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}", direction="maximize")
    attributes = {"val_accuracy": 0.5, "beside": [0]}
    trial = optuna.trial.create_trial(value=0.7, intermediate_values={4: 0.5}, user_attrs=attributes)
    study.add_trial(trial)
    assert [row.val_accuracy for row in read_rows(tmp_path)] == [0.5]
    assert "What was asked" in render(Report.read(tmp_path))


def test_a_database_file_is_the_same_from_every_folder(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["search.run", "--trials", "1", "--name", "a", "--data", str(packed), "--storage", "sqlite:///its.db"]
    monkeypatch.setattr(sys, "argv", argv)
    settings, _ = make_study(search.options.parse(), tmp_path / "a")
    assert settings.storage == f"sqlite:///{tmp_path}/its.db"


def test_an_older_study_goes_on_in_its_relative_database(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base, storage="sqlite:///its.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--storage", "sqlite:///its.db"])
    assert resume_study(search.options.parse(), tmp_path)[0].trials == 2


def test_a_study_behind_a_uri_needs_no_database_to_go_on(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base)
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--results", f"file://{tmp_path}"])
    assert resume_study(search.options.parse(), tmp_path)[0].trials == 2


def test_logs_reach_the_storage_also_when_stopped_at_once(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(directory: Path, *_: object) -> None:
        (directory / "logs").mkdir()
        (directory / "logs" / "mlflow.db").touch()
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(search.run, "_run", interrupt)
    results = ["--results", f"file://{tmp_path}/results"]
    monkeypatch.setattr(sys, "argv", ["search.run", "--trials", "1", "--name", "a", "--data", str(packed), *results])
    with pytest.raises(KeyboardInterrupt):
        search.run.main()
    assert (tmp_path / "results" / "a" / "logs" / "mlflow.db").exists()


def test_a_second_interrupt_ends_a_search_that_was_started_to_ignore_the_first(progress: Progress) -> None:
    """As shells start what runs in the background."""
    brake = Brake()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with search.run._interruptible(brake, progress):
            signal.raise_signal(signal.SIGINT)
            assert brake.pulled
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_refused_search_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "a", "--data", str(tmp_path / "none")]
    with mock.patch("sys.argv", argv), pytest.raises(UserError, match="not a packed dataset"):
        search.run.main()
    assert not list(tmp_path.iterdir())
