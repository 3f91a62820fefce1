"""Mutations of SQLite databases and of zip files."""

import io
import sqlite3
import zipfile
from pathlib import Path
from typing import Any, Final

from tests.fuzz.mutations import DoesNotApply, Mutations, brief, pick

DATABASE = Mutations("sqlite")
ZIP = Mutations("zip")
CELLS: Final[tuple[Any, ...]] = (
    None, 0, -1, 1, 2**62, 1.5, float("inf"), -1e300, "", "text", "RUNNING", "COMPLETE", "{", "null", "[]", "NaN",
    "9" * 5000, b"\0\xff", "\0", "[" * 3000,
)  # fmt: skip


def _open(path: Path) -> sqlite3.Connection:
    if path.read_bytes()[:15] != b"SQLite format 3":
        raise DoesNotApply
    connection = sqlite3.connect(path)
    connection.text_factory = bytes
    return connection


def _tables(connection: sqlite3.Connection) -> list[str]:
    rows = connection.execute("select name from sqlite_master where type = 'table' order by name")
    return [name.decode() for (name,) in rows]


def _apply(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    connection = _open(path)
    try:
        connection.execute("pragma foreign_keys = off")
        for statement, values in statements:
            connection.execute(statement, values)
        connection.commit()
    except (sqlite3.Error, OverflowError) as error:
        raise DoesNotApply from error
    finally:
        connection.close()


def _rows(path: Path) -> list[tuple[str, str, int]]:
    """Table, column and rowid of every cell."""
    connection = _open(path)
    try:
        found = []
        for table in _tables(connection):
            names = [row[1].decode() for row in connection.execute(f"pragma table_info('{table}')")]
            rowids = [row[0] for row in connection.execute(f"select rowid from '{table}'")]
            found += [(table, name, rowid) for rowid in rowids for name in names]
        return found
    except sqlite3.Error as error:
        raise DoesNotApply from error
    finally:
        connection.close()


@DATABASE.add
def cell_changed(path: Path, where: int, what: int) -> str:
    table, column, rowid = pick(_rows(path), where)
    value = pick(CELLS, what)
    _apply(path, (f"update '{table}' set \"{column}\" = ? where rowid = ?", (value, rowid)))
    return f"{table}.{column} of row {rowid} is {brief(repr(value))}"


@DATABASE.add
def row_removed(path: Path, where: int, _: int) -> str:
    table, _column, rowid = pick(_rows(path), where)
    _apply(path, (f"delete from '{table}' where rowid = ?", (rowid,)))
    return f"without row {rowid} of {table}"


@DATABASE.add
def table_changed(path: Path, where: int, what: int) -> str:
    connection = _open(path)
    names = _tables(connection)
    connection.close()
    name = pick(names, where)
    kind, statement = pick((("dropped", f"drop table '{name}'"), ("emptied", f"delete from '{name}'"),
                            ("renamed", f"alter table '{name}' rename to other")), what)  # fmt: skip
    _apply(path, (statement, ()))
    return f"table {name} {kind}"


@DATABASE.add
def another_database(path: Path, _: int, what: int) -> str:
    path.unlink()
    connection = sqlite3.connect(path)
    if what % 2:
        connection.execute("create table t(a)")
    connection.commit()
    connection.close()
    if not path.exists():
        path.write_bytes(b"")
    return "another database" if what % 2 else "an empty database"


@DATABASE.add
def number_changed(path: Path, where: int, what: int) -> str:
    """Another value of the same kind: what a study says may be anything that it may say."""
    cells = [
        cell for cell in _rows(path) if cell[1] in ("value", "intermediate_value", "param_value", "value_json", "step")
    ]
    table, column, rowid = pick(cells, where)
    value = pick((0.0, 0.5, 1, 2, -1, 1e-9), what)
    _apply(path, (f"update '{table}' set \"{column}\" = ? where rowid = ?", (value, rowid)))
    return f"{table}.{column} of row {rowid} is {value}"


def _members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception as error:
        raise DoesNotApply from error


def _zip(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    path.write_bytes(file.getvalue())


@ZIP.add
def member_renamed(path: Path, where: int, what: int) -> str:
    members = _members(path)
    name = pick(members, where)
    other = pick(("Model.tflite", f"folder/{name}", f"../{name}", "", f"{name} ", "model.tflite/"), what)
    _zip(path, [(other if key == name else key, content) for key, content in members.items()])
    return f"{name} is called {other!r}"


@ZIP.add
def member_added(path: Path, _: int, what: int) -> str:
    members = list(_members(path).items())
    extra = pick((("readme.txt", b"text"), ("model.tflite", b"twice"), ("../x", b""), ("labels.txt", b"a\nb")), what)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _zip(path, [*members, extra])
    return f"with {extra[0]} besides"


@ZIP.add
def packed_otherwise(path: Path, _: int, what: int) -> str:
    method = pick((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA), what)
    _zip(path, list(_members(path).items()), method)
    return f"packed by method {method}"


@ZIP.add
def bomb(path: Path, where: int, _: int) -> str:
    name = pick(_members(path), where)
    _zip(path, [(name, bytes(32 * 2**20))])
    return f"{name} is 32 MB of zeros"


@ZIP.add
def model_itself(path: Path, where: int, _: int) -> str:
    """The .tflite file under the zip's name."""
    path.write_bytes(pick(_members(path).values(), where))
    return "is the .tflite file itself"


@ZIP.add
def model_changed(path: Path, where: int, what: int) -> str:
    """Bytes of the .tflite file within a zip that is whole."""
    members = _members(path)
    name = pick(members, 0)
    content = bytearray(members[name])
    if not content:
        raise DoesNotApply
    size = len(content)
    # the graph stands before and after the weights, which are most of the file
    place = pick((where % min(size, 4096), size - 1 - where % min(size, 8192), where * 7919 % size), where)
    kind = what % 4
    if kind == 0:
        content[place] ^= 1 << what // 4 % 8
    elif kind == 1:
        del content[place:]
    elif kind == 2:
        content[place : place + 4] = b"\xff\xff\xff\x7f"
    else:
        content[place:place] = bytes(what % 16)
    members[name] = bytes(content)
    _zip(path, list(members.items()))
    done = ("a bit flipped", "cut off", "4 bytes set to the largest number", "zeros inserted")[kind]
    return f"{name} with {done} at {place} of {size}"


@ZIP.add
def labels_changed(path: Path, _: int, what: int) -> str:
    members = _members(path)
    name = pick(members, 0)
    try:
        with zipfile.ZipFile(io.BytesIO(members[name])) as archive:
            labels = archive.read("labels.txt").decode().split("\n")
            start = min(info.header_offset for info in archive.infolist())
    except Exception as error:
        raise DoesNotApply from error
    twice = [labels[0], *labels[:-1]]
    others = {
        "one less": labels[:-1],
        "one more": [*labels, "more"],
        "one twice": twice,
        "none": [],
        "bytes": ["\udcff"],
    }
    kind, changed = pick(others.items(), what)
    file = io.BytesIO(members[name][:start])
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "\n".join(changed).encode(errors="surrogateescape"))
    _zip(path, [(name, file.getvalue())])
    return f"labels: {kind}"
