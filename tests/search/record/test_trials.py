"""Rows of trials in trials.parquet, and what is no study."""

from pathlib import Path

import pandas as pd
import pytest

from search.record.trials import read_rows, write_parquet
from tests.search.show.test_tables import ROWS
from trainer.common.errors import UserError


def test_parquet_has_one_row_a_trial_by_number(tmp_path: Path) -> None:
    write_parquet(ROWS, tmp_path)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert table["number"].tolist() == [0, 1, 2]
    assert table["state"].tolist() == ["PRUNED", "COMPLETE", "FAIL"]
    assert table["reason"].tolist()[2] == "RuntimeError: [Errno 28] no space"
    assert table["num_heads"].tolist() == [2, 2, 2]
    assert table["bytes"].tolist()[1] == 4 * 1_663_546
    assert table["val_accuracy"].isna().tolist() == [False, False, True]


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no study"):
        read_rows(tmp_path)
    (tmp_path / "study.db").write_bytes(b"not a database at all, but long enough to look at" * 9)
    with pytest.raises(UserError, match="cannot be read as a study"):
        read_rows(tmp_path)
