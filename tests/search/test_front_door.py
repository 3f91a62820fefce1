"""search from Python: what a finished study shows, what is refused, and that a help page imports nothing heavy."""

import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

import search
from search.options import SearchOptions
from search.problem.objective import OBJECTIVES
from tests.nodes import ROOT
from tests.search.conftest import TINY_SPACE
from tests.search.decide.test_warm_start import asked_of, search_all
from trainer.common.errors import UserError

HEAVY = ("torch", "ray", "optuna", "numba", "pandas", "pyarrow", "ai_edge_litert", "numpy")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    directory = tmp_path_factory.mktemp("front") / "study"
    search_all(directory, asked_of(packed), stop_after=9)
    return directory


def test_a_study_is_data_frames_and_its_best_trial(study: Path) -> None:
    loaded = search.load_study(study)
    trials = loaded.trials
    assert {"number", "state", "learning_rate", "val_accuracy"} <= set(trials.columns)
    complete = trials[trials["state"] == "COMPLETE"]
    assert complete["val_accuracy"].is_monotonic_decreasing
    assert loaded.best.number == complete["number"].iloc[0]
    curves = loaded.curves()
    last = curves[curves["trial"] == loaded.best.number].sort_values("epoch")
    assert last["val_accuracy"].iloc[-1] == pytest.approx(loaded.best.val_accuracy)
    assert (loaded.name, loaded.path, loaded.is_finished) == ("study", str(study), False)


def test_a_notebook_shows_the_best_trials_in_a_table(study: Path) -> None:
    shown = search.load_study(study)._repr_html_()
    assert "<table" in shown
    assert "best accuracy" in shown
    assert "reason" not in shown  # columns without a value are left out


def test_a_study_without_trials_has_no_best(tmp_path: Path, packed: Path) -> None:
    search_all(tmp_path / "new", asked_of(packed), stop_after=0)
    loaded = search.load_study(tmp_path / "new")
    assert loaded.best is None
    assert list(loaded.curves().columns) == ["trial", "epoch", "val_accuracy"]
    assert "no trial yet" in loaded._repr_html_() or len(loaded.trials) == 0
    assert isinstance(loaded.trials, pd.DataFrame)


@pytest.mark.usefixtures("ray_with_two_workers")
def test_a_search_runs_in_a_thread_and_returns_its_study(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib
    import tomllib

    monkeypatch.setattr("search.execute.cluster.connect", lambda *_: contextlib.nullcontext())
    found: list[search.Study] = []

    def run() -> None:
        asked = {"results": tmp_path, "name": "threaded", "space": tomllib.loads(TINY_SPACE), "pruner": "none"}
        found.append(search.search(packed, trials=2, epochs=1, workers=1, **asked))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found[0].trials["state"].tolist() == ["COMPLETE", "COMPLETE"]
    assert found[0].is_finished


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"trails": 3}, "trails", "did you mean trials"),
        ({"trials": 0}, "trials", "at least 1"),
        ({"sampler": "tpo"}, "sampler", "did you mean tpe"),
        ({"time_budget": "soon"}, "time_budget", "is no time"),
        ({"gpus_per_trial": 1.5}, "gpus_per_trial", "share of one GPU"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"space": {"num_headz": 3}}, None, "did you mean num_heads"),
    ],
)
def test_what_cannot_be_names_its_field(
    options: dict[str, object], field: str | None, words: str, tmp_path: Path, packed: Path
) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        search.search(packed, **{"results": tmp_path, **options})
    assert refusal.value.field == field
    assert not list(tmp_path.rglob("study.json"))


def test_the_objectives_that_can_be_asked_for_are_those_there_are() -> None:
    for name in OBJECTIVES:
        assert SearchOptions(objective=name).objective == name
    with pytest.raises(UserError, match="is not one of"):
        SearchOptions(objective="speed")  # type: ignore[arg-type]


def test_older_spellings_still_work() -> None:
    from trainer.common.cli import Parser

    options: SearchOptions = Parser("search.run", SearchOptions).parse(["--no-seed-points"])
    assert not options.recipe_points


@pytest.mark.parametrize("module", ["search.run", "search.refit", "search.table", "search.report"])
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--trails", "3"]])
def test_a_command_answers_without_importing_anything_heavy(module: str, arguments: list[str]) -> None:
    code = f"""
import sys
from {module} import main
from trainer.common import cli
sys.argv = [{module!r}, *{arguments!r}]
try:
    cli.run(main)
except SystemExit as end:
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    assert not heavy, heavy
    sys.exit(end.code)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if arguments[0] == "--trails" else 0), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_worker_imports_no_optuna() -> None:
    code = "import sys, search.execute.worker; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
