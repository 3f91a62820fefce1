"""The contest's folder, as it is on disk: train.csv, the sign map, and parquet files of landmarks.

A landmark file holds 543 rows a frame, in the order face, left hand, pose, right hand. Landmarks are taken by their
row's place, so every file's order is verified by its columns type and landmark_index.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trainer.common.errors import LandmarkFileError, UserError, first_line
from trainer.common.strict import read_json
from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

TRAIN_CSV: Final = "train.csv"
SIGN_MAP: Final = "sign_to_prediction_index_map.json"
GROUP_SIZES: Final = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}  # rows of a frame, in order
TYPES: Final = np.repeat(list(GROUP_SIZES), list(GROUP_SIZES.values()))  # column "type" of a frame
INDICES: Final = np.concatenate([np.arange(size) for size in GROUP_SIZES.values()])  # "landmark_index" of a frame

_CSV_TYPES: Final = {
    "path": pa.string(),
    "participant_id": pa.int64(),
    "sequence_id": pa.int64(),
    "sign": pa.string(),
}
_ROWS: Final = np.array(ROWS)
_LANDMARK_COLUMNS: Final = ["type", "landmark_index", "x", "y"]
_FRAMES_COMPARED: Final = 1024  # longer files than the contest's are compared more slowly
_TYPES_IN_ORDER: Final = pa.DictionaryArray.from_arrays(
    np.tile(np.repeat(np.arange(len(GROUP_SIZES), dtype=np.int32), list(GROUP_SIZES.values())), _FRAMES_COMPARED),
    list(GROUP_SIZES),
)
_INDICES_IN_ORDER: Final = pa.array(np.tile(INDICES.astype(np.int16), _FRAMES_COMPARED))


class Entry(NamedTuple):
    """One line of train.csv."""

    path: str
    participant_id: int
    sequence_id: int
    sign: str


def read_sign_map(source: Path) -> tuple[str, ...]:
    """Names of the signs, in the order of their indices. Raises UserError if the map is absent or broken."""
    path = _find(source, SIGN_MAP)
    content = read_json(path)
    indices = list(content.values()) if isinstance(content, dict) else []
    if not indices or any(type(index) is not int for index in indices) or sorted(indices) != list(range(len(indices))):
        raise UserError(f"{path}: must map each sign to an index of its own, counting from 0")
    return tuple(sorted(content, key=content.__getitem__))


def read_train_csv(source: Path) -> list[Entry]:
    """Lines of train.csv, in order. Raises UserError if it is absent, broken or lacks a column."""
    path = _find(source, TRAIN_CSV)
    options = pyarrow.csv.ConvertOptions(column_types=_CSV_TYPES)
    try:
        table = pyarrow.csv.read_csv(path, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
    for name in _CSV_TYPES:
        if (times := table.column_names.count(name)) != 1:
            what = "no column" if times == 0 else f"{times} times the column"
            raise UserError(f"{path}: {what} {name!r}; the columns must be {', '.join(_CSV_TYPES)}")
        if table[name].null_count:
            raise UserError(f"{path}: column {name!r} has an empty field")
    columns = (table[name].to_pylist() for name in _CSV_TYPES)
    return [Entry(*line) for line in zip(*columns, strict=True)]


def _find(source: Path, name: str) -> Path:
    """One of the two files that say what the others are. Raises UserError if the folder lacks it."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder; give the contest's, with {TRAIN_CSV} and {SIGN_MAP}")
    missing = [name for name in (TRAIN_CSV, SIGN_MAP) if not (source / name).is_file()]
    if name in missing:
        raise UserError(f"{source}: not the contest's folder (no {', no '.join(missing)}); give the one that has them")
    return source / name


def read_landmarks(path: Path) -> np.ndarray:
    """The used landmarks of one file: float32 [n, 85, 2], NaN where missing, n >= 1.

    Reads x and y, and the two columns that say the order of the rows, on the calling thread. Raises LandmarkFileError
    if the file is absent, not a whole parquet file, empty, lacks a column or has it twice, holds an infinite
    coordinate, or has not 543 rows a frame in the contest's order.
    """
    try:
        with pa.OSFile(str(path)) as source:
            file = pq.ParquetFile(source, pre_buffer=False, read_dictionary=["type"])
            table = file.read(_LANDMARK_COLUMNS, use_threads=False)
        points = _used_points(table)
    except LandmarkFileError:
        raise
    except FileNotFoundError as error:
        raise LandmarkFileError("no such file") from error
    except KeyError as error:  # what ParquetFile says of a column that it is to read as a dictionary
        raise LandmarkFileError("no column 'type'") from error
    except Exception as error:  # a garbled footer makes pyarrow raise nearly anything
        raise LandmarkFileError(f"not a readable parquet file ({first_line(error)})") from error
    return points


def _used_points(table: pa.Table) -> np.ndarray:
    """The used landmarks of a file's columns: float32 [n, 85, 2]. Raises LandmarkFileError if they are not right."""
    if table.column_names != _LANDMARK_COLUMNS:
        for name in _LANDMARK_COLUMNS:
            if (times := table.column_names.count(name)) != 1:
                what = f"no column {name!r}" if times == 0 else f"column {name!r} is there {times} times"
                raise LandmarkFileError(what)
        table = table.select(_LANDMARK_COLUMNS)  # in another order
    types, indices, *coordinates = table.columns
    for name, column in zip("xy", coordinates, strict=True):
        if not pa.types.is_floating(column.type):
            raise LandmarkFileError(f"column {name!r} holds {column.type}, not floating-point numbers")
    num_frames, rest = divmod(len(table), NUM_ROWS)
    if len(table) == 0:
        raise LandmarkFileError("no frames")
    if rest:
        raise LandmarkFileError(f"{len(table):,} rows, not a multiple of {NUM_ROWS}")
    _verify_order(_in_one_piece(types), _in_one_piece(indices), num_frames)
    points = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
        for axis, column in enumerate(coordinates):
            points[..., axis] = _used(_in_one_piece(column), num_frames)
    if np.isinf(points).any():
        raise LandmarkFileError("infinite coordinates")
    return points


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _verify_order(types: pa.Array, indices: pa.Array, num_frames: int) -> None:
    """Raise LandmarkFileError unless the rows are those of whole frames in the contest's order."""
    num_rows = num_frames * NUM_ROWS
    if types.equals(_TYPES_IN_ORDER[:num_rows]) and indices.equals(_INDICES_IN_ORDER[:num_rows]):
        return  # at the cost of comparing memory; what follows finds the fault, or other types of the same values
    for name, values, expected in (("type", types, TYPES), ("landmark_index", indices, INDICES)):
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            values = values.cast(pa.string())
        if (values.to_numpy(zero_copy_only=False).reshape(num_frames, NUM_ROWS) != expected).any():
            raise LandmarkFileError(f"{name} is not in the order face, left_hand, pose, right_hand in every frame")


def _used(column: pa.Array, num_frames: int) -> np.ndarray:
    """The used rows of a column of floating-point numbers: [num_frames, 85], NaN where null.

    Only these are converted: a column's values and the bits that say which are null are looked at where they lie.
    """
    validity, content = column.buffers()
    end = column.offset + len(column)
    values = np.frombuffer(content, column.type.to_pandas_dtype(), end)[column.offset :]
    used: np.ndarray = values.reshape(num_frames, NUM_ROWS).take(_ROWS, axis=1)
    if column.null_count:
        present = np.unpackbits(np.frombuffer(validity, np.uint8), count=end, bitorder="little")[column.offset :]
        used[present.reshape(num_frames, NUM_ROWS).take(_ROWS, axis=1) == 0] = np.nan
    return used


def read_raw(path: Path) -> np.ndarray:
    """All landmarks of a contest's parquet file, as a submission gets them: float32 [n, 543, 3], NaN where missing.

    Reads the coordinates alone, as the contest does: rows are taken to be in its order. Raises UserError, naming the
    file, if it cannot be read, lacks a column, or is not whole frames.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in "xyz":
                if (times := names.count(name)) != 1:
                    what = "is missing" if times == 0 else f"is there {times} times"
                    raise UserError(f"{path}: the column {name!r} {what}; give landmark files of the contest")
            table = file.read(list("xyz"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give landmark files of the contest") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)}); give landmark files of the contest") from error
    if len(table) == 0 or len(table) % NUM_ROWS:
        raise UserError(f"{path}: {len(table)} rows are not whole frames of {NUM_ROWS} landmarks")
    try:
        points = np.stack([table[name].to_numpy().astype(np.float32) for name in "xyz"], axis=1)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: coordinates that are not numbers ({first_line(error)})") from error
    return points.reshape(-1, NUM_ROWS, 3)
