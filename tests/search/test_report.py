"""The command search.report: where it writes, and what it refuses."""

import os
from pathlib import Path

import pytest

import search.report
from search.problem.space import DEFAULT_SPACE, Space
from tests.search.studies import open_study, request_of
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import StudyDir


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of one trial that is running."""
    space = Space.parse(DEFAULT_SPACE, TrainConfig(epochs=3))
    opened = open_study(tmp_path / "study", space, trials=1)
    request_of(space, trials=1).write(StudyDir(tmp_path / "study"))
    opened.ask()
    opened.close()
    return tmp_path / "study"


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["search.report", *map(str, words)])
    search.report.main()


def test_a_page_is_written_into_the_study(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, study)
    assert (study / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_page_elsewhere_leaves_the_study_as_it_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in study.iterdir()}
    run(monkeypatch, study, "--out", tmp_path / "pages" / "asl.html")
    assert "1 trials" in capsys.readouterr().out
    assert (tmp_path / "pages" / "asl.html").is_file()
    assert {path.name for path in study.iterdir()} == before


def test_a_folder_is_no_file_to_write_to(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"--out: .*: is a folder; name a file in it, such as .*report\.html"):
        run(monkeypatch, study, "--out", tmp_path)


def test_a_pipe_is_left_as_it_is(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pipe, words in ((tmp_path / "pipe", ("--out", tmp_path / "pipe")), (study / "report.html", ())):
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        with pytest.raises(UserError, match=f"--out: {pipe}: is a pipe, not a file; name another file"):
            run(monkeypatch, study, *words)
        assert pipe.is_fifo()


def test_what_is_no_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="holds no study"):
        run(monkeypatch, tmp_path)
