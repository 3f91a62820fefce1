"""Notes of trials stay until they are removed, and a file that holds something else is refused."""

from pathlib import Path

import pytest

from search.record.notes import read_notes, write_notes
from trainer.common.errors import UserError


def test_notes_stay_until_an_empty_one_removes_them(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == {}
    write_notes(tmp_path, {12: "Größe, „rare“ signs", 7: "overfits"})
    write_notes(tmp_path, {7: "overfits after epoch 3", 0: ""})
    assert read_notes(tmp_path) == {7: "overfits after epoch 3", 12: "Größe, „rare“ signs"}
    write_notes(tmp_path, {7: "", 12: ""})
    assert read_notes(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ("[1]", "must hold a JSON object, not a list"),
        ('{"seven": "x"}', "seven: must be a trial's number with a text, not 'x'"),
        ('{"7": 3}', "7: must be a trial's number with a text, not 3"),
        ('{"7": ', "notes.json"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_stays(tmp_path: Path, content: str, wrong: str) -> None:
    path = tmp_path / "notes.json"
    path.write_text(content)
    for act in (lambda: read_notes(tmp_path), lambda: write_notes(tmp_path, {1: "y"})):
        with pytest.raises(UserError) as caught:
            act()
        assert str(path) in str(caught.value)
        assert wrong in str(caught.value)
        assert "correct it, or remove it" in str(caught.value)
    assert path.read_text() == content
