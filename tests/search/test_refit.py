"""The command search.refit: its options, and the studies that it leaves."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import search.run
from search import refit
from search.options import RefitOptions
from search.record.trials import read_rows
from tests.search.test_repeats import untrained
from trainer.common.errors import UserError
from trainer.config import TrainConfig


@pytest.fixture
def source(tmp_path: Path, packed: Path, base: TrainConfig) -> Path:
    return untrained(tmp_path / "study", packed, base)


@pytest.mark.slow
def test_the_command_leaves_a_finished_study(source: Path) -> None:
    command = [sys.executable, "-m", "search.refit", str(source), "--top", "1", "--seeds", "1", "--epochs", "1"]
    root = Path(search.__path__[0]).parent
    ended = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=200, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    new = source.parent / "study-refit"
    assert ended.stdout.splitlines()[-1] == f"next: python -m ensemble.select --budget --results {new}"
    assert [row.state for row in read_rows(new)] == ["COMPLETE"]


def test_the_url_given_is_that_of_the_old_study_alone() -> None:
    with (
        mock.patch("sys.argv", ["refit", "results/study", "--storage", "postgresql://me:secret@host/db"]),
        mock.patch("search.execute.driver.carry_out") as carry_out,
        mock.patch("search.ending.show_outcome"),
    ):
        refit.main()
    (where, _, options), others = carry_out.call_args
    assert where == "results/study-refit"
    assert (options.storage, others.keys()) == ("postgresql://me:secret@host/db", {"starting"})


def test_a_folder_without_a_study_and_a_name_that_is_taken_are_refused(source: Path, tmp_path: Path) -> None:
    source.rename(tmp_path / "study-folds")
    with (
        mock.patch("sys.argv", ["refit", str(tmp_path / "study"), "--folds", "all"]),
        pytest.raises(UserError, match="--resume --name study-folds "),
    ):
        refit.main()
    with (
        mock.patch("sys.argv", ["refit", str(tmp_path)]),
        pytest.raises(UserError, match=r"holds no study \(no study\.json\)"),
    ):
        refit.main()


def _options(**changes: Any) -> RefitOptions:
    return RefitOptions(study="results/study", **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top": 3}, r"top: is that of the members to be shipped \(ship_of\); leave it out"),
        ({"epochs": 3}, "epochs: is that of the members"),
        ({"folds": "all"}, "folds: does not go with ship_of, which trains on all participants"),
        ({"all_participants": True}, "all_participants: does not go with ship_of"),
        ({"ship_of": None, "folds": "all", "all_participants": True}, "all_participants: does not go with folds all"),
        ({"ship_of": None, "folds": "some"}, "folds: .*some.* is not one of own, all"),
        ({"ship_of": None, "seeds": 0}, "seeds: must be .* at least 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        _options(**{"ship_of": Path("selection.json"), **changes})


@pytest.mark.parametrize(
    ("changes", "suffix"),
    [({}, "-refit"), ({"folds": "all"}, "-folds"), ({"all_participants": True}, "-refit-all")],
)
def test_the_new_study_is_called_by_what_it_is_for(changes: dict[str, Any], suffix: str) -> None:
    assert _options(**changes).suffix == suffix
