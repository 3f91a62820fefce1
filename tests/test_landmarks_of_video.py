"""What docs/landmarks_of_video.py writes of MediaPipe's results is read as the contest's own files are."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from trainer.data.landmark_files import read_raw

FACE, LEFT_HAND, POSE, RIGHT_HAND = slice(468), slice(468, 489), slice(489, 522), slice(522, 543)
"""Rows of a frame in the contest's files"""
SCRIPT = Path(__file__).parents[1] / "docs" / "landmarks_of_video.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("landmarks_of_video", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _found(first: float, **sizes: int) -> SimpleNamespace:
    """As MediaPipe's holistic solution returns it: landmarks of the parts that it found, x from ``first`` on."""
    parts: dict[str, SimpleNamespace | None] = {
        f"{part}_landmarks": None for part in ("face", "left_hand", "pose", "right_hand")
    }
    for part, size in sizes.items():
        points = [SimpleNamespace(x=first + index / 1000, y=0.5, z=-0.25) for index in range(size)]
        parts[f"{part}_landmarks"] = SimpleNamespace(landmark=points)
    return SimpleNamespace(**parts)


def test_each_landmark_is_in_its_row_and_what_was_not_found_is_missing(script: ModuleType, tmp_path: Path) -> None:
    rows = [*script.rows_of(0, _found(0.0, face=468, pose=33)), *script.rows_of(1, _found(2.0, right_hand=21))]
    script.write(rows, tmp_path / "a.parquet")
    raw = read_raw(tmp_path / "a.parquet")
    assert raw.shape == (2, 543, 3)
    np.testing.assert_allclose(raw[0, FACE, 0], np.arange(468) / 1000)
    np.testing.assert_allclose(raw[0, POSE, 0], np.arange(33) / 1000)
    np.testing.assert_allclose(raw[1, RIGHT_HAND, 0], 2 + np.arange(21) / 1000)
    assert raw[1, RIGHT_HAND, 1:].tolist() == [[0.5, -0.25]] * 21
    assert np.isnan(raw[0, LEFT_HAND]).all()
    assert np.isnan(raw[0, RIGHT_HAND]).all()
    assert np.isnan(raw[1, FACE]).all()


def test_the_file_has_the_contests_columns(script: ModuleType, tmp_path: Path, real_sample: Path) -> None:
    script.write(list(script.rows_of(7, _found(0.0, face=468))), tmp_path / "a.parquet")
    ours, theirs = pq.read_table(tmp_path / "a.parquet"), pq.read_table(next(real_sample.rglob("*.parquet")))
    assert ours.column_names == theirs.column_names
    for name in ("row_id", "type", "landmark_index"):
        expected = [str(value) for value in theirs[name][:543].to_pylist()]
        first = theirs["frame"][0].as_py()
        assert [str(value).replace("7-", f"{first}-", 1) for value in ours[name].to_pylist()] == expected


def test_what_cannot_be_read_is_said_in_one_line(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "frames", lambda _: iter(()))
    monkeypatch.setattr("sys.argv", ["landmarks_of_video.py", "x.mp4", str(tmp_path / "a.parquet")])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: x.mp4: has no frames that OpenCV can read; give a video such as an MP4 file\n"
    )
    assert not list(tmp_path.iterdir())
