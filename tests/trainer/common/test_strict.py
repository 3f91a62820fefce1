"""JSON is read strictly: nothing that is wrong with a file goes unnoticed or ends in a traceback."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.common.errors import FieldError, UserError
from trainer.common.strict import (
    MOST_BYTES,
    checked,
    described,
    parse_json,
    read_array,
    read_json,
    read_object,
    read_text,
)

WRONG = {
    "": "it is empty",
    " \n": "it is empty",
    "{": "not JSON: Expecting",
    "\0": "not JSON: Expecting",
    '{"a": 1, "a": 2}': "the key 'a' is there twice",
    '{"a": {"b": 1, "b": 1}}': "the key 'b' is there twice",
    "[NaN]": "NaN is no finite number",
    "[-Infinity]": "-Infinity is no finite number",
    "[1e400]": "1e400 is no finite number",
    f"[{2**63}]": f"{2**63} does not fit into 64 bits",
    "9" * 6000: f"{'9' * 40} does not fit into 64 bits",
    "[" * 100_000: "nested too deeply",
    '{"a":' * 100_000: "nested too deeply",
    '"\\ud800"': "not text: surrogates not allowed",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: repr(text[:20]))
def test_what_is_no_strict_json_is_said_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{WRONG[text]}[^\n]*$"):
        parse_json(text)


def test_what_is_json_is_read_as_ever() -> None:
    value = {"a": [1, -0.5, True, None, "ü\U0001f44b", -(2**63), 2**63 - 1, 1e-320], "b": {"a": {}}}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_bytes(b"\xff{}"), lambda _: None])
def test_what_cannot_be_read_is_an_error_with_path_and_advice(make: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    make(path)
    words = "not a file|not UTF-8 text: invalid start byte at byte 0|No such file or directory"
    with pytest.raises(UserError, match=rf"file\.json: cannot be read \(({words})\); ask for it$"):
        read_json(path, "ask for it")


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no room on the disk
    with pytest.raises(UserError, match=r"file\.json: cannot be read \(more than 64 MiB\)"):
        read_object(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is a pipe, not a file"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("garbled", "words"),
    [
        (lambda _: b"", "not an array"),
        (lambda content: content[:11] + content[8:], "not an array|Cannot parse header|Header"),
        (lambda content: content[:40], "EOF|not an array"),
    ],
)
def test_an_array_is_read_or_refused_as_no_value(garbled: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    path = tmp_path / "probs.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    assert read_array(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(garbled(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        read_array(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="it is a pipe"):
        read_array(path)


def test_an_object_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n')
    assert read_object(path) == {"a": 1}
    path.write_text("[]")
    with pytest.raises(UserError, match="must hold a JSON object, not a list; mend it"):
        read_object(path, "mend it")


@dataclass(frozen=True)
class Measured:
    name: str
    count: int
    share: float = 0.5
    limit: int | None = None
    names: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)


GOOD = {"name": "a", "count": 3, "share": 1, "limit": 4, "names": ["b"], "sizes": {"c": 2.5}}


def test_fields_of_the_right_types_become_the_dataclass() -> None:
    assert checked(Measured, GOOD) == Measured("a", 3, 1, 4, ["b"], {"c": 2.5})
    assert checked(Measured, {"name": "a", "count": 3}) == Measured("a", 3)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("name", None, "must be text, not null"),
        ("count", "3", "must be a whole number, not '3'"),
        ("count", True, "must be a whole number, not true"),
        ("count", 3.0, "must be a whole number, not 3.0"),
        ("count", 2**63, f"must be a whole number, not {2**63}"),
        ("share", float("nan"), "must be a number, not nan"),
        ("share", [1.0], "must be a number, not a list"),
        ("limit", "x" * 99, f"must be a whole number or null, not '{'x' * 39}..."),
        ("names", "b", "must be a list, each item text, not 'b'"),
        ("names", ["b", 1], "must be a list, each item text, not a list"),
        ("sizes", {"c": "d"}, "must be an object, each value a number, not an object"),
        ("other", 1, "there is no such field; the fields are name, count, share, limit, names, sizes"),
    ],
)
def test_a_field_of_another_type_is_named(name: str, value: Any, words: str) -> None:
    with pytest.raises(FieldError) as refusal:
        checked(Measured, {**GOOD, name: value})
    assert (refusal.value.field, refusal.value.message) == (name, words)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(FieldError, match=r"^count: is missing$"):
        checked(Measured, {"name": "a"})
    assert described({"a": 1}) == "an object"
    assert described(2**16_610) == "a whole number of 16,611 bits"
