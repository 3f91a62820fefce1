"""From options to a checked request."""

import sys
from pathlib import Path

import pytest

from search.prepare import new_study, resumed_study
from tests.search.test_run import _options, _write
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


def test_a_database_file_is_the_same_from_every_folder(
    tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["search.run", "--trials", "1", "--name", "a", "--data", str(packed), "--storage", "sqlite:///its.db"]
    monkeypatch.setattr(sys, "argv", argv)
    request, _ = new_study(_options(), StudyDir(tmp_path / "a"))
    assert request.storage == f"sqlite:///{tmp_path}/its.db"


def test_an_older_study_goes_on_in_its_relative_database(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base, storage="sqlite:///its.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--storage", "sqlite:///its.db"])
    assert resumed_study(_options(), StudyDir(tmp_path))[0].trials == 2


def test_a_study_behind_a_uri_needs_no_database_to_go_on(
    tmp_path: Path, packed: Path, base: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path, packed, base)
    (tmp_path / "trials" / "0000").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["search.run", "--resume", "--name", "a", "--results", f"file://{tmp_path}"])
    assert resumed_study(_options(), StudyDir(tmp_path))[0].trials == 2
