"""Mutations of CSV tables and of TOML files."""

import csv
import io
import re
from pathlib import Path
from typing import Final

from tests.fuzz.mutations import DoesNotApply, Mutations, brief, pick

CSV = Mutations("csv")
TOML = Mutations("toml")
FIELDS: Final = (
    "", " ", "0", "-1", "1.0", "1e3", "nan", "inf", "99999999999999999999", "text", "NULL", "a,b", 'a"b', "a\nb", "\0",
    "../../x", "/etc/passwd", "a\\b.parquet", "x" * 200_000, "\ufeff", "é", " 1", "1_000", "0x10", "-0", "+1",
)  # fmt: skip
_TOML_VALUES: Final = (
    "1", "0", "-1", "1e400", "nan", "inf", "1e-300", "99999999999999999999999", "1" + "0" * 4000, "true", '"text"',
    '""', "[]", "{}", "[1, 2]", "[[1]]", "1979-05-27", "[" * 2000 + "]" * 2000, '{type = "int"}',
    '{type = "int", low = 1, high = 100000000}', '{type = "int", low = 100000000, high = 100000001}',
    '{type = "float", low = 0, high = 0.3, step = 1e-300}', '{type = "float", low = 0.0, high = 1.0, log = true}',
    '{type = "float", low = 1, high = 0}', '{type = "int", low = 1, high = 2, step = 0}', '{type = "categorical"}',
    '{type = "categorical", choices = []}', '{type = "categorical", choices = [1, 1]}',
    '{type = "categorical", choices = [{}, []]}', '{type = "float", low = nan, high = 1.0}',
    '{type = "float", low = 1e-320, high = 1.0, log = true}',
    '{type = "int", low = 1, high = 2, when = {dropout = 0.1}}',
    '[{type = "int", low = 1, high = 2, when = {num_heads = 1}}]', "{type = 1}", "{low = 1, high = 2}", "1__0", "0x1F",
)  # fmt: skip


def _rows(path: Path) -> list[list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(path.read_text())))
    except (ValueError, csv.Error) as error:
        raise DoesNotApply from error
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise DoesNotApply
    return rows


def _write(path: Path, rows: list[list[str]], **how: str) -> None:
    text = io.StringIO()
    csv.writer(text, **{"lineterminator": "\n", **how}).writerows(rows)  # type: ignore[arg-type]
    path.write_text(text.getvalue(), newline="")


@CSV.add
def field_replaced(path: Path, where: int, what: int) -> str:
    rows = _rows(path)
    line, column = 1 + where % (len(rows) - 1), where // len(rows) % len(rows[0])
    rows[line][column] = pick(FIELDS, what)
    _write(path, rows)
    return f"{rows[0][column]} of line {line + 1} is {brief(rows[line][column])!r}"


@CSV.add
def column_changed(path: Path, where: int, what: int) -> str:
    rows = _rows(path)
    index = where % len(rows[0])
    name = rows[0][index]
    kind = what % 4
    if kind == 0:
        for row in rows:
            del row[index]
    elif kind == 1:
        rows[0][index] = pick((f"{name} ", name.upper(), "", "unnamed"), what // 4)
    elif kind == 2:
        for row in rows:
            row.insert(index, row[index])
    else:
        for row in rows[1:]:
            row[index] = pick(FIELDS, what // 4)
    _write(path, rows)
    done = ("removed", f"called {rows[0][min(index, len(rows[0]) - 1)]!r}", "there twice", "the same in all lines")[
        kind
    ]
    return f"column {name} {done}"


@CSV.add
def columns_reordered(path: Path, where: int, what: int) -> str:
    """Means the same: columns are known by their names."""
    rows = _rows(path)
    first, second = where % len(rows[0]), what % len(rows[0])
    for row in rows:
        row[first], row[second] = row[second], row[first]
    _write(path, rows)
    return f"columns {rows[0][first]} and {rows[0][second]} in each other's place"


@CSV.add
def extra_column(path: Path, where: int, what: int) -> str:
    rows = _rows(path)
    for number, row in enumerate(rows):
        row.insert(where % len(row), str(number) if number else pick(("Unnamed: 0", "fold", ""), what))
    _write(path, rows)
    return "with a column more"


@CSV.add
def lines_changed(path: Path, where: int, what: int) -> str:
    rows = _rows(path)
    index = 1 + where % (len(rows) - 1)
    kind = what % 7
    if kind == 0:
        del rows[index]
    elif kind == 1:
        rows.insert(index, list(rows[index]))
    elif kind == 2:
        rows[1:] = rows[:0:-1]
    elif kind == 3:
        del rows[1:]
    elif kind == 4:
        del rows[0]
    elif kind == 5:
        rows[index].append("more")
    else:
        rows[index].pop()
    _write(path, rows)
    done = ("removed", "twice", "and the others in reverse", "and all others removed", "kept, the header removed",
            "with a field more", "with a field less")  # fmt: skip
    return f"line {index + 1} {done[kind]}"


@CSV.add
def written_otherwise(path: Path, _: int, what: int) -> str:
    """The same table as other programs write it."""
    rows = _rows(path)
    kind = what % 9
    if kind == 0:
        _write(path, rows, lineterminator="\r\n")
    elif kind == 1:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    elif kind == 2:
        path.write_bytes(path.read_text().encode("utf-16"))
    elif kind == 3:
        _write(path, rows, delimiter=";")
    elif kind == 4:
        _write(path, rows, delimiter="\t")
    elif kind == 5:
        path.write_text("\n".join(",".join(f'"{field}"' for field in row) for row in rows) + "\n")
    elif kind == 6:
        path.write_text("\n" + path.read_text())
    elif kind == 7:
        path.write_text(path.read_text().rstrip("\n"))
    else:
        path.write_text(path.read_text() + "\n\n")
    return ("with CRLF", "with a byte order mark", "in UTF-16", "with semicolons", "with tabs", "all fields quoted",
            "after an empty line", "without a newline at the end", "with empty lines at the end")[kind]  # fmt: skip


def _settings(text: str) -> list[re.Match[str]]:
    """The values of a TOML file's settings, those within inline tables among them."""
    found = re.finditer(r'(?<== )(\{[^{}\n]*\}|"[^"\n]*"|[\w.+-]+)', text)
    inner = re.finditer(r'(?<== )("[^"\n]*"|[\w.+-]+)', text)
    return sorted([*found, *inner], key=lambda match: match.span())


@TOML.add
def value_replaced(path: Path, where: int, what: int) -> str:
    text = path.read_text()
    match = pick(_settings(text), where)
    value = pick(_TOML_VALUES, what)
    path.write_text(text[: match.start()] + value + text[match.end() :])
    line = text.count("\n", 0, match.start()) + 1
    return f"line {line}: {brief(value)} in place of {brief(match[0])}"


@TOML.add
def line_changed(path: Path, where: int, what: int) -> str:
    lines = path.read_text().split("\n")
    index = where % len(lines)
    line = lines[index]
    name, _, rest = line.partition("=")
    others = ("", f"{line}\n{line}", f"{name.strip()}x ={rest}", f"[{name.strip()}]", f"{line} #", f"a.b.{line}",
              line[:-1], f"\ufeff{line}", f"{line}\0", f'"" ={rest}', f"seed ={rest}", f"epochs ={rest}",
              f"num_signs ={rest}", f"max_params ={rest}", f"all_participants ={rest}")  # fmt: skip
    lines[index] = pick(others, what)
    path.write_text("\n".join(lines))
    return f"line {index + 1} is {brief(lines[index])!r}"
