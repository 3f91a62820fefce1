"""The contest's landmark files: parquet, 543 rows a frame in the order face, left hand, pose, right hand.

Landmarks are taken by their row's place, so the order is verified by the columns frame, type and landmark_index. Rows
in another order are put into this one. Of a face of 478 points (MediaPipe's newer meshes), the last ten, which are
irises, are left out. A landmark of which both x and y are exactly 0 is missing, as many trackers write it.
Everything that reads landmark files reads them here, so the same files are refused everywhere.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainer.common.errors import LandmarkFileError, first_line
from trainer.common.files import special
from trainer.common.strict import described
from trainer.landmarks import NUM_ROWS, ROWS

GROUP_SIZES: Final = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}  # rows of a frame, in order
TYPES: Final = np.repeat(list(GROUP_SIZES), list(GROUP_SIZES.values()))  # column "type" of a frame
INDICES: Final = np.concatenate([np.arange(size) for size in GROUP_SIZES.values()])  # "landmark_index" of a frame
NUM_IRISES: Final = 10  # the face's landmarks 468 to 477
BOUND: Final = 10.0
"""Image widths (x) or heights (y) from the image's corner that a used landmark may have. The contest's lie between
-0.60 and 2.9; pixels go beyond it, and so does what would be infinite in float32"""

MOST_FRAMES: Final = 100_000
_PIECE: Final = 1024  # frames read at once; longer files than the contest's are read in pieces
_ORDER: Final = ("frame", "type", "landmark_index")
_ROW_ID: Final = "row_id"  # the same in one, such as 7-face-0; read where the file has neither type nor landmark_index
_FLOAT, _INTEGERS = pa.float64(), (pa.int16(), pa.int32(), pa.int64())
_IRIS, _UNKNOWN = NUM_ROWS, -1  # in place of a row of the frame
_USED: Final = np.array(ROWS)
_ALL: Final = np.arange(NUM_ROWS)
_SIZES: Final = np.array([*GROUP_SIZES.values(), 0])  # the last is that of an unknown type
_STARTS: Final = np.cumsum(_SIZES) - _SIZES
_TYPES_IN_ORDER: Final = pa.DictionaryArray.from_arrays(
    np.tile(np.repeat(np.arange(len(GROUP_SIZES), dtype=np.int32), list(GROUP_SIZES.values())), _PIECE),
    list(GROUP_SIZES),
)
_INDICES_IN_ORDER: Final = pa.array(np.tile(INDICES.astype(np.int16), _PIECE))

Columns = dict[str, pa.Array]
Pieces = Callable[[], Iterable[Columns]]


def read_landmarks(path: Path) -> np.ndarray:
    """The used landmarks of one file: float32 [n, 85, 2], NaN where missing, n >= 1.

    Reads on the calling thread. Raises LandmarkFileError, which does not name the file, if it is absent, not a whole
    parquet file, empty, lacks a column or has it twice, or holds a frame that has not each landmark once or a used
    coordinate beyond BOUND. A file without the column frame must hold its frames one after another.
    """
    return _read(path, "xy", _USED, needs_types=True)


def read_raw(path: Path) -> np.ndarray:
    """All landmarks of one file, as a submission gets them: float32 [n, 543, 3], NaN where missing, n >= 1.

    As ``read_landmarks``, except that z is needed too, and that a file without the columns type and landmark_index is
    taken to be in the contest's order, as the contest's evaluator takes it. Raises LandmarkFileError naming the file.
    """
    try:
        return _read(path, "xyz", _ALL, needs_types=False)
    except LandmarkFileError as error:
        raise LandmarkFileError(f"{path}: {error}; give landmark files of the contest") from error


def _read(path: Path, axes: str, rows: np.ndarray, needs_types: bool) -> np.ndarray:
    """Coordinates of some rows of every frame, in time's order: float32 [n, len(rows), len(axes)]."""
    if wrong := special(path):
        raise LandmarkFileError(f"it {wrong}")
    try:
        with pa.OSFile(str(path)) as source:
            file = _open(source)
            num_rows = file.metadata.num_rows
            if num_rows == 0:
                raise LandmarkFileError("no frames")
            if num_rows > MOST_FRAMES * (NUM_ROWS + NUM_IRISES):  # a compressed file may unfold without end
                raise LandmarkFileError(f"{num_rows:,} rows, more than {MOST_FRAMES:,} frames; no sign takes an hour")
            there = file.schema_arrow.names
            ids = [_ROW_ID] if _ROW_ID in there and not {"type", "landmark_index"} & set(there) else []
            pieces = _pieces(file, [*_ORDER, *ids, *axes], lambda table: _columns_of(table, axes, needs_types))
            if (found := _take(pieces, num_rows, axes, rows)) is None:
                found = _restore(pieces, num_rows, axes, rows)
    except LandmarkFileError:
        raise
    except FileNotFoundError as error:
        raise LandmarkFileError("no such file") from error
    except Exception as error:  # a garbled footer makes pyarrow raise nearly anything
        raise LandmarkFileError(f"not a readable parquet file ({first_line(error)})") from error
    points, numbers = found
    _check_bound(points if rows is _USED else points[:, _USED, :2], numbers)
    points[(points[:, :, 0] == 0) & (points[:, :, 1] == 0)] = np.nan
    return points


def _open(source: pa.NativeFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source, pre_buffer=False, read_dictionary=["type"])
    except KeyError:  # there is no such column
        return pq.ParquetFile(source, pre_buffer=False)


def _pieces(file: pq.ParquetFile, names: list[str], columns_of: Callable[[pa.Table], Columns]) -> Pieces:
    """The checked columns of a file, whole or, if it is long, piece by piece; both may be gone through again."""
    if file.metadata.num_rows <= _PIECE * NUM_ROWS:
        whole = (columns_of(file.read(names, use_threads=False)),)
        return lambda: whole

    def read() -> Iterable[Columns]:
        for batch in file.iter_batches(_PIECE * NUM_ROWS, columns=names, use_threads=False):
            yield columns_of(pa.Table.from_batches([batch]))

    return read


def _columns_of(table: pa.Table, axes: str, needs_types: bool) -> Columns:
    """Columns by name. Raises LandmarkFileError if one is absent, there twice, or no floating-point numbers."""
    if _ROW_ID in table.column_names:
        table = _with_ids(table)
    names = table.column_names
    if names != [*_ORDER, *axes]:
        has_types = needs_types or "type" in names or "landmark_index" in names
        needed = [*(_ORDER[1:] if has_types else ()), *axes]
        for name in ("frame", *needed):
            if (times := names.count(name)) > 1:
                raise LandmarkFileError(f"column {name!r} is there {times} times")
            if times == 0 and name in needed:
                raise LandmarkFileError(f"no column {name!r}")
    pieces = (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for column in table.columns)
    columns = dict(zip(names, pieces, strict=True))
    for name in axes:
        if (kind := columns[name].type) != _FLOAT and not pa.types.is_floating(kind):
            raise LandmarkFileError(f"column {name!r} holds {kind}, not floating-point numbers")
    return columns


def _with_ids(table: pa.Table) -> pa.Table:
    """The columns frame, type and landmark_index as the contest's row_id has them. Raises LandmarkFileError."""
    ids = table[_ROW_ID].cast(pa.string())
    parts = pc.extract_regex(ids, r"^(?P<frame>[0-9]{1,18})-(?P<type>[a-z_]+)-(?P<landmark_index>[0-9]{1,9})$")
    if parts.null_count:
        wrong = described(ids[pc.index(parts.is_null(), True).as_py()].as_py())
        raise LandmarkFileError(f"column {_ROW_ID!r} holds {wrong}, not a frame, a type and an index as 7-face-0")
    table = table.select([name for name in table.column_names if name not in (_ROW_ID, "frame")])
    for name, kind in zip(_ORDER, (pa.int64(), pa.string(), pa.int64()), strict=True):
        table = table.append_column(name, pc.struct_field(parts, name).cast(kind))
    return table


def _take(pieces: Pieces, num_rows: int, axes: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The coordinates and frame numbers of a file whose rows are in the contest's order; None if they are not."""
    num_frames, rest = divmod(num_rows, NUM_ROWS)
    if rest:
        return None
    points = np.empty((num_frames, len(rows), len(axes)), np.float32)
    numbers = np.arange(num_frames)
    first = 0
    for columns in pieces():
        count, rest = divmod(len(columns["x"]), NUM_ROWS)
        if rest or not _is_in_order(
            columns, numbers[first : first + count], None if first == 0 else numbers[first - 1]
        ):
            return None
        with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
            for axis, name in enumerate(axes):
                points[first : first + count, :, axis] = _rows_of(columns[name], rows)
        first += count
    if first != num_frames:
        raise LandmarkFileError(f"not a readable parquet file ({first} frames of {num_frames})")
    return points, numbers


def _is_in_order(columns: Columns, numbers: np.ndarray, before: int | None) -> bool:
    """Whether whole frames are in the contest's order and in time's, after a frame of the number ``before``.

    Puts the frames' numbers int64 [n] into ``numbers``, if the table has them.
    """
    if "type" in columns:
        types, indices = columns["type"], columns["landmark_index"]
        same = types.equals(_TYPES_IN_ORDER[: len(types)]) and indices.equals(_INDICES_IN_ORDER[: len(types)])
        if not same and (_places(types, indices).reshape(-1, NUM_ROWS) != _ALL).any():  # other types, same values
            return False
    if "frame" not in columns:
        return True
    frames = _integers(columns["frame"], "frame")
    numbers[:] = frames[::NUM_ROWS]
    ascending = (numbers[1:] > numbers[:-1]).all() and (before is None or numbers[0] > before)
    # Every frame begins and ends with its own number, and there are no more changes than from frame to frame.
    whole = (numbers == frames[NUM_ROWS - 1 :: NUM_ROWS]).all()
    return bool(ascending and whole and np.count_nonzero(frames[1:] != frames[:-1]) == len(numbers) - 1)


def _restore(pieces: Pieces, num_rows: int, axes: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates and frame numbers of a file with rows in any order, each put where it belongs.

    Raises LandmarkFileError, naming the frame, unless each has every landmark once, or, where no columns say which is
    which, its rows together.
    """
    numbers, per_frame = _frames_of(pieces, num_rows)
    points = np.empty((len(numbers), len(rows), len(axes)), np.float32)
    seen = np.zeros((len(numbers), NUM_ROWS + 1), np.uint8)  # how often each landmark is there; irises last
    target = np.full(NUM_ROWS + 1, -1)
    target[rows] = np.arange(len(rows))
    first = 0
    for columns in pieces():
        count = len(columns["x"])
        if per_frame is None:
            frames = np.searchsorted(numbers, _integers(columns["frame"], "frame"))
        else:
            frames = np.arange(first, first + count) // per_frame
        first += count
        places = _known_places(columns, frames, numbers)
        np.add.at(seen, (frames, places), 1)
        used = np.flatnonzero(target[places] >= 0)
        with np.errstate(over="ignore"):
            for axis, name in enumerate(axes):
                values = columns[name].to_numpy(zero_copy_only=False)
                points[frames[used], target[places[used]], axis] = values[used]
    wrong = seen != 1
    wrong[:, _IRIS] = ~np.isin(seen[:, _IRIS], (0, NUM_IRISES))
    if wrong.any():
        frame, place = np.argwhere(wrong)[0]
        what = f"{TYPES[place]} {INDICES[place]}" if place < NUM_ROWS else "an iris"
        times = f"{seen[frame, place]} times" if place < NUM_ROWS else f"{seen[frame, place]} times, not {NUM_IRISES}"
        raise LandmarkFileError(f"frame {numbers[frame]}: {what} is there {times}")
    return points, numbers


def _known_places(columns: Columns, frames: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The row of the contest's frame that each row is, int64 [n], or _IRIS.

    ``numbers[frames]`` are the rows' frames. Raises LandmarkFileError for what is no landmark, and, without the columns
    that tell, where a frame's rows do not stand together.
    """
    if "type" not in columns:
        if len(frames) % NUM_ROWS:
            raise LandmarkFileError("a row group ends within a frame, and no column 'type' tells which row is which")
        apart = np.flatnonzero((frames.reshape(-1, NUM_ROWS) != frames[::NUM_ROWS, None]).any(axis=1))
        if apart.size:
            frame = numbers[frames[apart[0] * NUM_ROWS]]
            raise LandmarkFileError(
                f"frame {frame}: its rows are not together, and no column 'type' tells which is which"
            )
        return np.arange(len(frames)) % NUM_ROWS
    types, indices = columns["type"], columns["landmark_index"]
    places = _places(types, indices)
    if (unknown := np.flatnonzero(places == _UNKNOWN)).size:
        row = int(unknown[0])
        what = f"type {described(types[row].as_py())}, landmark_index {described(indices[row].as_py())}"
        raise LandmarkFileError(f"frame {numbers[frames[row]]}: {what} is no landmark of the contest")
    return places


def _frames_of(pieces: Pieces, num_rows: int) -> tuple[np.ndarray, int | None]:
    """Numbers of a file's frames, ascending int64 [n]; and the rows of each if only their place tells them apart.

    Raises LandmarkFileError if a frame has not the rows of one.
    """
    sizes: tuple[int, ...] = (NUM_ROWS, NUM_ROWS + NUM_IRISES)
    counts: dict[int, int] = {}
    for columns in pieces():
        if "type" not in columns and (num_rows % NUM_ROWS or "frame" not in columns):
            raise LandmarkFileError(f"{num_rows:,} rows, not a multiple of {NUM_ROWS}")
        if "type" not in columns:
            sizes = (NUM_ROWS,)
        if "frame" not in columns:
            places = _places(*(columns[name].slice(0, max(sizes)) for name in _ORDER[1:]))
            size = sizes[int((places == _IRIS).any())]
            if num_rows % size:
                raise LandmarkFileError(f"{num_rows:,} rows, not a multiple of {size}")
            return np.arange(num_rows // size), size
        found, times = np.unique(_integers(columns["frame"], "frame"), return_counts=True)
        for number, count in zip(found.tolist(), times.tolist(), strict=True):
            counts[number] = counts.get(number, 0) + count
    for number in sorted(counts):
        if counts[number] not in sizes:
            raise LandmarkFileError(f"frame {number} has {counts[number]:,} landmarks, not {NUM_ROWS}")
    return np.array(sorted(counts)), None


def _integers(column: pa.Array, name: str) -> np.ndarray:
    """Whole numbers of any type: int64 or smaller [n]. Raises LandmarkFileError if a field is empty or is none."""
    if column.type in _INTEGERS and not column.null_count:
        return np.asarray(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        raise LandmarkFileError(f"column {name!r} has an empty field")
    try:
        numbers: np.ndarray = column.cast(pa.int64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise LandmarkFileError(f"column {name!r} holds {column.type} that are not whole numbers") from error
    return numbers


def _places(types: pa.Array, indices: pa.Array) -> np.ndarray:
    """The row of the contest's frame that each row is: int64 [n], or _IRIS or _UNKNOWN."""
    if not pa.types.is_dictionary(types.type):
        types = types.dictionary_encode()
    names = [
        name.decode(errors="replace") if isinstance(name, bytes) else name for name in types.dictionary.to_pylist()
    ]
    groups = list(GROUP_SIZES)
    code_of = np.array([*(groups.index(name) if name in groups else len(groups) for name in names), len(groups)])
    codes = code_of[types.indices.fill_null(len(names)).to_numpy()]
    numbers = _integers(indices, "landmark_index")
    places = np.where((numbers >= 0) & (numbers < _SIZES[codes]), _STARTS[codes] + numbers, _UNKNOWN)
    irises = (codes == 0) & (numbers >= _SIZES[0]) & (numbers < _SIZES[0] + NUM_IRISES)
    places[irises] = _IRIS
    return places


def _rows_of(column: pa.Array, rows: np.ndarray) -> np.ndarray:
    """Some rows of every frame, of a column of floating-point numbers: [n, len(rows)], NaN where null.

    Only these are converted: a column's values and the bits that say which are null are looked at where they lie.
    """
    validity, content = column.buffers()
    end = column.offset + len(column)
    values = np.frombuffer(content, column.type.to_pandas_dtype(), end)[column.offset :].reshape(-1, NUM_ROWS)
    taken: np.ndarray = values.take(rows, axis=1)
    if column.null_count:
        bits = np.unpackbits(np.frombuffer(validity, np.uint8), count=end, bitorder="little")[column.offset :]
        np.copyto(taken, np.nan, where=~bits.view(np.bool_).reshape(-1, NUM_ROWS).take(rows, axis=1))
    return taken


def _check_bound(points: np.ndarray, numbers: np.ndarray) -> None:
    """Raise LandmarkFileError if one of the used landmarks float32 [n, 85, 2] is farther away than BOUND."""
    wild = np.abs(points) > BOUND
    if wild.any():
        frame, landmark, axis = np.argwhere(wild)[0]
        row, value = ROWS[landmark], points[frame, landmark, axis]
        what = f"{'xy'[axis]} of {TYPES[row]} {INDICES[row]}"
        raise LandmarkFileError(
            f"frame {numbers[frame]}: {what} is {value:g}; coordinates must be parts "
            f"of the image's width and height, 0 to 1 inside it, not pixels, and at most {BOUND:g} from 0"
        )
