"""Writing and reading submission.zip, and predicting with it."""

import io
import os
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensemble.tflite import submission
from ensemble.tflite.runtime import Model
from ensemble.tflite.submission import Submission
from tests.ensemble.conftest import LABEL_NAMES, NUM_SIGNS, written
from trainer.common.errors import UserError
from trainer.data.landmark_files import read_raw
from trainer.landmarks import NUM_ROWS
from trainer.studydir import write_selection


def test_reads_what_it_wrote(small_model: bytes, tmp_path: Path):
    path = tmp_path / "submission.zip"
    submission.write(path, small_model)
    assert submission.read(path) == small_model
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["model.tflite"]


def test_names_travel_inside_and_change_nothing(small_model: bytes):
    bare = small_model[: -len(submission.with_labels(b"", LABEL_NAMES))]
    assert submission.read_labels(small_model) == LABEL_NAMES
    assert submission.read_labels(bare) is None
    frames = np.random.default_rng(0).random((9, NUM_ROWS, 3), dtype=np.float32)
    np.testing.assert_array_equal(Model(small_model)(frames), Model(bare)(frames))


def test_equal_ensembles_make_equal_files(small_model: bytes, tmp_path: Path):
    submission.write(tmp_path / "a.zip", small_model)
    submission.write(tmp_path / "b.zip", small_model)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_says_what_is_wrong_with_a_file(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"a.zip: cannot be read"):
        submission.read(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(UserError, match=r"b.zip: holds no model.tflite"):
        submission.read(tmp_path / "b.zip")
    with pytest.raises(UserError, match="not a TFLite file"):
        Model(b"nonsense")


def test_a_damaged_zip_is_read_or_refused(small_model: bytes, tmp_path: Path):
    path = tmp_path / "submission.zip"
    submission.write(path, small_model)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*range(40), *range(len(whole) - 100, len(whole)), *rng.integers(40, len(whole), 100).tolist()]
    refused = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert submission.read(path) == small_model
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_content_that_cannot_be_unpacked_is_refused_whatever_packed_it(method: int, tmp_path: Path):
    path = tmp_path / "submission.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("model.tflite", b"TFL3" * 1000)
    content = path.read_bytes()
    refused = 0
    for place in range(45, len(content) - 90):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert submission.read(path) == b"TFL3" * 1000
        except UserError:
            refused += 1
    assert refused > 5


def test_a_name_that_would_be_two_is_not_shipped():
    with pytest.raises(UserError, match=r"the sign 'a\\nb' has a character that ends a line; rename the sign"):
        submission.with_labels(b"TFL3", ["c", "a\nb"])


def test_names_of_other_makers(small_model: bytes):
    bare = small_model[: -len(submission.with_labels(b"", LABEL_NAMES))]
    for text in ("\n".join(LABEL_NAMES) + "\n", "\r\n".join(LABEL_NAMES)):
        file = io.BytesIO(bare)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(submission.LABELS, text)
        assert submission.read_labels(file.getvalue()) == LABEL_NAMES
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.txt", b"\xff\xfe")
    assert submission.read_labels(bare + file.getvalue()) is None


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.zip: there is no such file; make one with: python -m ensemble.select"):
        submission.read(tmp_path / "none.zip")
    with pytest.raises(UserError, match=r"is a folder; give a submission.zip or a .tflite file"):
        submission.read(tmp_path)
    for name in ("pipe.zip", "pipe.tflite"):
        os.mkfifo(tmp_path / name)  # which would be waited for
        with pytest.raises(UserError, match=f"{name}: is a pipe, not a file; give a submission.zip or a .tflite file"):
            submission.read(tmp_path / name)
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "submission.zip").touch()
    with pytest.raises(UserError, match=f"is a folder; give {tmp_path}/ensemble/submission.zip"):
        submission.read(tmp_path)


FOUND = {
    "members": [{"trial": "0003", "precision": "int8", "count": 2, "parameters": 354818.0, "val_accuracy": 0.8}],
    "budget": "40MB,100ms",
    "accuracy": {"seen_by_selection": {"ensemble": 0.9}, "unseen_participants": {"ensemble": 0.75}},
}


def test_predicts_from_an_array_and_from_a_file(small_model: bytes, tmp_path: Path, generated: Path):
    submission_ = Submission.open(written(tmp_path, small_model))
    file = next(generated.rglob("*.parquet"))
    raw = read_raw(file)
    expected = Model(small_model)(raw)
    for landmarks in (raw, raw.astype(np.float64), file, str(file)):
        probs = submission_.predict(landmarks)
        assert probs.is_monotonic_decreasing
        np.testing.assert_array_equal(probs[LABEL_NAMES], expected)
    assert probs.index[0] == LABEL_NAMES[expected.argmax()]


@pytest.mark.parametrize("shape", [(0, NUM_ROWS, 3), (NUM_ROWS, 3), (4, 85, 2)])
def test_refuses_landmarks_of_another_shape(small_model: bytes, tmp_path: Path, shape: tuple[int, ...]):
    with pytest.raises(UserError, match=r"landmarks: must have shape \[n, 543, 3\]"):
        Submission.open(written(tmp_path, small_model)).predict(np.zeros(shape))


def test_a_file_without_names_predicts_numbers(small_model: bytes, tmp_path: Path):
    (tmp_path / "a.tflite").write_bytes(small_model[: -len(submission.with_labels(b"", LABEL_NAMES))])
    nameless = Submission.open(tmp_path / "a.tflite")
    assert nameless.label_names is None
    assert set(nameless.predict(np.zeros((3, NUM_ROWS, 3))).index) == set(range(NUM_SIGNS))


def test_knows_what_selection_json_says_of_it(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    cost = {"parameters": 1e5, "size": float(len(small_model)), "latency": 1.5, "members": 1.0}
    write_selection(tmp_path, {**FOUND, "cost": cost})
    found = Submission.open(path)
    assert found.members is not None
    assert found.members["trial"].tolist() == ["0003"]
    assert found.cost is not None
    assert found.cost["latency"] == 1.5
    assert (str(found.budget), found.accuracy, found.seen_accuracy) == ("40MB,100ms", 0.75, 0.9)
    assert "accuracy on unseen participants: 0.7500" in repr(found)
    shown = found._repr_html_()
    assert [f"<td>{text}</td>" in shown for text in ("0003", "354,818", "0.8")] == [True] * 3
    assert "40MB,100ms" in shown


def test_says_nothing_of_a_file_that_selection_json_was_not_written_for(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    alone = Submission.open(path)
    assert (alone.members, alone.cost, alone.budget, alone.accuracy, alone.seen_accuracy) == (None,) * 5
    write_selection(tmp_path, {**FOUND, "cost": {"size": 1.0}})
    assert Submission.open(path).members is None
    assert f"<td>{path}</td>" in alone._repr_html_()


def test_a_file_of_the_same_size_is_told_apart_by_its_hash(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    facts = {**FOUND, "cost": {"size": float(len(small_model))}}
    write_selection(tmp_path, {**facts, "sha256": sha256(small_model).hexdigest()})
    assert Submission.open(path).accuracy == 0.75
    assert Submission.open(path).doubt() is None
    write_selection(tmp_path, {**facts, "sha256": sha256(b"another").hexdigest()})
    assert Submission.open(path).accuracy is None
    doubt = f"{tmp_path / 'selection.json'}: is of another file than submission.zip; its accuracy is not this one's"
    assert Submission.open(path).doubt() == doubt


def test_an_edited_selection_json_is_not_believed(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    facts = {**FOUND, "cost": {"size": float(len(small_model))}, "sha256": sha256(small_model).hexdigest()}
    write_selection(tmp_path, facts)
    text = (tmp_path / "selection.json").read_text()
    (tmp_path / "selection.json").write_text(text.replace("0.75", "0.99"))
    with pytest.raises(UserError, match=r"selection.json: was changed since it was written; run ensemble.select again"):
        _ = Submission.open(path).accuracy
    assert "was changed" in (Submission.open(path).doubt() or "")


def test_masked_landmarks_are_missing(small_model: bytes, tmp_path: Path):
    submission = Submission.open(written(tmp_path, small_model))
    frames = np.random.default_rng(0).random((4, 543, 3)).astype(np.float32)
    hidden = np.zeros(frames.shape, bool)
    hidden[:, 468:489] = True
    masked = submission.predict(np.ma.masked_array(frames, hidden))
    assert masked.equals(submission.predict(np.where(hidden, np.nan, frames)))
    assert not masked.equals(submission.predict(frames))


def test_a_broken_selection_json_is_named_and_shows_in_a_notebook(small_model: bytes, tmp_path: Path):
    path = written(tmp_path, small_model)
    write_selection(tmp_path, {"members": []})
    found = Submission.open(path)
    with pytest.raises(UserError, match=r"selection\.json: the field 'cost' is missing"):
        _ = found.members
    assert "the field 'cost' is missing" in repr(found)
    assert "is missing" in found._repr_html_()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": None}, "accuracy: must be an object"),
        ({"accuracy": {}}, "seen_by_selection: must be an object"),
        ({"accuracy": {"seen_by_selection": {"ensemble": "x"}}}, "seen_by_selection: must be a number"),
        (
            {"accuracy": {"seen_by_selection": {"ensemble": 1.0}, "unseen_participants": {"ensemble": "high"}}},
            "unseen_participants: must be a number or null",
        ),
        ({"cost": {"size": "x"}}, "cost: must be an object, each value a number"),
        ({"cost": {"size": 1.0}, "sha256": "SAME"}, "cost: has no parameters"),
        ({"budget": 5}, "budget: must be text or null"),
        ({"budget": "5 apples"}, "budget: .*apples"),
        ({"members": 3}, "members: must be a list"),
    ],
)
def test_a_selection_json_of_other_types_is_named(
    change: dict[str, object], words: str, small_model: bytes, tmp_path: Path
):
    path = written(tmp_path, small_model)
    same = {"sha256": sha256(small_model).hexdigest()}
    write_selection(tmp_path, {**FOUND, "cost": {"size": float(len(small_model))}, **change, **same})
    found = Submission.open(path)
    for name in ("cost", "members", "budget", "accuracy", "seen_accuracy") if "has no" not in words else ("cost",):
        with pytest.raises(UserError, match=rf"selection\.json: {words}.*; select again"):
            getattr(found, name)
    assert "selection.json: " in repr(found)


def test_what_is_too_large_for_a_model_is_not_read(tmp_path: Path):
    with (tmp_path / "x.tflite").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(UserError, match=r"x.tflite: holds 2,147,483,648 bytes, more than a .tflite file can have"):
        submission.read(tmp_path / "x.tflite")


def test_predicts_without_torch(small_model: bytes, tmp_path: Path):
    code = f"""
import sys
import numpy as np
from ensemble import Submission
print(len(Submission.open({str(written(tmp_path, small_model))!r}).predict(np.zeros((9, 543, 3)))))
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{NUM_SIGNS}\n"), done.stderr


@pytest.mark.parametrize("value", [500.0, -11.0, float("inf")])
def test_pixels_are_refused_in_python_as_in_files(zipped: Path, value: float):
    landmarks = np.full((2, 543, 3), 0.5)
    landmarks[1, 13, 0] = value
    with pytest.raises(UserError, match=r"landmarks: a coordinate is .*not pixels"):
        Submission.open(zipped).predict(landmarks)
    landmarks[1, 13] = (0.5, 0.5, value)  # z is not used
    assert Submission.open(zipped).predict(landmarks).sum() == pytest.approx(1, abs=1e-3)
    with pytest.raises(UserError, match="landmarks: must be numbers, not complex128"):
        Submission.open(zipped).predict(landmarks.astype(complex))
    no_path: Any = 5
    with pytest.raises(UserError, match="path: must be a path, not 5"):
        Submission.open(no_path)
