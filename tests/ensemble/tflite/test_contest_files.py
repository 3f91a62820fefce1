"""Reading landmark files as the contest's evaluator does."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.tflite.contest_files import read_raw
from tests.ensemble.test_select import contest_file
from trainer.common.errors import UserError


def test_reads_coordinates_with_nan_for_what_is_missing(tmp_path: Path):
    raw = contest_file(tmp_path / "a.parquet", 3)
    found = read_raw(tmp_path / "a.parquet")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, raw)
    assert np.isnan(found[:, 468:489]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (pa.table({"x": [0.0], "y": [0.0]}), "the column 'z' is missing"),
        (pa.table({name: np.zeros(544) for name in "xyz"}), "544 rows are not whole frames of 543 landmarks"),
        (pa.table({name: np.zeros(0) for name in "xyz"}), "0 rows are not whole frames"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path: Path, content: pa.Table | None, message: str):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"nonsense") if content is None else pq.write_table(content, path)
    with pytest.raises(UserError, match=message):
        read_raw(path)
