"""Reading landmark files: the same values as a plain reading, however a file is laid out, and nothing wrong."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import LandmarkFileError
from trainer.data import landmark_files
from trainer.data.landmark_files import INDICES, TYPES, read_landmarks, read_raw
from trainer.landmarks import ROWS

LIKE_THE_CONTESTS: dict[str, Any] = {"compression": "snappy", "version": "1.0"}


def plainly(path: Path) -> np.ndarray:
    """float32 [n, 85, 2]"""
    table = pq.read_table(path, columns=["x", "y"])
    points = np.stack([table[axis].to_numpy() for axis in ("x", "y")], axis=-1).reshape(-1, 543, 2)
    chosen: np.ndarray = points[:, ROWS].astype(np.float32)
    return chosen


def make_table(num_frames: int, seed: int, missing: str, first_frame: int = 0) -> pa.Table:
    """A file's content: float32 noise, of which something is missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.5, 0.2, (num_frames, 543, 3)).astype(np.float32).astype(np.float64)
    if missing == "hands":
        values[rng.random(num_frames) < 0.5, 468:489] = np.nan
        values[:, 522:] = np.nan
    elif missing == "anything":
        values[rng.random((num_frames, 543)) < 0.3] = np.nan
    elif missing == "x here and there":
        values[rng.random((num_frames, 543)) < 0.01, 0] = np.nan
    columns = {axis: pa.array(values[..., index].ravel(), from_pandas=True) for index, axis in enumerate("xyz")}
    numbers = np.repeat(np.arange(first_frame, first_frame + num_frames, dtype=np.int16), 543)
    kinds = np.tile(TYPES, num_frames)
    indices = np.tile(INDICES, num_frames)
    return pa.table({"frame": numbers, "type": kinds, "landmark_index": indices.astype(np.int16), **columns})


LAYOUTS: dict[str, dict[str, Any]] = {
    "contest": {},
    "zstd": {"compression": "zstd"},
    "uncompressed": {"compression": "none"},
    "no dictionary": {"use_dictionary": False},
    "dictionary overflows": {"dictionary_pagesize_limit": 2000},
    "several pages": {"data_page_size": 2000, "write_batch_size": 500},
    "several row groups": {"row_group_size": 543},
    "row groups that cut frames": {"row_group_size": 400},
    "data pages 2.0": {"data_page_version": "2.0"},
    "checksums": {"write_page_checksum": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("missing", ["nothing", "hands", "anything", "x here and there"])
def test_every_layout_gives_the_same_values(layout: str, missing: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(7, 0, missing), path, **LIKE_THE_CONTESTS | LAYOUTS[layout])
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))


def test_real_files_give_the_same_values(real_sample: Path) -> None:
    files = pd.read_csv(real_sample / "provenance.csv")
    for _, paths in files.groupby("source").path:
        for path in paths.head(30):
            np.testing.assert_array_equal(read_landmarks(real_sample / path), plainly(real_sample / path), path)


def with_column(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


SAME_VALUES = {
    "type as bytes": lambda table: with_column(table, "type", table["type"].cast(pa.binary())),
    "type as large text": lambda table: with_column(table, "type", table["type"].cast(pa.large_string())),
    "type as a dictionary": lambda table: with_column(table, "type", table["type"].dictionary_encode()),
    "index of 64 bits": lambda table: with_column(table, "landmark_index", table["landmark_index"].cast(pa.int64())),
    "index without a sign": lambda table: with_column(
        table, "landmark_index", table["landmark_index"].cast(pa.uint16())
    ),
    "index as float": lambda table: with_column(table, "landmark_index", table["landmark_index"].cast(pa.float64())),
    "frame as float": lambda table: with_column(table, "frame", table["frame"].cast(pa.float32())),
    "no frame": lambda table: table.drop(["frame"]),
    "type as a large dictionary": lambda table: with_column(
        table, "type", table["type"].cast(pa.large_string()).dictionary_encode()
    ),
    "float32": lambda table: with_column(table, "x", table["x"].cast(pa.float32())),
    "another order of columns": lambda table: table.select(["y", "x", "landmark_index", "frame", "type", "z"]),
    "never null": lambda table: table.cast(pa.schema([field.with_nullable(False) for field in table.schema])),
}


@pytest.mark.parametrize("change", SAME_VALUES)
def test_columns_of_other_types_give_the_same_values(change: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(
        SAME_VALUES[change](make_table(5, 0, "nothing")), path, store_schema="large" in change or "dictionary" in change
    )
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))


REORDERINGS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "pose first": lambda table: table.take(pc.sort_indices(table, [("frame", "ascending"), ("type", "descending")])),
    "reversed": lambda table: table.take(np.arange(len(table))[::-1]),
    "shuffled": lambda table: table.take(np.random.default_rng(0).permutation(len(table))),
    "landmark by landmark": lambda table: table.take(pc.sort_indices(table, [("type", "ascending")])),
    "frames in the order of their text": lambda table: table.take(pc.sort_indices(table["frame"].cast(pa.string()))),
    "two rows swapped": lambda table: swapped(table, 0, 1),
    "the same landmark of two frames swapped": lambda table: swapped(table, 5, 5 + 543),
    "index as text": lambda table: with_column(table, "landmark_index", table["landmark_index"].cast(pa.string())),
    "frame as text": lambda table: with_column(table, "frame", table["frame"].cast(pa.string())),
    "frame as float, reversed": lambda table: with_column(table, "frame", table["frame"].cast(pa.float64())).take(
        np.arange(len(table))[::-1]
    ),
    "types as bytes, shuffled": lambda table: with_column(table, "type", table["type"].cast(pa.binary())).take(
        np.random.default_rng(0).permutation(len(table))
    ),
}


def same_everywhere(path: Path, ordered: Path, num_frames: int) -> None:
    """Hold a file against one in the contest's order, through both readers."""
    assert len(read_landmarks(path)) == num_frames
    np.testing.assert_array_equal(read_landmarks(path), read_landmarks(ordered))
    np.testing.assert_array_equal(read_raw(path), read_raw(ordered))


@pytest.mark.parametrize("piece", [1024, 4], ids=["whole", "in pieces"])
@pytest.mark.parametrize("change", REORDERINGS)
def test_rows_in_another_order_are_put_into_the_contests(
    change: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmark_files, "_PIECE", piece)
    table = make_table(12, 0, "hands", first_frame=3)
    pq.write_table(table, tmp_path / "ordered.parquet")
    pq.write_table(REORDERINGS[change](table), tmp_path / "file.parquet", row_group_size=2000)
    np.testing.assert_array_equal(read_landmarks(tmp_path / "ordered.parquet"), plainly(tmp_path / "ordered.parquet"))
    same_everywhere(tmp_path / "file.parquet", tmp_path / "ordered.parquet", 12)


def without_frame(table: pa.Table) -> pa.Table:
    return table.drop(["frame"])


@pytest.mark.parametrize("piece", [1024, 2], ids=["whole", "in pieces"])
@pytest.mark.parametrize("change", ["none", "pose first", "two rows swapped"])
def test_without_frame_numbers_each_run_of_rows_is_a_frame(
    change: str, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmark_files, "_PIECE", piece)
    table = make_table(5, 0, "hands")
    pq.write_table(table, tmp_path / "ordered.parquet")
    pq.write_table(without_frame(REORDERINGS.get(change, lambda same: same)(table)), tmp_path / "file.parquet")
    same_everywhere(tmp_path / "file.parquet", tmp_path / "ordered.parquet", 5)


def with_irises(table: pa.Table, irises: int = 10) -> pa.Table:
    """Each frame with faces of 478 points, as MediaPipe's newer meshes have them: 553 rows."""
    frames = []
    for first in range(0, len(table), 543):
        frame = table.slice(first, 543).combine_chunks()
        extra = frame.slice(0, irises)
        extra = with_column(extra, "landmark_index", pa.array(np.arange(468, 468 + irises), pa.int16()))
        frames += [frame.slice(0, 468), extra, frame.slice(468)]
    return pa.concat_tables(frames)


@pytest.mark.parametrize("named", [True, False], ids=["with frame numbers", "without"])
def test_irises_are_left_out(named: bool, tmp_path: Path) -> None:
    table = make_table(4, 0, "hands")
    longer = with_irises(table)
    assert len(longer) == 4 * 553
    pq.write_table(table, tmp_path / "ordered.parquet")
    pq.write_table(longer if named else without_frame(longer), tmp_path / "file.parquet")
    same_everywhere(tmp_path / "file.parquet", tmp_path / "ordered.parquet", 4)


@pytest.mark.parametrize("layout", ["contest", "row groups that cut frames", "several row groups"])
def test_a_file_read_in_pieces_gives_the_same_values(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmark_files, "_PIECE", 2)
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(7, 0, "hands"), path, **LIKE_THE_CONTESTS | LAYOUTS[layout])
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))


def test_memory_grows_with_the_result_not_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns of all 2,000 frames take over 30 MB, those of a piece of 100 frames 2."""
    monkeypatch.setattr(landmark_files, "_PIECE", 100)
    path, part = tmp_path / "file.parquet", make_table(200, 0, "nothing")
    with pq.ParquetWriter(path, part.schema) as writer:
        for first in range(0, 2000, 200):
            numbers = np.repeat(np.arange(first, first + 200, dtype=np.int16), 543)
            writer.write_table(with_column(part, "frame", pa.array(numbers)))
    before, pool = pa.default_memory_pool(), pa.system_memory_pool()  # one that nothing else has used
    pa.set_memory_pool(pool)
    try:
        assert read_landmarks(path).shape == (2000, 85, 2)
    finally:
        pa.set_memory_pool(before)
    assert 1e6 < pool.max_memory() < 25e6


def swapped(table: pa.Table, first: int, second: int) -> pa.Table:
    order = np.arange(len(table))
    order[[first, second]] = second, first
    return table.take(order)


def with_first(table: pa.Table, name: str, value: object) -> pa.Table:
    """The table with another value in the first row of a column."""
    return with_column(table, name, pa.array([value, *table[name].to_pylist()[1:]], table[name].type))


def moved(table: pa.Table, row: int, frame: int) -> pa.Table:
    """The table with one row given to another frame: this has 544 then, and that one 542."""
    frames = table["frame"].to_numpy().copy()
    frames[row] = frame
    return with_column(table, "frame", pa.array(frames))


def appended(table: pa.Table, row: int) -> pa.Table:
    return pa.concat_tables([table, table.slice(row, 1)])


FAULTS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a type missing": (
        lambda table: with_first(table, "type", None),
        "frame 0: type null, landmark_index 0 is no landmark of the contest",
    ),
    "an unknown type": (
        lambda table: with_first(table, "type", "foot"),
        "frame 0: type 'foot', landmark_index 0 is no landmark of the contest",
    ),
    "a type without end": (
        lambda table: with_first(table, "type", "x" * 9_000),
        r"frame 0: type 'x{39}\.\.\., landmark_index 0 is no landmark of the contest",
    ),
    "type as numbers": (
        lambda table: with_column(table, "type", table["x"]),
        "frame 0: type .* is no landmark of the contest",
    ),
    "an index missing": (
        lambda table: with_first(table, "landmark_index", None),
        "column 'landmark_index' has an empty field",
    ),
    "an index too high": (
        lambda table: with_first(table, "landmark_index", 478),
        "frame 0: type 'face', landmark_index 478 is no landmark of the contest",
    ),
    "a negative index": (
        lambda table: with_first(table, "landmark_index", -1),
        "frame 0: .* landmark_index -1 is no landmark",
    ),
    "an index with a fraction": (
        lambda table: with_column(table, "landmark_index", pa.array(np.full(len(table), 0.5))),
        "column 'landmark_index' holds double that are not whole numbers",
    ),
    "a landmark twice": (lambda table: with_first(table, "landmark_index", 7), "frame 0: face 0 is there 0 times"),
    "a row moved to another frame": (lambda table: moved(table, 600, 2), "frame 1 has 542 landmarks, not 543"),
    "a row too many": (lambda table: appended(table, 543), "frame 1 has 544 landmarks, not 543"),
    "no frame number": (lambda table: with_first(table, "frame", None), "column 'frame' has an empty field"),
    "frames with names": (
        lambda table: with_column(table, "frame", pa.array(["first"] * len(table))),
        "column 'frame' holds string that are not whole numbers",
    ),
    "frame twice": (lambda table: table.append_column("frame", table["x"]), "column 'frame' is there 2 times"),
    "some irises": (
        lambda table: pa.concat_tables([with_irises(table.slice(0, 543), 9), table.slice(543)]),
        "frame 0 has 552 landmarks, not 543",
    ),
    "x as whole numbers": (
        lambda table: with_column(table, "x", pa.array(np.zeros(len(table), np.int32))),
        "column 'x' holds int32, not floating-point numbers",
    ),
    "x twice": (lambda table: table.append_column("x", table["x"]), "column 'x' is there 2 times"),
    "type twice": (lambda table: table.append_column("type", table["x"]), "column 'type' is there 2 times"),
    "no index": (lambda table: table.drop(["landmark_index"]), "no column 'landmark_index'"),
    "no type": (lambda table: table.drop(["type"]), "no column 'type'"),
    "half a frame": (lambda table: table.slice(0, 800), "frame 1 has 257 landmarks, not 543"),
    "half a frame, no numbers": (
        lambda table: without_frame(table.slice(0, 800)),
        "800 rows, not a multiple of 543",
    ),
    "frames of 542 and 544 rows, no numbers": (
        lambda table: without_frame(swapped(with_first(table, "landmark_index", 7), 5, 800)),
        "frame 0: face 0 is there 0 times",
    ),
    "no frames": (lambda table: table.slice(0, 0), "no frames"),
    "infinite": (
        lambda table: with_value(table, "x", np.inf),
        "frame 2: x of face 13 is inf; coordinates must be parts",
    ),
    "beyond float32": (lambda table: with_value(table, "y", -1e300), "frame 2: y of face 13 is -inf"),
    "the largest float32": (lambda table: with_value(table, "y", 3.4e38), r"frame 2: y of face 13 is 3.4e\+38"),
    "1e6": (lambda table: with_value(table, "x", -1e6), r"frame 2: x of face 13 is -1e\+06; .*, not pixels"),
    "pixels": (
        lambda table: with_column(table, "x", pa.array(table["x"].to_numpy() * 640)),
        "frame 0: x of .* coordinates must be parts of the image's width and height, 0 to 1 inside it, not pixels",
    ),
}


def with_value(table: pa.Table, name: str, value: float) -> pa.Table:
    """The table with another value at the third frame's face 13, which is used."""
    values = table[name].to_numpy().copy()
    values[2 * 543 + 13] = value
    return with_column(table, name, pa.array(values))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_file_is_said_by_both_readers(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    path = tmp_path / "file.parquet"
    pq.write_table(change(make_table(3, 0, "nothing")), path)
    with pytest.raises(LandmarkFileError, match=f"^{message}"):
        read_landmarks(path)
    with pytest.raises(LandmarkFileError, match=f"^{path}: {message}.*; give landmark files of the contest"):
        read_raw(path)


@pytest.mark.parametrize("value", [-0.6, 2.9, 9.9])
def test_a_landmark_far_outside_the_image_is_taken(value: float, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(with_value(make_table(3, 0, "hands"), "y", value), path)
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))
    assert read_raw(path)[2, 13, 1] == np.float32(value)


@pytest.mark.parametrize("layout", ["contest", "zstd"])
def test_a_harmed_file_raises_nothing_but_a_landmark_file_error(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(2, 0, "hands"), path, **LIKE_THE_CONTESTS | LAYOUTS[layout])
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(700):
        harmed = bytearray(content)
        first = int(rng.integers(len(content) - 1500, len(content)))
        harmed[first : first + int(rng.integers(1, 4))] = rng.bytes(int(rng.integers(0, 4)))
        path.write_bytes(harmed)
        try:
            read_landmarks(path)
        except LandmarkFileError:
            refused += 1
    assert 20 < refused < 700


def test_raw_landmarks_are_all_coordinates_as_they_stand(tmp_path: Path) -> None:
    path, table = tmp_path / "file.parquet", make_table(3, 0, "hands")
    pq.write_table(table, path)
    raw = read_raw(path)
    assert raw.shape == (3, 543, 3)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw[..., 2].ravel(), table["z"].to_numpy().astype(np.float32))
    np.testing.assert_array_equal(raw[:, ROWS, :2], read_landmarks(path))


def test_a_file_of_coordinates_alone_is_in_the_contests_order_for_a_submission(tmp_path: Path) -> None:
    table = make_table(3, 0, "hands")
    pq.write_table(table, tmp_path / "whole.parquet")
    for columns in (["x", "y", "z"], ["frame", "z", "y", "x"]):
        pq.write_table(table.select(columns), tmp_path / "file.parquet")
        np.testing.assert_array_equal(read_raw(tmp_path / "file.parquet"), read_raw(tmp_path / "whole.parquet"))
    pq.write_table(table.select(["x", "y", "z"]).slice(0, 800), tmp_path / "file.parquet")
    with pytest.raises(LandmarkFileError, match="800 rows, not a multiple of 543"):
        read_raw(tmp_path / "file.parquet")


def test_frames_of_coordinates_alone_are_put_in_the_order_of_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(7, 0, "hands")
    pq.write_table(table, tmp_path / "whole.parquet")
    bare, path = table.select(["frame", "x", "y", "z"]), tmp_path / "file.parquet"
    pq.write_table(bare.take(np.arange(7 * 543).reshape(7, 543)[::-1].ravel()), path)
    for piece in (1024, 2):
        monkeypatch.setattr(landmark_files, "_PIECE", piece)
        np.testing.assert_array_equal(read_raw(path), read_raw(tmp_path / "whole.parquet"))
    order = np.arange(7 * 543)
    order[[5, 543 + 5]] = order[[543 + 5, 5]]  # of two frames
    pq.write_table(bare.take(order), path)
    with pytest.raises(LandmarkFileError, match="frame 0: its rows are not together, and no column 'type' tells"):
        read_raw(path)
    pq.write_table(bare.slice(0, 3 * 543 - 1), path)
    with pytest.raises(LandmarkFileError, match="1,628 rows, not a multiple of 543"):
        read_raw(path)


def test_raw_landmarks_need_z_and_a_file(tmp_path: Path) -> None:
    pq.write_table(make_table(3, 0, "nothing").drop(["z"]), tmp_path / "file.parquet")
    with pytest.raises(LandmarkFileError, match=f"^{tmp_path}/file.parquet: no column 'z'; give landmark files"):
        read_raw(tmp_path / "file.parquet")
    with pytest.raises(LandmarkFileError, match=f"^{tmp_path}/absent.parquet: no such file"):
        read_raw(tmp_path / "absent.parquet")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(LandmarkFileError, match=r"^it is a pipe, not a file$"):
        read_landmarks(tmp_path / "pipe.parquet")
    with pytest.raises(LandmarkFileError, match=r"pipe\.parquet: it is a pipe, not a file; give landmark files"):
        read_raw(tmp_path / "pipe.parquet")


@pytest.mark.parametrize("order", ["contest", "shuffled"])
@pytest.mark.parametrize("read", [read_landmarks, read_raw])
def test_row_ids_tell_the_order_where_nothing_else_does(
    order: str, read: Callable[[Path], np.ndarray], tmp_path: Path
) -> None:
    table = make_table(5, seed=3, missing="anything", first_frame=7)
    pq.write_table(table, tmp_path / "plain.parquet")
    ids = [f"{row['frame']}-{row['type']}-{row['landmark_index']}" for row in table.to_pylist()]
    named = table.select(["x", "y", "z"]).append_column("row_id", pa.array(ids))
    if order == "shuffled":
        named = named.take(np.random.default_rng(0).permutation(len(named)))
    pq.write_table(named, tmp_path / "named.parquet")
    np.testing.assert_array_equal(read(tmp_path / "named.parquet"), read(tmp_path / "plain.parquet"))
    ids[3] = "7-face"
    pq.write_table(named.drop_columns("row_id").append_column("row_id", pa.array(ids)), tmp_path / "broken.parquet")
    with pytest.raises(
        LandmarkFileError, match="column 'row_id' holds '7-face', not a frame, a type and an index as 7-"
    ):
        read(tmp_path / "broken.parquet")


@pytest.mark.parametrize("read", [read_landmarks, read_raw])
def test_a_landmark_at_exactly_0_is_missing(read: Callable[[Path], np.ndarray], tmp_path: Path) -> None:
    table = make_table(3, seed=4, missing="")
    pq.write_table(table, tmp_path / "whole.parquet")
    hand = np.isin(table["type"].to_numpy(zero_copy_only=False), ["left_hand"])
    holes = table
    for place, axis in enumerate("xy", start=3):
        holes = holes.set_column(place, axis, pa.array(np.where(hand, 0.0, table[axis].to_numpy())))
    pq.write_table(holes, tmp_path / "zeros.parquet")
    found, whole = read(tmp_path / "zeros.parquet"), read(tmp_path / "whole.parquet")
    is_hand = np.isin(TYPES[list(ROWS)] if found.shape[1] == len(ROWS) else TYPES, ["left_hand"])
    assert np.isnan(found[:, is_hand]).all()
    np.testing.assert_array_equal(found[:, ~is_hand], whole[:, ~is_hand])
    one = table.set_column(3, "x", pa.array(np.where(hand, 0.0, table["x"].to_numpy())))
    pq.write_table(one, tmp_path / "one.parquet")
    assert not np.isnan(read(tmp_path / "one.parquet")).any()


def test_a_file_that_unfolds_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(make_table(9, seed=5, missing=""), tmp_path / "long.parquet")
    monkeypatch.setattr(landmark_files, "MOST_FRAMES", 8)
    with pytest.raises(LandmarkFileError, match="4,887 rows, more than 8 frames; no sign takes an hour"):
        read_landmarks(tmp_path / "long.parquet")
