"""Reading train.csv and the sign map: as the contest has them, and as spreadsheets and other systems write them."""

import json
import os
from pathlib import Path

import pytest

from trainer.common.errors import UserError
from trainer.data.contest import (
    NO_PARTICIPANT,
    Entry,
    faults,
    other_than_paths,
    read_sign_map,
    read_train_csv,
    split_signs,
)

LINES = """path,participant_id,sequence_id,sign
a/1.parquet,16,100,hello
a/2.parquet,18,101,"yes, please"
"""
ENTRIES = [Entry("a/1.parquet", 16, 100, "hello"), Entry("a/2.parquet", 18, 101, "yes, please")]

SAME: dict[str, bytes] = {
    "as the contest's": LINES.encode(),
    "byte order mark": LINES.encode("utf-8-sig"),
    "empty first line": b"\n" + LINES.encode(),
    "byte order mark and empty line": b"\xef\xbb\xbf\r\n" + LINES.encode(),
    "CRLF": LINES.replace("\n", "\r\n").encode(),
    "CR": LINES.replace("\n", "\r").encode(),
    "UTF-16": LINES.encode("utf-16"),
    "UTF-32": LINES.encode("utf-32"),
    "UTF-16, big-endian": b"\xfe\xff" + LINES.encode("utf-16-be"),
    "semicolons": b"path;participant_id;sequence_id;sign\na/1.parquet;16;100;hello\na/2.parquet;18;101;yes, please\n",
    "tabs in UTF-16": "path\tparticipant_id\tsequence_id\tsign\r\na/1.parquet\t16\t100\thello\r\n"
    "a/2.parquet\t18\t101\tyes, please\r\n".encode("utf-16"),
    "every field quoted": b'"path","participant_id","sequence_id","sign"\n"a/1.parquet","16","100","hello"\n'
    b'"a/2.parquet","18","101","yes, please"\n',
    "no end of line": LINES.strip().encode(),
    "empty last lines": LINES.encode() + b"\n\n",
    "numbers as pandas writes them beside missing ones": LINES.replace(",16,100,", ",16.0,100.0,").encode(),
    "spaces round numbers": LINES.replace(",16,100,", ", 16 , 100 ,").encode(),
    "backslashes": LINES.replace("a/", "a\\").encode(),
    "further columns": LINES.replace("sign\n", "sign,note\n")
    .replace("hello\n", "hello,\xe9\n")
    .replace('please"\n', 'please",\n')
    .encode("latin-1"),
    "another order": b"sign,sequence_id,participant_id,path\nhello,100,16,a/1.parquet\n"
    b'"yes, please",101,18,a/2.parquet\n',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sign_to_prediction_index_map.json").write_text('{"hello": 0, "yes, please": 1}')
    return tmp_path


@pytest.mark.parametrize("how", SAME)
def test_however_the_index_is_written_it_says_the_same(how: str, folder: Path) -> None:
    (folder / "train.csv").write_bytes(SAME[how])
    assert read_train_csv(folder) == ENTRIES


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sign\n", "signs\n", "no column 'sign'; the columns must be path, participant_id, sequence_id, sign"),
        (",16,", ",sixteen,", "line 2: column 'participant_id' holds 'sixteen', not a whole number"),
        (",16,", ",16.5,", "line 2: column 'participant_id' holds '16.5', not a whole number"),
        (",100,", ",1e3,", "line 2: column 'sequence_id' holds '1e3', not a whole number"),
        (
            ",100,",
            f",{2**64},",
            f"line 2: column 'sequence_id' holds '{2**64}', not a whole number of at most 18 digits",
        ),
        (",100,", ",,", "line 2: column 'sequence_id' has an empty field; fill it in"),
        ("hello", "", "line 2: column 'sign' has an empty field"),
        ("a/1.parquet", '" "', "line 2: column 'path' has an empty field"),
        (",hello", "", "line 2: cannot be read .*Expected 4 columns, got 3.*; mend that line"),
        ("hello", "hello,again", "line 2: cannot be read .*Expected 4 columns, got 5.*; mend that line"),
    ],
)
def test_what_is_wrong_with_the_index_is_said(old: str, new: str, message: str, folder: Path) -> None:
    (folder / "train.csv").write_text(LINES.replace(old, new))
    with pytest.raises(UserError, match=f"^{folder}/train.csv: {message}"):
        read_train_csv(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"path,participant_id,sequence_id,sign\n\xe9,1,2,a\n"])
def test_an_index_of_no_text_is_refused(content: bytes, folder: Path) -> None:
    (folder / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=rf"^{folder}/train.csv: (line 2: )?cannot be read"):
        read_train_csv(folder)


def test_a_column_of_the_index_that_is_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "sign_to_prediction_index_map.json").write_text('{"a": 0}')
    (tmp_path / "train.csv").write_text("path,participant_id,sequence_id,sign,sign\nx.parquet,1,2,a,a\n")
    with pytest.raises(UserError, match=r"train\.csv: 2 times the column 'sign'; the columns must be path, "):
        read_train_csv(tmp_path)


def test_what_is_not_needed_may_be_absent(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,sequence_id,sign\na.parquet,7,hello\n")
    with pytest.raises(UserError, match="no column 'participant_id'"):
        read_train_csv(tmp_path)
    needed = ("path", "sequence_id", "sign")
    assert read_train_csv(tmp_path, needed) == [Entry("a.parquet", NO_PARTICIPANT, 7, "hello")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "train_landmark_files/5/8.parquet,6,8,a",
            "participant_id, by which people are told apart, is not that of the path in 1 line, such as 6 for ",
        ),
        (
            "train_landmark_files/5/8.parquet,-1,8,a",
            "participant_id, by which people are told apart, is not that of the path in 1 line, such as -1 for ",
        ),
        ("./train_landmark_files/5/8.parquet,5,9,a", "sequence_id is not that of the path in 1 line, such as 9 for "),
        (
            "asl\\train_landmark_files\\5\\8.parquet,0,8,a",
            "participant_id, by which people are told apart, is not that of the path in 1 line",
        ),
        ("train_landmark_files/5/8.parquet,5,8,a", ""),
        ("a/5/8.parquet,6,9,a", ""),
        ("train_landmark_files/x/8.parquet,6,10,a", ""),
        ("train_landmark_files/05/8.parquet,5,8,a", ""),
    ],
)
def test_ids_that_are_not_those_in_paths_are_told(line: str, said: str, folder: Path) -> None:
    first = "train_landmark_files/5/7.parquet,5,7,a"
    (folder / "train.csv").write_text(f"path,participant_id,sequence_id,sign\n{first}\n\n{line}\n")
    told = other_than_paths(read_train_csv(folder))
    assert told.startswith(said)
    assert bool(told) == bool(said)
    assert not told or told.endswith("for train_landmark_files/5/8.parquet")


def test_without_participants_none_differs_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,sequence_id,sign\ntrain_landmark_files/5/8.parquet,8,a\n")
    entries = read_train_csv(tmp_path, ("path", "sequence_id", "sign"))
    assert entries[0].participant_id == NO_PARTICIPANT
    assert other_than_paths(entries) == ""


def test_what_stands_in_place_of_the_index_is_said(folder: Path) -> None:
    os.mkfifo(folder / "train.csv")
    with pytest.raises(UserError, match=r"train\.csv: is a pipe, not a file; bring the file back"):
        read_train_csv(folder)
    with pytest.raises(UserError, match=r"train\.csv: is a pipe, not a folder; give the contest's"):
        read_train_csv(folder / "train.csv")


def test_lines_that_leave_the_folder_or_repeat_another_are_found() -> None:
    paths = ["a/1", "/a/2", "../3", "a/../4", "C:/5", "./a/1", "a//1", "a/1/", "a/..6", "a/7", "é:8"]
    ids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 10]
    entries = [Entry(path, 1, number, "s") for path, number in zip(paths, ids, strict=True)]
    leaves, twice = "the path leaves the folder", "the path is listed twice"
    assert faults(entries) == {
        **dict.fromkeys(range(1, 5), leaves),
        **dict.fromkeys((5, 6, 7), twice),
        9: "its sequence_id 1 is also that of a/1",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_sign_map_is_read_in_the_order_of_its_indices(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "sign_to_prediction_index_map.json").write_text('{"b": 1, "ä": 0}', encoding)
    assert read_sign_map(tmp_path) == ("ä", "b")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": 0, "a": 1}', '{"a": true}', "{}", '{"a": 0, "b": 0}'])
def test_a_sign_map_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "sign_to_prediction_index_map.json").write_text(content)
    with pytest.raises(UserError, match=f"^{tmp_path}/sign_to_prediction_index_map.json: (cannot be read|must map)"):
        read_sign_map(tmp_path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("hello", ["hello"]),
        ("hello,bye", ["hello", "bye"]),
        (" hello , bye ", ["hello", "bye"]),
        ("yes, please", ["yes, please"]),
        ("bye,yes, please,hello", ["bye", "yes, please", "hello"]),
        ("yes,hello", ["yes", "hello"]),
        ("a,b,c", ["a,b", "c"]),
        ("c,a,d", ["c", "a", "d"]),
        ("yes", ["yes"]),
        ("", [""]),
        ("hello,", ["hello", ""]),
        (json.dumps("hello"), ['"hello"']),
    ],
)
def test_names_with_commas_are_found_in_a_list(text: str, names: list[str]) -> None:
    assert split_signs(text, {"hello", "bye", "yes, please", "a", "a,b", "c"}) == names


@pytest.mark.parametrize("path", ["a/\0.parquet", f"a/{'x' * 256}.parquet", f"{'ü' * 128}/b.parquet"])
def test_a_path_that_no_file_can_have_is_a_fault_of_its_line(path: str) -> None:
    wrong = "the path holds a name that no file can have"
    assert faults([*ENTRIES, Entry(path, 1, 7, "hello"), Entry("a/7.parquet", 1, 7, "hello")]) == {2: wrong}
