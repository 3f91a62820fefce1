"""The command search.report: where it writes, and what it refuses."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest

import search.report
from search.problem.space import DEFAULT_SPACE, Space
from tests.search.studies import open_study, request_of
from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.studydir import Folder, StudyDir


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


def refresh_of(page: Path) -> list[str]:
    return re.findall(r'http-equiv="refresh" content="(\d+)"', page.read_text())


def test_a_watched_page_is_written_until_the_search_ends(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    seen = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        seen.append(refresh_of(study / "report.html"))
        if len(waits) == 2:
            monkeypatch.setattr(Folder, "is_at_work", False)

    monkeypatch.setattr(Folder, "is_at_work", True)
    monkeypatch.setattr(time, "sleep", sleep)
    run(monkeypatch, study, "--watch", 5)
    assert waits == [5, 5]
    assert seen == [["5"], ["5"]]
    assert refresh_of(study / "report.html") == []
    assert "no search is at work" in capsys.readouterr().out


def test_ctrl_c_ends_watching_with_a_page_that_stays(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        assert refresh_of(study / "report.html") == ["30"]
        raise KeyboardInterrupt

    monkeypatch.setattr(Folder, "is_at_work", True)
    monkeypatch.setattr(time, "sleep", sleep)
    run(monkeypatch, study, "--watch")
    assert refresh_of(study / "report.html") == []


def test_several_studies_need_a_file_and_are_on_one_page(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(study, tmp_path / "other")
    with pytest.raises(UserError, match=r"--out: name the file to write, such as report\.html: there are several"):
        run(monkeypatch, study, other)
    for option, value in (("--ignore", "0"), ("--storage", "sqlite:///x")):
        with pytest.raises(UserError, match=f"{option}: goes with one study, not with 2"):
            run(monkeypatch, study, other, "--out", tmp_path / "both.html", option, value)
    run(monkeypatch, study, other, "--out", tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    assert "<h1>2 studies</h1>" in text
    assert "<h1>Study other</h1>" in text


def test_trials_are_ignored_by_their_numbers(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, study, "--ignore", "0")
    assert "Left out, as asked: trials 0." in (study / "report.html").read_text()
    for text, words in (("1,9", "has no trial 1, 9"), ("0,x", "give numbers of trials, such as 7,12"), ("-1", "")):
        with pytest.raises(UserError, match=f"--ignore.*{words}"):
            run(monkeypatch, study, "--ignore", text)
