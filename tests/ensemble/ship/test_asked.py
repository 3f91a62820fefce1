"""What is asked of a selection, and the studies that are opened for it."""

import shutil
from pathlib import Path

import pytest

from ensemble.ship.asked import Request, newest_study, open_studies
from ensemble.tflite.latency import Target
from trainer.studydir import StudyDir


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    return shutil.copytree(study, tmp_path / "results" / "small")


def test_the_newest_study_is_one_that_held_somebody_out(copy: Path):
    for name, made, everybody in (("later", "2027", False), ("last", "2028", True)):
        about = {"created": f"{made}-01-01T00:00:00", "base_config": {"all_participants": everybody}}
        StudyDir(copy.parent / name).write_request({**about, "label_names": ["a"], "data": ""})
    (copy.parent / "broken").mkdir()
    (copy.parent / "broken" / "study.json").write_text("{")
    assert newest_study(copy.parent).name == "later"


def test_without_a_request_of_studies_the_newest_is_opened(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(copy.parent.parent)
    opened = open_studies(Request(target=Target()))
    assert opened.folders[0].path == Path("results/small")
    assert opened.out == Path("results/small/ensemble")
