"""The fast reader against pyarrow: the same values from the contest's layout, and no answer to any other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import LandmarkFileError
from trainer.data import contest, parquet_layout
from trainer.data.contest import read_landmarks
from trainer.landmarks import ROWS

CONTEST_LAYOUT = {"compression": "snappy", "version": "1.0"}


def by_pyarrow(path: Path) -> np.ndarray:
    """float32 [n, 85, 2]"""
    table = pq.read_table(path, columns=["x", "y"])
    points = np.stack([table[axis].to_numpy() for axis in ("x", "y")], axis=-1).reshape(-1, 543, 2)
    return points[:, ROWS].astype(np.float32)


def read_fast(path: Path) -> np.ndarray | None:
    """By the fast reader, the order of the file's rows being known to be right."""
    read_landmarks(path)
    return parquet_layout.read(path, contest._right_orders)


def expect_right(path: Path) -> None:
    """Whichever reader answers, before and after the file's order is known, it answers as pyarrow does."""
    for _ in range(2):
        np.testing.assert_array_equal(read_landmarks(path), by_pyarrow(path))


def make_table(num_frames: int, seed: int, missing: str) -> pa.Table:
    """A file's content: float32 noise, of which something is missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.5, 0.2, (num_frames, 543, 3)).astype(np.float32).astype(np.float64)
    if missing == "hands":
        values[rng.random(num_frames) < 0.5, 468:489] = np.nan
        values[:, 522:] = np.nan
    elif missing == "anything":
        values[rng.random((num_frames, 543)) < 0.3] = np.nan
    elif missing == "x of hands":
        values[:, 468:489, 0] = np.nan
    elif missing == "x here and there":
        values[rng.random((num_frames, 543)) < 0.01, 0] = np.nan
    columns = {axis: pa.array(values[..., index].ravel(), from_pandas=True) for index, axis in enumerate("xyz")}
    numbers = np.repeat(np.arange(num_frames, dtype=np.int16), 543)
    kinds = np.tile(contest.TYPES, num_frames)
    indices = np.tile(contest.INDICES, num_frames)
    ids = [f"{number}-{kind}-{index}" for number, kind, index in zip(numbers, kinds, indices, strict=True)]
    return pa.table(
        {"frame": numbers, "row_id": ids, "type": kinds, "landmark_index": indices.astype(np.int16), **columns}
    )


@pytest.mark.parametrize("missing", ["nothing", "hands", "anything", "x of hands", "x here and there"])
@pytest.mark.parametrize("num_frames", [1, 2, 6, 23, 36])
def test_the_contests_layout_is_read_fast_and_right(num_frames: int, missing: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(num_frames, num_frames, missing), path, **CONTEST_LAYOUT)
    assert (read_fast(path) is not None) == (missing in ("nothing", "hands", "x of hands")), "whole hands are missing"
    expect_right(path)


def test_real_files_are_read_fast_and_right(real_sample: Path) -> None:
    files = pd.read_csv(real_sample / "provenance.csv")
    for source, paths in files.groupby("source").path:
        for path in paths.head(30):
            points = read_fast(real_sample / path)
            assert (points is not None) == (source == "original_bytes")
            np.testing.assert_array_equal(read_landmarks(real_sample / path), by_pyarrow(real_sample / path), path)


OTHER_LAYOUTS: dict[str, dict[str, object]] = {
    "zstd": {"compression": "zstd"},
    "uncompressed": {"compression": "none"},
    "no dictionary": {"use_dictionary": False},
    "dictionary overflows": {"dictionary_pagesize_limit": 2000},
    "several pages": {"data_page_size": 2000, "write_batch_size": 500},
    "several row groups": {"row_group_size": 543},
    "data pages 2.0": {"data_page_version": "2.0"},
    "checksums": {"write_page_checksum": True},
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
@pytest.mark.parametrize("missing", ["nothing", "hands", "anything"])
def test_other_layouts_are_left_to_pyarrow(layout: str, missing: str, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(7, 0, missing), path, **CONTEST_LAYOUT | OTHER_LAYOUTS[layout])
    assert read_fast(path) is None
    expect_right(path)


@pytest.mark.parametrize("first", [0, 500, 2500, 4000])
@pytest.mark.parametrize("count", [7, 8, 100, 1000])
def test_repeated_values_are_right(first: int, count: int, tmp_path: Path) -> None:
    """Eight equal values and more are no longer bit-packed, which shifts all that follow."""
    path = tmp_path / "file.parquet"
    table = make_table(9, 0, "hands")
    for column in ("x", "y"):
        values = table[column].to_numpy().copy()
        values[first : first + count][~np.isnan(values[first : first + count])] = 0.25
        table = table.set_column(table.column_names.index(column), column, pa.array(values, from_pandas=True))
    pq.write_table(table, path, **CONTEST_LAYOUT)
    expect_right(path)


def test_columns_that_cannot_be_null_are_right(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    table = make_table(9, 0, "nothing")
    required = pa.schema([field.with_nullable(field.name not in "xy") for field in table.schema])
    pq.write_table(table.cast(required), path, **CONTEST_LAYOUT)
    expect_right(path)


def test_a_file_of_unknown_order_is_not_read_fast(tmp_path: Path) -> None:
    """Only a file whose type and landmark_index are, byte for byte, those of a verified one is taken at its word."""
    path = tmp_path / "file.parquet"
    table = make_table(3, 0, "hands")
    pq.write_table(table, path, **CONTEST_LAYOUT)
    assert parquet_layout.read(path, frozenset()) is None
    assert read_fast(path) is not None
    pq.write_table(table.take([1, 0, *range(2, len(table))]), path, **CONTEST_LAYOUT)
    assert parquet_layout.read(path, contest._right_orders) is None
    with pytest.raises(LandmarkFileError, match="landmark_index is not in the order"):
        read_landmarks(path)


def test_a_harmed_file_is_read_as_by_pyarrow_or_not_at_all(tmp_path: Path) -> None:
    """Whatever byte is changed. Where pyarrow gives up on a part that is not needed, the values are still right."""
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(2, 0, "hands"), path, **CONTEST_LAYOUT)
    whole = read_fast(path)
    content = path.read_bytes()
    columns = pq.read_metadata(path).row_group(0)
    x, y = columns.column(4), columns.column(5)
    headers = [
        at + byte for at in (x.dictionary_page_offset, x.data_page_offset - 1, y.data_page_offset) for byte in range(60)
    ]
    rng = np.random.default_rng(0)
    anywhere = rng.integers(columns.column(2).dictionary_page_offset, len(content), 1000).tolist()
    answers = 0
    for at in (*headers, *range(len(content) - 1200, len(content)), *anywhere):
        harmed = bytearray(content)
        harmed[at] ^= int(rng.integers(1, 256))
        path.write_bytes(harmed)
        with np.errstate(over="ignore"):
            points = parquet_layout.read(path, contest._right_orders)
            if points is None:
                continue
            answers += 1
            try:
                expected = by_pyarrow(path)
            except (OSError, pa.ArrowException):
                assert whole is not None
                expected = whole
        np.testing.assert_array_equal(points, expected, f"byte {at}")
    assert answers > 100


@pytest.mark.parametrize("layout", [CONTEST_LAYOUT, {"compression": "zstd"}], ids=["contest", "zstd"])
def test_no_harm_raises_anything_but_bad_file(layout: dict[str, str], tmp_path: Path) -> None:
    """Nor ends the process, as asking pyarrow 26 for the metadata of some garbled columns does."""
    path = tmp_path / "file.parquet"
    pq.write_table(make_table(2, 0, "hands"), path, **layout)
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(700):
        harmed = bytearray(content)
        first = rng.integers(len(content) - 1500, len(content))
        harmed[first : first + rng.integers(1, 4)] = rng.bytes(rng.integers(0, 4))
        path.write_bytes(harmed)
        try:
            read_landmarks(path)
        except LandmarkFileError:
            refused += 1
    assert 20 < refused < 700
