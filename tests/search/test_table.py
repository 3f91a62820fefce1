"""search.table prints what can be read, also where nothing can be written."""

from pathlib import Path

import pytest

import search.record.trials
import search.table
import trainer.studydir
from tests.search.show.test_tables import ROWS
from trainer.common.errors import UserError


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
