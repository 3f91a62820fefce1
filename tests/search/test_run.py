"""What search.run refuses before anything starts, and what it says when it is interrupted."""

import contextlib
import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest

import search.run
from search.execute import cluster
from search.execute.driver import run_search
from search.options import SearchOptions
from search.problem.space import Space
from search.record.request import Request
from search.record.trials import read_rows
from search.show.report_page import Report, render
from tests.search.conftest import TINY_SPACE
from tests.trainer.conftest import write_dataset
from trainer.common.cli import Parser
from trainer.common.errors import UserError
from trainer.common.files import LOCK
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.studydir import StudyDir


def _options() -> SearchOptions:
    """What sys.argv asks for."""
    options: SearchOptions = Parser("search.run", SearchOptions).parse()
    return options


NEW = ("--trials", "2", "--name", "new")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--trials", "2", "--name", "old"), "there is a study of this name"),
        ((*NEW, "--seed", "-1"), "--seed: must be at least 0"),
        ((*NEW, "--seed", str(2**32)), "--seed: must be at least 0 and less than"),
        ((*NEW, "--gpus-per-trial", "nan"), "--gpus-per-trial: must be a share of one GPU"),
        ((*NEW, "--gpus-per-trial", "inf"), "--gpus-per-trial: must be a share of one GPU"),
        ((*NEW, "--workers", "2.5"), "--workers: must be a whole number of at least 1, not 2.5"),
        ((*NEW, "--time-budget", "0s"), "--time-budget: '0s' is no time"),
        ((*NEW, "--storage", "postgresql://host:abc/name"), "--storage: not a database URL"),
        ((*NEW, "--storage", "postgresql://u@h/db?password=x"), "--storage: a password belongs before the host"),
        ((*NEW, "--storage", "mysql://u@h/db?passwd=x"), "--storage: a password belongs before the host"),
        (("--resume", "--name", "old", "--no-seed-points"), "--recipe-points: was settled when"),
        (("--resume", "--name", "lost"), "study.db: holds no study named lost; bring .* back"),
        ((*NEW, "--data", "nowhere"), "nowhere: not a packed dataset"),
        ((*NEW, "--space", "nowhere.toml"), "--space: nowhere.toml: there is no such file"),
        ((*NEW, "--max-params", "9K"), "--max-params: even the smallest .* num_layers 1, has 0"),
        (("--resume", "--name", "old", "--max-params", "2M"), "--max-params: was settled when"),
        (
            (*NEW, "--objective", "accuracy,params", "--pruner", "median"),
            "--pruner: median: with the objective accuracy,params no trial can be stopped early",
        ),
        (
            (*NEW, "--objective", "accuracy,params", "--sampler", "cmaes"),
            "--sampler: cmaes: it follows one value, and the objective has two; choose another sampler",
        ),
        (("--resume", "--name", "old", "--objective", "accuracy,params"), "--objective: was settled when"),
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
        (("--resume",), "--name: name the study to go on with"),
        (
            ("--resume", "--name", "lots"),
            "there is no study here to go on with; results has lost, old, members; go on with lost: "
            "python -m search.run --resume --name lost$",
        ),
        (("--resume", "--name", "s", "--results", "none"), "none/s: there is no study here to go on with$"),
        (
            ("--name", "old", "--trials", "3", "--workers", "2"),
            "there is a study of this name; choose another --name, or go on with: "
            "python -m search.run --resume --name old --workers 2$",
        ),
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
    with Path("results/new", LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another search is at work on this study"):
            search.run.main()


@pytest.mark.parametrize("name", ["", "..", "x/../../y", "a/b"])
def test_a_name_is_one_folder(name: str, tmp_path: Path) -> None:
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", name]
    with (
        mock.patch("sys.argv", argv),
        pytest.raises(UserError, match=r"--name: must (be the name of one folder|not be empty)"),
    ):
        search.run.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("-rf", "begins with no dash and has no space at its ends, not '-rf'"),
        (" a", "begins with no dash and has no space at its ends, not ' a'"),
        ("a\nb", r"begins with no dash and has no space at its ends, not 'a\\nb'"),
        ("ü" * 101, "must have at most 200 bytes, not 202"),
    ],
)
def test_a_name_that_is_trouble_elsewhere_is_refused_before_anything_is_written(
    name: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        run_search(SearchOptions(name=name, results=str(tmp_path)))
    assert refusal.value.field == "name"
    assert not list(tmp_path.iterdir())


def test_what_the_cluster_refuses_leaves_no_study(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("a node does not see it")

    monkeypatch.setattr(cluster, "connect", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "check_nodes", refuse)
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "a", "--data", str(packed)]
    with mock.patch("sys.argv", argv), pytest.raises(UserError, match="a node does not see it"):
        search.run.main()
    assert not list(tmp_path.iterdir())


def _write(directory: Path, packed: Path, base: TrainConfig, **options: Any) -> None:
    """The request of a study of two trials."""
    space, dataset = Space.parse(TINY_SPACE, base), PackedDataset.open(packed)
    request = Request.of(
        space=space, dataset=dataset, trials=2, seed=0, sampler="tpe", pruner="none", recipe_points=True, **options
    )
    request.write(StudyDir(directory))


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


def test_logs_reach_the_storage_also_when_stopped_at_once(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(run: Any, *_: object) -> None:
        (run.study.path / "logs").mkdir()
        (run.study.path / "logs" / "mlflow.db").touch()
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("search.execute.driver._run", interrupt)
    results = ["--results", f"file://{tmp_path}/results"]
    monkeypatch.setattr(sys, "argv", ["search.run", "--trials", "1", "--name", "a", "--data", str(packed), *results])
    with pytest.raises(KeyboardInterrupt):
        search.run.main()
    assert (tmp_path / "results" / "a" / "logs" / "mlflow.db").exists()


def test_a_refused_search_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = ["search.run", "--trials", "1", "--results", str(tmp_path), "--name", "a", "--data", str(tmp_path / "none")]
    with mock.patch("sys.argv", argv), pytest.raises(UserError, match="not a packed dataset"):
        search.run.main()
    assert not list(tmp_path.iterdir())


def test_something_is_said_before_what_takes_seconds_is_loaded() -> None:
    code = """\
import sys
from search.show import starting
starting.Starting.say = lambda _, text: sys.exit(f"{text}; loaded: {'torch' in sys.modules or 'ray' in sys.modules}")
sys.argv = ["search.run", "--trials", "1"]
import search.run
search.run.main()
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert told.stderr == "loading torch, Ray and Optuna; loaded: False\n"
