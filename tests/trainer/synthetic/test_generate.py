"""The generated dataset against the contest's layout."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import UserError
from trainer.synthetic.generate import synthesize

TYPES = ["face"] * 468 + ["left_hand"] * 21 + ["pose"] * 33 + ["right_hand"] * 21


def test_files_have_the_contests_layout(generated: Path) -> None:
    lines = pd.read_csv(generated / "train.csv")
    for line in lines.head(8).itertuples():
        table = pq.read_table(generated / line.path)
        assert table.schema.names == ["frame", "row_id", "type", "landmark_index", "x", "y", "z"]
        assert table.schema.types == [pa.int16(), pa.string(), pa.string(), pa.int16(), *[pa.float64()] * 3]
        rows = table.to_pandas()
        num_frames, rest = divmod(len(rows), 543)
        assert rest == 0
        first = rows.frame.iloc[0]
        assert rows.frame.tolist() == np.repeat(np.arange(first, first + num_frames), 543).tolist()
        assert rows.type.tolist() == TYPES * num_frames
        indices = [*range(468), *range(21), *range(33), *range(21)]
        assert rows.landmark_index.tolist() == indices * num_frames
        expected = rows.frame.astype(str) + "-" + rows.type + "-" + rows.landmark_index.astype(str)
        assert rows.row_id.tolist() == expected.tolist()


def test_the_index_has_the_contests_layout(generated: Path) -> None:
    lines = pd.read_csv(generated / "train.csv")
    assert list(lines.columns) == ["path", "participant_id", "sequence_id", "sign"]
    assert (lines.groupby(["participant_id", "sign"]).size() == 2).all()
    assert len(lines) == 72
    assert lines.sequence_id.is_unique
    assert not lines.participant_id.is_monotonic_increasing
    for line in lines.itertuples():
        assert re.fullmatch(rf"train_landmark_files/{line.participant_id}/{line.sequence_id}\.parquet", line.path)
    assert json.loads((generated / "sign_to_prediction_index_map.json").read_text()) == {
        name: index for index, name in enumerate(sorted(set(lines.sign)))
    }
    starts = [pq.read_table(generated / path, columns=["frame"])["frame"][0].as_py() for path in lines.path]
    assert len(set(starts)) > 10


def test_a_real_file_has_the_same_columns(generated: Path, real_sample: Path) -> None:
    source = pd.read_csv(real_sample / "provenance.csv").query("source == 'original_bytes'").path.iloc[0]
    real = pq.read_schema(real_sample / source)
    ours = pq.read_schema(generated / pd.read_csv(generated / "train.csv").path.iloc[0])
    assert ours.equals(real)
    index = pd.read_csv(real_sample / "full_index.csv.gz", nrows=10)
    assert list(index.columns) == list(pd.read_csv(generated / "train.csv").columns)


def test_the_same_arguments_give_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        synthesize(tmp_path / name, num_signs=2, num_participants=2, repeats=1, seed=seed)
    paths = {name: sorted((tmp_path / name).rglob("*.*")) for name in "abc"}
    assert [path.relative_to(tmp_path / "a") for path in paths["a"]] == [
        path.relative_to(tmp_path / "b") for path in paths["b"]
    ]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(paths["a"], paths["b"], strict=True))
    assert (tmp_path / "a" / "train.csv").read_bytes() != (tmp_path / "c" / "train.csv").read_bytes()


def test_a_finished_folder_is_kept_an_unfinished_one_finished_another_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    synthesize(out, num_signs=2, num_participants=1, repeats=1)
    content = {path: path.read_bytes() for path in out.rglob("*.*")}
    synthesize(out, num_signs=2, num_participants=1, repeats=1)
    assert "already generated" in capsys.readouterr().out
    (out / "train.csv").unlink()
    next(out.rglob("*.parquet")).write_bytes(b"half")
    synthesize(out, num_signs=2, num_participants=1, repeats=1)
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == content
    with pytest.raises(UserError, match="already holds something else"):
        synthesize(out, num_signs=2, num_participants=1, repeats=1, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="already holds something else"):
        synthesize(tmp_path / "mine")


@pytest.mark.parametrize("name", ["num_signs", "num_participants", "repeats"])
def test_numbers_below_one_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{name}: must be a whole number of at least 1, not 0"):
        synthesize(tmp_path / "out", **{name: 0})
    assert not (tmp_path / "out").exists()
