"""The contest's folder, as it is on disk: train.csv, the sign map, and parquet files of landmarks.

A landmark file holds 543 rows a frame, in the order face, left hand, pose, right hand. Landmarks are taken by their
row's place, so every file's order is verified: the encoded bytes of its type and landmark_index columns are
compared with those of files already found right, and decoded only where they are new, which is once for each
number of frames as a rule.
"""

import json
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from trainer.common.errors import LandmarkFileError, UserError, first_line
from trainer.data import parquet_layout
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
_right_orders: set[bytes] = set()  # of files whose rows were found in order


class Entry(NamedTuple):
    """One line of train.csv."""

    path: str
    participant_id: int
    sequence_id: int
    sign: str


def read_sign_map(source: Path) -> tuple[str, ...]:
    """Names of the signs, in the order of their indices. Raises UserError if the map is absent or broken."""
    path = _find(source, SIGN_MAP)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from error
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
        if name not in table.column_names:
            raise UserError(f"{path}: no column {name!r}; the columns must be {', '.join(_CSV_TYPES)}")
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

    Reads x and y alone, on the calling thread. Raises LandmarkFileError if the file is absent, not a whole
    parquet file, empty, lacks a column, holds an infinite coordinate, or has not 543 rows a frame in the contest's
    order.
    """
    points = parquet_layout.read(path, _right_orders)
    return read_any_layout(path) if points is None else points


def read_any_layout(path: Path) -> np.ndarray:
    """The used landmarks of a file as any program may have written it: float32 [n, 85, 2]. Raises LandmarkFileError."""
    order = parquet_layout.find_order(path)
    try:
        with pa.OSFile(str(path)) as source:
            file = pq.ParquetFile(source, pre_buffer=False)
            num_frames = _num_frames(file)
            if order not in _right_orders:
                _verify_order(file.read(["type", "landmark_index"], use_threads=False), num_frames)
            table = file.read(["x", "y"], use_threads=False)
        points = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
            for axis, name in enumerate(("x", "y")):
                points[..., axis] = table[name].to_numpy().reshape(num_frames, NUM_ROWS)[:, _ROWS]
        if np.isinf(points).any():
            raise LandmarkFileError("infinite coordinates")
    except LandmarkFileError:
        raise
    except FileNotFoundError as error:
        raise LandmarkFileError("no such file") from error
    except Exception as error:  # a garbled footer makes pyarrow raise nearly anything
        raise LandmarkFileError(f"not a readable parquet file ({first_line(error)})") from error
    if order is not None:
        _right_orders.add(order)
    return points


def _num_frames(file: pq.ParquetFile) -> int:
    schema = file.schema_arrow
    for name in ("type", "landmark_index", "x", "y"):
        if name not in schema.names:
            raise LandmarkFileError(f"no column {name!r}")
    for name in ("x", "y"):
        if not pa.types.is_floating(schema.field(name).type):
            raise LandmarkFileError(f"column {name!r} holds {schema.field(name).type}, not floating-point numbers")
    num_rows: int = file.metadata.num_rows
    if num_rows == 0:
        raise LandmarkFileError("no frames")
    if num_rows % NUM_ROWS:
        raise LandmarkFileError(f"{num_rows:,} rows, not a multiple of {NUM_ROWS}")
    return num_rows // NUM_ROWS


def _verify_order(table: pa.Table, num_frames: int) -> None:
    """Raise LandmarkFileError unless the rows are those of whole frames in the contest's order."""
    for name, expected in (("type", TYPES), ("landmark_index", INDICES)):
        values = table[name].to_numpy()
        if (values.reshape(num_frames, NUM_ROWS) != expected).any():
            raise LandmarkFileError(f"{name} is not in the order face, left_hand, pose, right_hand in every frame")
