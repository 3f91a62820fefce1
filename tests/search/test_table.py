"""search.table prints what can be read, also where nothing can be written."""

import dataclasses
import json
import re
from pathlib import Path

import pandas as pd
import pytest

import search.record.trials
import search.table
import trainer.studydir
from tests.search.show.test_repeated import ROWS as REPEATED_ROWS
from tests.search.show.test_tables import ROWS
from trainer.common.errors import UserError


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Folders of two studies: trials 1, 0 and 2 of accuracy 0.8125, 0.5 and none in a, and trial 1 of 0.75 in b."""
    others = [dataclasses.replace(ROWS[0], val_accuracy=0.75, params={"motion": 3})]
    monkeypatch.setattr(search.record.trials, "read_rows", lambda path, *_: others if path.name == "b" else ROWS)
    for name in "ab":
        (tmp_path / name).mkdir()
    return str(tmp_path / "a"), str(tmp_path / "b")


def _printed(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.argv", ["search.table", *words])
    search.table.main()
    return capsys.readouterr().out


def test_several_studies_are_one_table_and_each_has_its_file(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _printed(*two, capsys=capsys, monkeypatch=monkeypatch).splitlines()
    assert lines[0].rstrip() == f"{two[0]}: 3 trials; {two[1]}: 1 trials"
    assert [line.split()[:3] for line in lines[3:7]] == [
        ["a", "1", "COMPLETE"],
        ["b", "1", "COMPLETE"],
        ["a", "0", "PRUNED"],
        ["a", "2", "FAIL"],
    ]
    assert "motion" in " ".join(lines[:3])
    for where, numbers in zip(two, ([0, 1, 2], [1]), strict=True):
        table = pd.read_parquet(Path(where) / "trials.parquet")
        assert (table["number"].tolist(), "study" in table.columns) == (numbers, False)


def test_trials_that_are_ignored_have_no_say_in_where_others_stand(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("search.record.trials.read_rows", lambda *_: list(REPEATED_ROWS))
    rows = json.loads(_printed(two[0], "--json", capsys=capsys, monkeypatch=monkeypatch))
    assert [row["number"] for row in rows] == [2, 1, 4, 0, 5, 3]
    rows = json.loads(_printed(two[0], "--json", "--ignore", "4", capsys=capsys, monkeypatch=monkeypatch))
    assert [row["number"] for row in rows] == [2, 1, 0, 5, 3]
    rows = json.loads(_printed(two[0], "--json", "--ignore", "5,4", capsys=capsys, monkeypatch=monkeypatch))
    assert [row["number"] for row in rows] == [2, 1, 0, 3]
    rows = json.loads(_printed(two[0], "--json", "--ignore", "0", capsys=capsys, monkeypatch=monkeypatch))
    assert [row["number"] for row in rows] == [2, 5, 1, 4, 3]  # 5 stood below by its mean with 0


def test_programs_get_all_trials_or_those_asked_for_and_nothing_else(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(two[1]) / "trials.parquet" / "x").mkdir(parents=True)  # of which a warning tells, elsewhere
    rows = json.loads(_printed(*two, "--json", capsys=capsys, monkeypatch=monkeypatch))
    assert [(row["study"], row["number"]) for row in rows] == [("a", 1), ("b", 1), ("a", 0), ("a", 2)]
    asked = (*two, "--csv", "--sort", "trial", "--reverse", "--top", "2", "--ignore", "a/0,b/1")
    lines = _printed(*asked, capsys=capsys, monkeypatch=monkeypatch).splitlines()
    assert [line.split(",")[:2] for line in lines] == [['"study"', '"number"'], ['"a"', "2"], ['"a"', "1"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "0"), "--top: must be a whole number of at least 1, not 0"),
        (("--sort", "acuracy"), "--sort: there is no column acuracy; did you mean accuracy"),
        (("--reverse",), r"--reverse: name the column to sort by \(--sort\)"),
        (("--json", "--csv"), "--json: does not go with csv"),
        (("--ignore", "a/7"), "--ignore: there is no trial a/7; there are a/0 to b/1"),
        (("--ignore", "1"), r"--ignore: there is no trial 1; did you mean a/1, b/1\?"),
        (("--ignore", "x"), "--ignore: must be numbers of trials such as 7,12 or asl/7, not 'x'"),
        (("--storage", "sqlite:///x.db"), "--storage: is that of one study"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr("sys.argv", ["search.table", *two, *words])
    with pytest.raises(UserError, match=f"^{message}"):
        search.table.main()


def test_a_study_given_twice_is_refused(two: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search.table", two[0], two[0]])
    with pytest.raises(UserError, match=r"^STUDY: names a study twice"):
        search.table.main()


def test_a_study_that_cannot_be_written_is_printed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search.record.trials, "read_rows", lambda *_: ROWS)
    monkeypatch.setattr("sys.argv", ["search.table", str(tmp_path)])
    monkeypatch.setattr(trainer.studydir.Folder, "can_write", lambda *_: False)
    search.table.main()
    assert f"{len(ROWS)} trials" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_table_is_printed_though_its_file_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search.record.trials, "read_rows", lambda *_: ROWS)
    monkeypatch.setattr("sys.argv", ["search.table", str(tmp_path)])
    (tmp_path / "trials.parquet" / "x").mkdir(parents=True)
    search.table.main()
    printed = capsys.readouterr().out
    assert f"{len(ROWS)} trials" in printed
    assert f"warning: {tmp_path / 'trials.parquet'}: cannot be written (Is a directory)" in printed


def test_what_is_no_study_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["search.table", str(tmp_path)])
    with pytest.raises(UserError, match="holds no study"):
        search.table.main()


def test_what_is_noted_is_kept_by_each_study_and_shown_below_the_table(
    two: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (*two, "--note", "a/1=overfits = yes", "--note", "b/1= too slow ", "--note", "a/2=")
    lines = _printed(*asked, capsys=capsys, monkeypatch=monkeypatch).splitlines()
    assert lines[-2:] == ["trial a/1: overfits = yes", "trial b/1: too slow"]
    for where, notes in zip(two, ({"1": "overfits = yes"}, {"1": "too slow"}), strict=True):
        assert json.loads((Path(where) / "notes.json").read_text()) == notes
    rows = json.loads(_printed(*two, "--json", "--note", "b/1=", capsys=capsys, monkeypatch=monkeypatch))
    assert {row["note"] for row in rows} == {None}, "which rows of a fixture have"
    assert json.loads((Path(two[1]) / "notes.json").read_text()) == {}


@pytest.mark.parametrize(
    ("note", "wrong"),
    [
        ("a/9=x", "there is no trial a/9"),
        ("1=x", "there is no trial 1; did you mean a/1, b/1?"),
        ("a/1", "must be a trial and what to note of it, such as 7=overfits, not 'a/1'"),
        ("a/1,a/2=x", "must be a trial and what to note of it"),
        ("a/1=x\ny", "'a/1=x\\ny': has a character that is no text"),
        ("=x", "must be numbers of trials"),
    ],
)
def test_a_note_of_no_trial_is_refused_and_nothing_written(
    two: tuple[str, str], note: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["search.table", *two, "--note", "a/0=kept", "--note", note])
    with pytest.raises(UserError, match=f"^--note: {re.escape(wrong)}"):
        search.table.main()
    assert not list(Path(two[0]).parent.rglob("notes.json"))
