"""A study from Python: its trials, best and curves."""

from pathlib import Path

import pandas as pd
import pytest

import search
from tests.search.decide.test_warm_start import asked_of, search_all


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
