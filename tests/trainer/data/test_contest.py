"""Reading the contest's folder: the same values as a plain reading, however a file is laid out, and nothing wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import LandmarkFileError, UserError
from trainer.data import contest
from trainer.data.contest import read_landmarks, read_raw, read_train_csv
from trainer.landmarks import ROWS

LIKE_THE_CONTESTS: dict[str, Any] = {"compression": "snappy", "version": "1.0"}


def plainly(path: Path) -> np.ndarray:
    """float32 [n, 85, 2]"""
    table = pq.read_table(path, columns=["x", "y"])
    points = np.stack([table[axis].to_numpy() for axis in ("x", "y")], axis=-1).reshape(-1, 543, 2)
    chosen: np.ndarray = points[:, ROWS].astype(np.float32)
    return chosen


def make_table(num_frames: int, seed: int, missing: str) -> pa.Table:
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
    numbers = np.repeat(np.arange(num_frames, dtype=np.int16), 543)
    kinds = np.tile(contest.TYPES, num_frames)
    indices = np.tile(contest.INDICES, num_frames)
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
    "float32": lambda table: with_column(table, "x", table["x"].cast(pa.float32())),
    "another order of columns": lambda table: table.select(["y", "x", "landmark_index", "frame", "type", "z"]),
    "never null": lambda table: table.cast(pa.schema([field.with_nullable(False) for field in table.schema])),
}


@pytest.mark.parametrize("change", SAME_VALUES)
def test_columns_of_other_types_give_the_same_values(change: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(SAME_VALUES[change](make_table(5, 0, "nothing")), path, store_schema="large" in change)
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))


def test_a_file_longer_than_is_compared_at_once_is_read_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "_INDICES_IN_ORDER", contest._INDICES_IN_ORDER[: 2 * 543])
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(5, 0, "hands"), path)
    np.testing.assert_array_equal(read_landmarks(path), plainly(path))


def swapped(table: pa.Table, first: int, second: int) -> pa.Table:
    order = np.arange(len(table))
    order[[first, second]] = second, first
    return table.take(order)


FAULTS = {
    "two rows of the face swapped": (lambda table: swapped(table, 0, 1), "landmark_index is not in the order"),
    "rows of the last frame swapped": (lambda table: swapped(table, 1628, 1600), "type is not in the order"),
    "a type missing": (
        lambda table: with_column(table, "type", pa.array([None, *table["type"].to_pylist()[1:]])),
        "type is not in the order",
    ),
    "an index missing": (
        lambda table: with_column(
            table, "landmark_index", pa.array([None, *table["landmark_index"].to_pylist()[1:]], pa.int16())
        ),
        "landmark_index is not in the order",
    ),
    "an unknown type": (
        lambda table: with_column(table, "type", pa.array(["foot", *table["type"].to_pylist()[1:]])),
        "type is not in the order",
    ),
    "index as text": (
        lambda table: with_column(table, "landmark_index", table["landmark_index"].cast(pa.string())),
        "landmark_index is not in the order",
    ),
    "x as whole numbers": (
        lambda table: with_column(table, "x", pa.array(np.zeros(len(table), np.int32))),
        "column 'x' holds int32, not floating-point numbers",
    ),
    "x twice": (lambda table: table.append_column("x", table["x"]), "column 'x' is there 2 times"),
    "type twice": (lambda table: table.append_column("type", table["x"]), "column 'type' is there 2 times"),
    "no index": (lambda table: table.drop(["landmark_index"]), "no column 'landmark_index'"),
    "half a frame": (lambda table: table.slice(0, 800), "800 rows, not a multiple of 543"),
    "no frames": (lambda table: table.slice(0, 0), "no frames"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_file_is_said(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    path = tmp_path / "file.parquet"
    pq.write_table(change(make_table(3, 0, "nothing")), path)
    with pytest.raises(LandmarkFileError, match=message):
        read_landmarks(path)


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


def test_a_column_of_the_index_that_is_there_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "sign_to_prediction_index_map.json").write_text('{"a": 0}')
    (tmp_path / "train.csv").write_text("path,participant_id,sequence_id,sign,sign\nx.parquet,1,2,a,a\n")
    with pytest.raises(UserError, match=r"train\.csv: 2 times the column 'sign'; the columns must be path, "):
        read_train_csv(tmp_path)


def test_raw_landmarks_are_all_coordinates_as_they_stand(tmp_path: Path) -> None:
    path, table = tmp_path / "file.parquet", make_table(3, 0, "hands")
    pq.write_table(table, path)
    raw = read_raw(path)
    assert raw.shape == (3, 543, 3)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw[..., 2].ravel(), table["z"].to_numpy().astype(np.float32))
    np.testing.assert_array_equal(raw[:, ROWS, :2], read_landmarks(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(["z"]), "the column 'z' is missing; give landmark files of the contest"),
        (lambda table: table.append_column("x", table["x"]), "the column 'x' is there 2 times"),
        (lambda table: table.slice(0, 800), "800 rows are not whole frames of 543 landmarks"),
        (lambda table: with_column(table, "x", table["type"]), "coordinates that are not numbers"),
    ],
)
def test_raw_landmarks_that_cannot_be_read_name_the_file(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(change(make_table(3, 0, "nothing")), path)
    with pytest.raises(UserError, match=message) as refusal:
        read_raw(path)
    assert str(refusal.value).startswith(f"{path}: ")
    with pytest.raises(UserError, match="there is no such file"):
        read_raw(tmp_path / "absent.parquet")
