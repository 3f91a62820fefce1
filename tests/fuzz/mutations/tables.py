"""Mutations of Parquet tables: columns, types, values and rows."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.fuzz.mutations import DoesNotApply, Mutations, pick

PARQUET = Mutations("parquet")
TYPES: Final = (
    pa.float64(), pa.float32(), pa.float16(), pa.int64(), pa.int32(), pa.int16(), pa.int8(), pa.uint16(), pa.uint64(),
    pa.string(), pa.large_string(), pa.binary(), pa.bool_(), pa.decimal128(38, 10),
    pa.dictionary(pa.int8(), pa.string()), pa.null(), pa.date32(),
)  # fmt: skip
NUMBERS: Final = (
    None, float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e3, 1e6, 1e30, 3.4e38, 1e300, -1.0, 0.5, 2.0**40,
    1e-300,
)  # fmt: skip


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except Exception as error:
        raise DoesNotApply from error


def _write(path: Path, table: pa.Table, **how: Any) -> None:
    try:
        pq.write_table(table, path, **how)
    except (pa.ArrowException, TypeError) as error:  # a type that Parquet has not
        raise DoesNotApply from error


def _column(table: pa.Table, where: int) -> tuple[int, str]:
    if not table.num_columns:
        raise DoesNotApply
    index = where % table.num_columns
    return index, table.column_names[index]


@PARQUET.add
def column_removed(path: Path, where: int, _: int) -> str:
    table = _read(path)
    index, name = _column(table, where)
    _write(path, table.remove_column(index))
    return f"without column {name}"


@PARQUET.add
def column_renamed(path: Path, where: int, what: int) -> str:
    table = _read(path)
    index, name = _column(table, where)
    names = list(table.column_names)
    names[index] = pick((f"{name}_0", name.upper(), "", f" {name}", *table.column_names), what)
    _write(path, table.rename_columns(names))
    return f"column {name} called {names[index]!r}"


@PARQUET.add
def column_twice(path: Path, where: int, what: int) -> str:
    table = _read(path)
    index, name = _column(table, where)
    _write(path, table.add_column(what % (table.num_columns + 1), name, table.column(index)))
    return f"column {name} twice"


@PARQUET.add
def columns_reordered(path: Path, where: int, what: int) -> str:
    """Means the same: columns are known by their names."""
    table = _read(path)
    order = np.random.default_rng([where, what]).permutation(table.num_columns)
    _write(path, table.select([int(index) for index in order]))
    return "with its columns in another order"


@PARQUET.add
def column_of_another_type(path: Path, where: int, what: int) -> str:
    table = _read(path)
    index, name = _column(table, where)
    wanted = pick(TYPES, what)
    column = table.column(index)
    try:
        if pa.types.is_dictionary(wanted):
            changed = column.cast(pa.string()).dictionary_encode()
        elif pa.types.is_null(wanted):
            changed = pa.nulls(len(column))
        elif pa.types.is_float16(wanted):
            changed = pa.array(column.to_numpy().astype(np.float16))
        else:
            changed = column.cast(wanted, safe=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DoesNotApply from error
    _write(path, table.set_column(index, name, changed))
    return f"column {name} as {wanted}, not {column.type}"


@PARQUET.add
def column_nested(path: Path, where: int, what: int) -> str:
    table = _read(path)
    index, name = _column(table, where)
    flat = table.column(index).combine_chunks()
    if what % 2:
        nested: Any = pa.StructArray.from_arrays([flat], ["value"])
    else:
        nested = pa.ListArray.from_arrays(pa.array(range(len(flat) + 1), pa.int32()), flat)
    _write(path, table.set_column(index, name, nested))
    return f"column {name} as {nested.type}"


@PARQUET.add
def numbers_replaced(path: Path, where: int, what: int) -> str:
    table = _read(path)
    numeric = [i for i, column in enumerate(table.columns) if pa.types.is_floating(column.type)
               or pa.types.is_integer(column.type)]  # fmt: skip
    index = pick(numeric, where)
    name, kind, size = table.column_names[index], table.column(index).type, len(table)
    value = pick(NUMBERS, what)
    rows = pick((slice(0, 1), slice(0, None), slice(0, None, 7), slice(size // 2, size // 2 + 1)), what // len(NUMBERS))
    values = table.column(index).to_pylist()
    try:
        values[rows] = [value] * len(values[rows])
        changed = pa.array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise DoesNotApply from error
    _write(path, table.set_column(index, name, changed))
    return f"{name} is {value} in rows {rows.start}:{rows.stop}:{rows.step}"


@PARQUET.add
def texts_replaced(path: Path, where: int, what: int) -> str:
    table = _read(path)
    index = pick((i for i, column in enumerate(table.columns) if pa.types.is_string(column.type)), where)
    values = table.column(index).to_pylist()
    if not values:
        raise DoesNotApply
    row = where * 7919 % len(values)
    values[row] = pick((None, "", "unknown", f"{values[row]} ", "é", "\0", "x" * 10_000, values[-1]), what)
    _write(path, table.set_column(index, table.column_names[index], pa.array(values, pa.string())))
    return f"{table.column_names[index]} of row {row} is {str(values[row])[:20]!r}"


@PARQUET.add
def rows_permuted(path: Path, where: int, what: int) -> str:
    table = _read(path)
    size = len(table)
    if size < 2:
        raise DoesNotApply
    first = where * 7919 % (size - 1)
    swapped = np.arange(size)
    swapped[[first, first + 1]] = swapped[[first + 1, first]]
    kind, order = pick(
        (("reversed", np.arange(size)[::-1]), ("shuffled", np.random.default_rng(what).permutation(size)),
         (f"{first} and {first + 1} in each other's place", swapped), ("rotated by 543", np.roll(np.arange(size), 543)),
         ("rotated by 1", np.roll(np.arange(size), 1))), what)  # fmt: skip
    _write(path, table.take(pa.array(order)))
    return f"with rows {kind}"


@PARQUET.add
def rows_of_frames_permuted(path: Path, _: int, what: int) -> str:
    """Rows of each frame in another order of their types, as some converters write them."""
    table = _read(path)
    if not {"type", "landmark_index", "frame"} <= set(table.column_names):
        raise DoesNotApply
    order = pick((["pose", "left_hand", "right_hand", "face"], ["face", "pose", "left_hand", "right_hand"]), what)
    try:
        rank = pc.index_in(table["type"], pa.array(order))
        table = table.append_column("rank", rank)
        keys = [(name, "ascending") for name in ("frame", "rank", "landmark_index")]
        _write(path, table.sort_by(keys).drop_columns(["rank"]))
    except pa.ArrowException as error:
        raise DoesNotApply from error
    return f"with the rows of each frame in the order {', '.join(order)}"


@PARQUET.add
def rows_removed(path: Path, where: int, what: int) -> str:
    table = _read(path)
    size = len(table)
    if not size:
        raise DoesNotApply
    count = min(size, pick((1, 543, 542, size, size // 2, 21), what))
    start = pick((0, size - count, where * 7919 % (size - count + 1)), where)
    _write(path, pa.concat_tables([table.slice(0, start), table.slice(start + count)]))
    return f"without {count} of {size} rows from row {start} on"


@PARQUET.add
def rows_twice(path: Path, where: int, what: int) -> str:
    table = _read(path)
    count = min(len(table), pick((1, 543, len(table)), what))
    start = where * 7919 % (len(table) - count + 1)
    _write(path, pa.concat_tables([table.slice(0, start + count), table.slice(start)]))
    return f"with {count} rows from row {start} on twice"


@PARQUET.add
def written_otherwise(path: Path, _: int, what: int) -> str:
    """The same table as other programs write it."""
    table = _read(path)
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("in row groups of 100", {"row_group_size": 100}), ("uncompressed", {"compression": "none"}),
        ("with zstd", {"compression": "zstd"}), ("without dictionaries", {"use_dictionary": False}),
        ("as Parquet 1.0", {"version": "1.0"}), ("with data pages 2.0", {"data_page_version": "2.0"}),
        ("with byte stream split", {"use_dictionary": False, "use_byte_stream_split": True}),
    )  # fmt: skip
    kind, how = pick(ways, what)
    if "use_byte_stream_split" in how:
        names = [field.name for field in table.schema if pa.types.is_floating(field.type)]
        how = {"use_dictionary": False, "use_byte_stream_split": names}
    _write(path, table.replace_schema_metadata(None), **how)
    return f"written {kind}"


@PARQUET.add
def extra_column(path: Path, where: int, what: int) -> str:
    table = _read(path)
    name = pick(("index", "__index_level_0__", "visibility", "frame_2"), what)
    _write(path, table.add_column(where % (table.num_columns + 1), name, pa.array(range(len(table)))))
    return f"with column {name} besides"
