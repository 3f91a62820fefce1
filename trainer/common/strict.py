"""Files of JSON, read strictly: whatever is wrong with one becomes a UserError of one line, with file and field.

    read_object(path)                     a file that holds one JSON object
    checked(Result, read_object(path))    its fields, held against those of a dataclass

Python's own json takes NaN, keys that are there twice, and numbers that nothing else can hold.
"""

import codecs
import dataclasses
import functools
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from trainer.common.errors import FieldError, UserError, first_line
from trainer.common.files import special

MOST_BYTES: Final = 2**26  # of a file that is read whole; ours are far smaller
MOST_INT: Final = 2**63  # what parquet, SQLite and NumPy hold
_WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
Kind = TypeVar("Kind")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises ValueError if it is no text or too long, OSError if it cannot be read.
    """
    if wrong := special(path):
        raise ValueError(f"it {wrong}")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES // 2**20} MiB")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"not {'UTF-16' if is_utf16 else 'UTF-8'} text: {error.reason} at byte {error.start}"
        raise ValueError(what) from error


def parse_json(text: str) -> Any:
    """What JSON says. Raises ValueError, in one line, for what is no JSON, and for what JSON has no business with.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' is there twice
    """
    if not text.strip():
        raise ValueError("it is empty")
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite, parse_int=_whole_number
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"not text: {error.reason}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {first_line(error)}") from error
    return value


def read_json(path: Path, advice: str = "") -> Any:
    """What a file of JSON says. Raises UserError with the path, what is wrong, and ``advice``."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a file")
        return parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({reason_of(error)}){_behind(advice)}") from error


def read_array(path: Path) -> Any:
    """The array of an .npy file, memory-mapped. Raises OSError or ValueError, in one line, if it cannot be read."""
    import numpy as np  # which little else here needs

    if wrong := special(path):
        raise ValueError(f"it {wrong}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # NumPy reads a header as Python, and a garbled one raises nearly anything
        raise ValueError(f"not an array ({first_line(error)})") from error
    if not isinstance(array, np.ndarray):
        raise ValueError("not one array")
    return array


def reason_of(error: Exception) -> str:
    """What an error says of a file whose path is said already."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def read_object(path: Path, advice: str = "") -> dict[str, Any]:
    """As ``read_json``, of a file that holds one object."""
    content = read_json(path, advice)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must hold a JSON object, not {described(content)}{_behind(advice)}")
    return content


def checked(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """A dataclass of these values, each of its field's type.

    Raises FieldError for a field that is unknown, missing, or of another type. A number must be finite, a whole
    number below 2**63.
    """
    hints = _hints(kind)  # type: ignore[arg-type]
    for name in values.keys() - hints.keys():
        raise FieldError(f"there is no such field; the fields are {', '.join(hints)}", field=name)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name in values:
            check_type(item.name, values[item.name], hints[item.name])
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise FieldError("is missing", field=item.name)
    return kind(**values)


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise FieldError unless a field's value is of a type, such as ``int | None`` or ``dict[str, list[int]]``."""
    if not _is(value, hint):
        raise FieldError(f"must be {_describe(hint)}, not {described(value)}", field=name)


def described(value: Any) -> str:
    """A value as an error shows it: whole if it is short.

    >>> described({"a": 1})
    'an object'
    """
    if isinstance(value, dict | list):
        return _WORDS[type(value)]
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length():,} bits"
    text = json.dumps(value) if isinstance(value, bool | None) else " ".join(repr(value).split("\n"))
    return text if len(text) <= 40 else f"{text[:40]}..."


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _is(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_is(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_is(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(item, parts[1]) for item in value.values())
    if hint in (int, float):
        kinds: Any = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and is_number(value)
    return isinstance(value, hint)


def is_number(value: float) -> bool:
    """Whether a number is finite, and as a whole number below 2**63 in size."""
    return -MOST_INT <= value < MOST_INT if isinstance(value, int) else math.isfinite(value)


def _describe(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in parts)
    if origin is list and parts[0] is not Any:
        return f"a list, each item {_describe(parts[0])}"
    if origin is dict and parts[1] is not Any:
        return f"an object, each value {_describe(parts[1])}"
    return _WORDS.get(origin or hint, getattr(hint, "__name__", str(hint)))


def _behind(advice: str) -> str:
    return f"; {advice}" if advice else ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {described(name)} is there twice")
        found[name] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number


def _whole_number(text: str) -> int:
    if len(text) > 20 or not is_number(number := int(text)):
        raise ValueError(f"{text[:40]} does not fit into 64 bits")
    return number
