"""The generated dataset against the contest's layout and against the facts of the real data."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer.common.errors import UserError
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, RIGHT_HAND_ROWS
from trainer.synthesize import synthesize
from trainer.synthetic import body, motion

TYPES = ["face"] * 468 + ["left_hand"] * 21 + ["pose"] * 33 + ["right_hand"] * 21


def landmarks_of(source: Path, path: str) -> np.ndarray:
    """x, y and z of one file: float64 [n, 543, 3]."""
    table = pq.read_table(source / path, columns=["x", "y", "z"])
    return np.stack([table[axis].to_numpy() for axis in "xyz"], axis=-1).reshape(-1, 543, 3)


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
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        synthesize(tmp_path / "out", **{name: 0})
    assert not (tmp_path / "out").exists()


# The facts of the real data (94,477 sequences; DESIGN section 5), which the generator must come near to.


@pytest.fixture(scope="module")
def blocks() -> list[motion.Block]:
    """21 participants, as many as the real data has, with 30 sequences each."""
    rng = np.random.default_rng(0)
    signs = motion.make_signs(rng, 20)
    people = motion.make_participants(rng, signs, 21)
    return [motion.make_block(rng, who, np.arange(30) % 20) for who in people]


def test_lengths_are_distributed_as_the_real_ones() -> None:
    rng = np.random.default_rng(0)
    people = list(motion.make_participants(rng, motion.make_signs(rng, 20), 21))
    by_person = [motion.draw_lengths(rng, who.median_length, 4_000) for who in people]
    lengths = np.concatenate(by_person)
    assert np.median(lengths) == pytest.approx(21, abs=2)
    assert lengths.mean() == pytest.approx(38, abs=3)
    for share, real in ((0.25, 11), (0.75, 43), (0.95, 139), (0.99, 224)):
        assert np.quantile(lengths, share) == pytest.approx(real, rel=0.2)
    assert 2 <= lengths.min() < lengths.max() <= 537
    medians = [np.median(some) for some in by_person]
    assert min(medians) == pytest.approx(6, abs=1.5)
    assert max(medians) == pytest.approx(40, abs=3)


def test_hands_and_faces_are_missing_as_in_real_data(blocks: list[motion.Block]) -> None:
    frames = np.concatenate([block.landmarks for block in blocks])
    left, right = np.isnan(frames[:, LEFT_HAND_ROWS]), np.isnan(frames[:, RIGHT_HAND_ROWS])
    for hand in (left, right):
        np.testing.assert_array_equal(hand.all(axis=(1, 2)), hand.any(axis=(1, 2)), "a hand is missing in part")
        assert hand.mean() == pytest.approx(0.70, abs=0.08)
    left, right = left.all(axis=(1, 2)), right.all(axis=(1, 2))
    assert (left & right).mean() == pytest.approx(0.41, abs=0.05)
    faces = np.isnan(frames[:, :468])
    np.testing.assert_array_equal(faces.all(axis=(1, 2)), faces.any(axis=(1, 2)))
    assert faces.mean() < 0.02
    assert not np.isnan(frames[:, 489:522]).any()
    assert np.nanmin(frames[..., 0]) > -0.7
    assert np.nanmax(frames[..., 0]) < 1.65


def test_a_sequence_shows_one_hand_as_a_rule(blocks: list[motion.Block]) -> None:
    both, none, total = 0, 0, 0
    for block in blocks:
        for landmarks in block.sequences():
            shown = [not np.isnan(landmarks[:, rows]).all() for rows in (LEFT_HAND_ROWS, RIGHT_HAND_ROWS)]
            both, none, total = both + all(shown), none + (not any(shown)), total + 1
    assert both / total == pytest.approx(0.03, abs=0.015)
    assert none == 0


def test_bodies_are_seen_where_the_real_ones_are(blocks: list[motion.Block], real_sample: Path) -> None:
    """Where the shoulders are and how far apart, how large hands are, and where: means within a spread of the real."""
    lines = pd.read_csv(real_sample / "train.csv").iloc[::3]
    real = [landmarks_of(real_sample, path) for path in lines.path]
    ours = [landmarks for block in blocks for landmarks in block.sequences()]
    for what, tolerance in ((_shoulders, 1.0), (_width, 1.0), (_eyes, 1.0), (_hand_size, 1.0), (_hand_height, 1.0)):
        expected, got = (np.array([what(landmarks) for landmarks in some]) for some in (real, ours))
        assert np.nanmean(got) == pytest.approx(np.nanmean(expected), abs=tolerance * np.nanstd(expected)), what
        assert np.nanstd(got) == pytest.approx(np.nanstd(expected), rel=0.7), what


def _shoulders(landmarks: np.ndarray) -> float:
    return float(np.nanmean(landmarks[:, [500, 501], 1]))


def _width(landmarks: np.ndarray) -> float:
    return float(np.nanmean(landmarks[:, 500, 0] - landmarks[:, 501, 0]))


def _eyes(landmarks: np.ndarray) -> float:
    distance = landmarks[:, 263, 0] - landmarks[:, 33, 0]
    return float(np.nanmean(distance)) if not np.isnan(distance).all() else np.nan


def _hand(landmarks: np.ndarray) -> np.ndarray:
    left, right = landmarks[:, LEFT_HAND_ROWS], landmarks[:, RIGHT_HAND_ROWS]
    return left if np.isnan(left).sum() < np.isnan(right).sum() else right


def _hand_size(landmarks: np.ndarray) -> float:
    hand = _hand(landmarks)
    return float(np.nanmean(np.linalg.norm(hand[:, 9, :2] - hand[:, 0, :2], axis=-1)))


def _hand_height(landmarks: np.ndarray) -> float:
    return float(np.nanmean(_hand(landmarks)[..., 1]))


# What it is made of.


def test_signs_are_distinct_and_have_near_neighbours() -> None:
    for num_signs in (1, 20, 250):
        signs = motion.make_signs(np.random.default_rng(1), num_signs)
        assert signs.shape == (num_signs, 15)
        assert len(np.unique(signs, axis=0)) == num_signs
    parts = (motion.SHAPE, motion.PLACE, motion.MOVEMENT)
    shared = sum((signs[:, None, part] == signs[None, :, part]).all(axis=-1).astype(int) for part in parts)
    assert ((shared == 2).sum(axis=1) > 0).mean() > 0.9


def test_the_body_is_as_long_as_its_bones() -> None:
    rng = np.random.default_rng(2)
    wrist = rng.uniform([-0.4, -0.3], [0.1, 0.4], (50, 2))
    joint = body.elbow(wrist)
    np.testing.assert_allclose(np.linalg.norm(joint - wrist, axis=-1), body.ARM, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(joint - [-body.SHOULDER, 0], axis=-1), body.ARM, atol=1e-6)
    flexion = rng.random((50, 5))
    hand = body.hand(flexion, np.ones(50), rng.uniform(-2, 2, 50), np.zeros(50))
    joints = hand[:, 1:].reshape(50, 5, 4, 3)
    bones = np.linalg.norm(np.diff(joints, axis=2), axis=-1)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[0], bones.shape), atol=1e-6)
    reach = np.linalg.norm(joints[:, :, 3, :2], axis=-1)
    order = np.argsort(flexion[:, 1])
    assert (np.diff(reach[order, 1]) < 1e-9).all(), "a finger more curled looks shorter"


def test_mirroring_a_body_twice_is_the_identity() -> None:
    wrist = np.array([[-0.1, 0.1], [0.0, -0.2]])
    hand = body.hand(np.zeros((2, 5)), np.ones(2), np.zeros(2), np.zeros(2))
    bodies = body.body(wrist, hand, wrist + 0.1)
    mirrored = body.mirror(bodies)
    assert np.abs(mirrored - bodies).max() > 0.1
    np.testing.assert_array_equal(body.mirror(mirrored), bodies)
    pairs = (np.abs(bodies[0, FACE_ROWS] - body.mirror(bodies)[0, FACE_ROWS]) < 1e-6).all()
    assert pairs, "the face is its own mirror image"
