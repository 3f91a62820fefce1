"""Mutations of JSON and of JSON lines: keys and values that are absent, twice, of other types, huge or nested."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.fuzz.mutations import DoesNotApply, Mutations, brief, pick

JSON = Mutations("json")
LINES = Mutations("jsonl")
_MARK: Final = "\u2063mark\u2063"
VALUES: Final = (
    "null", "true", "false", "0", "-1", "1", "2", "0.5", "1.5", "-0.0", "1e400", "-1e400", "NaN", "Infinity",
    "-Infinity", "1" + "0" * 30, "9" * 5000, "1e-320", '""', '"text"', '"1"', '"\\u0000"', '"\\ud800"', '"../../x"',
    '"/"', '"file:///proc/x"', f'"{"x" * 100_000}"', "[]", "{}", "[[]]", "[null]", '["a", "a"]', '{"a": 1}',
    "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, f"[{'0,' * 50_000}0]",
)  # fmt: skip
"""As they stand in the file"""
_WHOLE: Final = ("", " ", "null", "[]", "{}", "1", '"text"', "[" * 100_000, "{" * 1000, "\ufeff{}", "NaN")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise DoesNotApply from error


def _places(content: Any, name: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Container, key and words of all values but the document itself, parents first."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        words = f"{name}.{key}" if name else str(key)
        yield content, key, words
        yield from _places(value, words)


def _replace(content: Any, where: int, what: int) -> tuple[str, str]:
    """The text of a document with one value replaced, and the words."""
    container, key, words = pick(_places(content), where)
    value = pick(VALUES, what)
    container[key] = _MARK
    return json.dumps(content).replace(json.dumps(_MARK), value), f"{words} is {brief(value)}"


@JSON.add
def value_replaced(path: Path, where: int, what: int) -> str:
    text, words = _replace(_read(path), where, what)
    path.write_text(text)
    return words


@JSON.add
def key_removed(path: Path, where: int, _: int) -> str:
    content = _read(path)
    container, key, words = pick(_places(content), where)
    del container[key]
    path.write_text(json.dumps(content))
    return f"without {words}"


@JSON.add
def key_renamed(path: Path, where: int, what: int) -> str:
    content = _read(path)
    container, key, words = pick((place for place in _places(content) if isinstance(place[0], dict)), where)
    name = pick((f"{key}x", f"{key} ", str(key).upper(), "", "__class__", "self"), what)
    container[name] = container.pop(key)
    path.write_text(json.dumps(content))
    return f"{words} is called {name!r}"


@JSON.add
def key_twice(path: Path, where: int, what: int) -> str:
    content = _read(path)
    container, key, words = pick((place for place in _places(content) if isinstance(place[0], dict)), where)
    value = pick(VALUES, what)
    container[_MARK] = 0
    text = json.dumps(content).replace(f"{json.dumps(_MARK)}: 0", f"{json.dumps(key)}: {value}")
    path.write_text(text)
    return f"{words} is there twice, last as {brief(value)}"


@JSON.add
def value_wrapped(path: Path, where: int, what: int) -> str:
    content = _read(path)
    container, key, words = pick(_places(content), where)
    value = container[key]
    kinds = (("a list of itself", [value]), ("an object of itself", {"value": value}), ("a text of itself", str(value)))
    kind, container[key] = pick(kinds, what)
    path.write_text(json.dumps(content))
    return f"{words} is {kind}"


@JSON.add
def list_changed(path: Path, where: int, what: int) -> str:
    content = _read(path)
    lists = [place for place in _places(content) if isinstance(place[0][place[1]], list)]
    container, key, words = pick(lists, where)
    kind, change = pick((("reversed", lambda v: v[::-1]), ("without its first", lambda v: v[1:]),
                         ("twice as long", lambda v: v + v), ("without its last", lambda v: v[:-1])), what)  # fmt: skip
    container[key] = change(container[key])
    path.write_text(json.dumps(content))
    return f"{words} is {kind}"


@JSON.add
def number_changed(path: Path, where: int, what: int) -> str:
    """Still a number of the same type, but another one."""
    content = _read(path)
    numbers = [place for place in _places(content) if type(place[0][place[1]]) in (int, float)]
    container, key, words = pick(numbers, where)
    value = container[key]
    container[key] = pick((value + 1, value * 2, -value, value * 10**6, value - 1), what)
    path.write_text(json.dumps(content))
    return f"{words} is {container[key]}, not {value}"


@JSON.add
def extra_key(path: Path, where: int, what: int) -> str:
    content = _read(path)
    value = pick(VALUES, what)
    if not isinstance(content, dict):
        raise DoesNotApply
    name = pick(("unknown", "format_version ", "", "a\nb", "self"), where)
    text = json.dumps(content | {_MARK: 0}).replace(f"{json.dumps(_MARK)}: 0", f"{json.dumps(name)}: {value}")
    path.write_text(text)
    return f"with the key {name!r} besides, {brief(value)}"


@JSON.add
def document_replaced(path: Path, _: int, what: int) -> str:
    text = pick(_WHOLE, what)
    path.write_text(text)
    return f"is {brief(text)!r} alone"


@JSON.add
def encoded_otherwise(path: Path, _: int, what: int) -> str:
    encoding = pick(("utf-16", "utf-8-sig", "latin-1", "utf-32"), what)
    text = path.read_text()
    path.write_bytes((text + "\n" if encoding != "latin-1" else text.replace("s", "\xe9", 1)).encode(encoding))
    return f"in {encoding}"


@JSON.add
def keys_reversed(path: Path, _: int, __: int) -> str:
    """Another order of keys, which means the same."""
    content = _read(path)
    if not isinstance(content, dict):
        raise DoesNotApply
    path.write_text(json.dumps(dict(reversed(content.items())), indent=1))
    return "with its keys in another order"


def _lines(path: Path) -> list[str]:
    lines = path.read_text(errors="replace").split("\n")[:-1]
    if not lines:
        raise DoesNotApply
    return lines


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


@LINES.add
def line_replaced(path: Path, where: int, what: int) -> str:
    lines = _lines(path)
    index = where % len(lines)
    lines[index] = pick(VALUES, what)
    _write(path, lines)
    return f"line {index + 1} is {brief(lines[index])}"


@LINES.add
def value_of_line_replaced(path: Path, where: int, what: int) -> str:
    lines = _lines(path)
    index = where % len(lines)
    try:
        lines[index], words = _replace(json.loads(lines[index]), where // len(lines), what)
    except ValueError as error:
        raise DoesNotApply from error
    _write(path, lines)
    return f"line {index + 1}: {words}"


@LINES.add
def lines_changed(path: Path, where: int, what: int) -> str:
    lines = _lines(path)
    index = where % len(lines)
    if what % 4 == 0:
        del lines[index]
    elif what % 4 == 1:
        lines.insert(index, lines[index])
    elif what % 4 == 2:
        lines.reverse()
    else:
        lines.insert(index, "")
    _write(path, lines)
    return f"line {index + 1} {('removed', 'twice', 'and all others in reverse', 'after an empty one')[what % 4]}"


@LINES.add
def last_line_cut(path: Path, where: int, _: int) -> str:
    """As a process leaves it that was killed while it wrote."""
    lines = _lines(path)
    size = where % len(lines[-1])
    path.write_text("".join(f"{line}\n" for line in lines[:-1]) + lines[-1][:size])
    return f"with the last line cut off after {size} characters"
