"""The contest's folder, as it is on disk: train.csv and the sign map. (trainer.data.landmark_files reads the rest.)

Everything that reads train.csv reads it here, so that all commands take and refuse the same.
"""

import codecs
import itertools
import re
import unicodedata
from collections.abc import Collection, Container, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from trainer.common.errors import UserError, first_line
from trainer.common.fields import LONGEST_NAME, longest_name
from trainer.common.files import mistaken
from trainer.common.strict import described, read_json

MOST_BYTES: Final = 2**28  # of train.csv; the contest's has 7 million
TRAIN_CSV: Final = "train.csv"
SIGN_MAP: Final = "sign_to_prediction_index_map.json"
NO_PARTICIPANT: Final = -1  # participant_id where the column is neither there nor needed

_NUMBERS: Final = ("participant_id", "sequence_id")
_DELIMITERS: Final = ",;\t"  # spreadsheets write the last two as well
_GIVE: Final = "give the contest's file"
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_CONTEST_PATH: Final = re.compile(r"(?:.*/)?(train_landmark_files/([0-9]{1,18})/([0-9]{1,18})\.parquet)")
_ODD: Final = re.compile(r"^[/\\]|^[^/]:|(?:^|/)\.{0,2}(?:/|\Z)")  # what pathlib would not leave as it is, or a drive


class Entry(NamedTuple):
    """One line of train.csv."""

    path: str
    participant_id: int
    sequence_id: int
    sign: str


COLUMNS: Final = Entry._fields


def read_sign_map(source: Path) -> tuple[str, ...]:
    """Names of the signs, in the order of their indices. Raises UserError if the map is absent or broken."""
    path = _find(source, SIGN_MAP)
    content = read_json(path, _GIVE)
    indices = list(content.values()) if isinstance(content, dict) else []
    if not indices or any(type(index) is not int for index in indices) or sorted(indices) != list(range(len(indices))):
        raise UserError(f"{path}: must map each sign to an index of its own, counting from 0; {_GIVE}")
    if unusable := next(filter(is_no_name, content), None):
        raise UserError(f"{path}: the name {described(unusable)} has a character that ends a line; rename that sign")
    return tuple(sorted(content, key=content.__getitem__))


def is_no_name(sign: str) -> bool:
    """Whether a sign's name cannot stand in a line of its own, as names do in files and tables.

    >>> is_no_name("thank you"), is_no_name("thank\\nyou")
    (False, True)
    """
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in sign)


def read_train_csv(source: Path, needed: Collection[str] = COLUMNS) -> list[Entry]:
    """Lines of train.csv, in order.

    Taken as well are what spreadsheets make of the file: UTF-16, a byte order mark, empty lines, semicolons or tabs
    between fields, numbers such as 1.0, and backslashes in paths. Raises UserError if it is absent, broken, lacks a
    ``needed`` column, has one twice, or has a line with a field that is empty or no number.
    """
    path = _find(source, TRAIN_CSV)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise UserError(f"{path}: has {size:,} bytes, more than a train.csv can have; take its lines apart")
    content = _read_content(path)
    table = _read_text(path, content)
    columns: dict[str, list[Any]] = {}
    for name in COLUMNS:
        if (times := table.column_names.count(name)) > 1 or (times == 0 and name in needed):
            what = "no column" if times == 0 else f"{times} times the column"
            raise UserError(f"{path}: {what} {name!r}; the columns must be {', '.join(needed)}")
        if times == 0:
            columns[name] = [NO_PARTICIPANT] * len(table)
            continue
        trimmed = pc.utf8_trim_whitespace(table[name])
        try:
            if (row := pc.index(trimmed, "").as_py()) >= 0:
                raise _LineFault(row, f"column {name!r} has an empty field; fill it in, or remove the line")
            columns[name] = _numbers(trimmed, name) if name in _NUMBERS else table[name].to_pylist()
        except _LineFault as fault:
            raise UserError(f"{path}: line {_line_of(fault.row, content)}: {fault}") from fault
    columns["path"] = [text.replace("\\", "/") for text in columns["path"]]
    return [Entry(*line) for line in zip(*(columns[name] for name in COLUMNS), strict=True)]


class _LineFault(Exception):
    """What is wrong with a row, counted from 0."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def _line_of(row: int, content: bytes) -> int:
    """The line, from 1, of a row after the header, from 0: empty lines are no rows."""
    filled = (number for number, line in enumerate(content.splitlines(), start=1) if line)
    return next(itertools.islice(filled, row + 1, None))


def other_than_paths(entries: Sequence[Entry]) -> str:
    """Which ids are not those in their paths, where these are as the contest's; empty if all are.

    Folds are dealt by participant_id. It may differ on purpose, as where recordings of a person have several folders,
    or in error, and then a person is trained on and validated on.
    """
    words = []
    is_absent = all(entry.participant_id == NO_PARTICIPANT for entry in entries)
    for place, name in enumerate(_NUMBERS, start=2):
        found = ((entry, match) for entry in entries if (match := _CONTEST_PATH.fullmatch(entry.path)))
        wrong = [(getattr(entry, name), match) for entry, match in found if getattr(entry, name) != int(match[place])]
        if wrong and not (is_absent and name == "participant_id"):
            stated, match = wrong[0]
            lines = "1 line" if len(wrong) == 1 else f"{len(wrong):,} lines"
            also = ", by which people are told apart," if name == "participant_id" else ""
            words.append(f"{name}{also} is not that of the path in {lines}, such as {stated} for {match[1]}")
    return "; ".join(words)


def _read_content(path: Path) -> bytes:
    """A file of text, in UTF-8 if it was in UTF-16, without a byte order mark. Raises UserError."""
    try:
        content = path.read_bytes()
        if content.startswith((*_UTF32, *_UTF16)):  # in this order: the one's mark begins as the other's does
            content = content.decode("utf-32" if content.startswith(_UTF32) else "utf-16").encode()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); {_GIVE}") from error
    return content.removeprefix(codecs.BOM_UTF8)


def _read_text(path: Path, content: bytes) -> pa.Table:
    """A CSV file, those of COLUMNS that it has as text, never null. Raises UserError if it cannot be read."""
    try:
        header = next((line for line in content.splitlines() if line.strip()), b"")
        return pyarrow.csv.read_csv(
            pa.BufferReader(content),
            read_options=pyarrow.csv.ReadOptions(use_threads=False),  # which alone counts rows for its errors
            parse_options=pyarrow.csv.ParseOptions(delimiter=max(_DELIMITERS, key=header.decode().count)),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(COLUMNS, pa.string())),
        )
    except (ValueError, pa.ArrowException) as error:
        words = first_line(error)
        at = re.search(r"Row #(\d+): ", words)  # the header's is 1
        line = f"line {_line_of(int(at[1]) - 2, content)}: " if at else ""
        raise UserError(f"{path}: {line}cannot be read ({words}); {'mend that line' if at else _GIVE}") from error


def _numbers(texts: pa.ChunkedArray, name: str) -> list[int]:
    """Whole numbers, also those that pandas wrote as 1.0. Raises _LineFault naming the first that is none."""
    plain = pc.replace_substring_regex(texts, r"\.0*$", "")
    wrong = pc.index(pc.match_substring_regex(plain, "^-?[0-9]{1,18}$"), False).as_py()
    if wrong >= 0:
        value = described(texts[wrong].as_py())
        raise _LineFault(
            wrong, f"column {name!r} holds {value}, not a whole number of at most 18 digits; write one there"
        )
    numbers: list[int] = [int(text) for text in plain.to_pylist()]
    return numbers


def faults(entries: Sequence[Entry]) -> dict[int, str]:
    """What is wrong with lines of train.csv, by their places: paths that leave the folder, and what is there twice."""
    found: dict[int, str] = {}
    paths: set[str] = set()
    path_of_id: dict[int, str] = {}
    for place, entry in enumerate(entries):
        path = str(PurePosixPath(entry.path)) if (odd := _ODD.search(entry.path)) else entry.path
        if odd and _leaves(entry.path):
            found[place] = "the path leaves the folder"
        elif "\0" in path or (len(path) > LONGEST_NAME // 4 and longest_name(path) > LONGEST_NAME):
            found[place] = "the path holds a name that no file can have"
        elif path in paths:
            found[place] = "the path is listed twice"
        elif entry.sequence_id in path_of_id:
            found[place] = f"its sequence_id {entry.sequence_id} is also that of {path_of_id[entry.sequence_id]}"
        else:
            paths.add(path)
            path_of_id[entry.sequence_id] = entry.path
    return found


def _leaves(path: str) -> bool:
    plain = PurePosixPath(path)
    return plain.is_absolute() or bool(PureWindowsPath(path).drive) or ".." in plain.parts


def split_signs(text: str, known: Container[str]) -> list[str]:
    """Names of signs separated by commas. A name that has commas itself is recognised where it is known.

    >>> split_signs("hello, yes, please,bye", {"hello", "yes, please", "bye"})
    ['hello', 'yes, please', 'bye']
    """
    names = []
    parts = text.split(",")
    while parts:
        wholes = ((count, ",".join(parts[:count])) for count in range(len(parts), 0, -1))
        spelt = ((count, name) for count, whole in wholes for name in (whole, whole.strip()))
        count, name = next((found for found in spelt if found[1] in known), (1, parts[0].strip()))
        names.append(name)
        del parts[:count]
    return names


def _find(source: Path, name: str) -> Path:
    """One of the two files that say what the others are. Raises UserError if the folder lacks it."""
    if not source.is_dir():
        wrong = mistaken(source, "folder") or "no such folder"
        raise UserError(f"{source}: {wrong}; give the contest's, with {TRAIN_CSV} and {SIGN_MAP}")
    if wrong := mistaken(source / name, "file"):
        raise UserError(f"{source / name}: {wrong}; bring the file back")
    missing = [name for name in (TRAIN_CSV, SIGN_MAP) if not (source / name).exists()]
    if name in missing:
        raise UserError(f"{source}: not the contest's folder (no {', no '.join(missing)}); give the one that has them")
    return source / name
