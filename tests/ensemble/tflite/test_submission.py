import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ensemble.predict import read_landmarks
from ensemble.tflite import export, latency, submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import random_classifier
from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.landmarks import NUM_ROWS

NUM_SIGNS = 7
LABEL_NAMES = [f"sign{i}" for i in range(NUM_SIGNS)]


@pytest.fixture(scope="module")
def model() -> bytes:
    classifier = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=NUM_SIGNS))
    weights = {name: weight.numpy() for name, weight in classifier.state_dict().items()}
    return submission.with_labels(export.build([export.Member(classifier.config, weights)]), LABEL_NAMES)


def test_reads_what_it_wrote(model: bytes, tmp_path: Path):
    path = tmp_path / "submission.zip"
    submission.write(path, model)
    assert submission.read(path) == model
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["model.tflite"]


def test_names_travel_inside_and_change_nothing(model: bytes):
    bare = model[: -len(submission.with_labels(b"", LABEL_NAMES))]
    assert submission.read_labels(model) == LABEL_NAMES
    assert submission.read_labels(bare) is None
    frames = np.random.default_rng(0).random((9, NUM_ROWS, 3), dtype=np.float32)
    np.testing.assert_array_equal(Model(model)(frames), Model(bare)(frames))


def test_equal_ensembles_make_equal_files(model: bytes, tmp_path: Path):
    submission.write(tmp_path / "a.zip", model)
    submission.write(tmp_path / "b.zip", model)
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


def test_a_damaged_zip_is_read_or_refused(model: bytes, tmp_path: Path):
    path = tmp_path / "submission.zip"
    submission.write(path, model)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    places = [*range(40), *range(len(whole) - 100, len(whole)), *rng.integers(40, len(whole), 100).tolist()]
    refused = 0
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            assert submission.read(path) == model
        except UserError:
            refused += 1
    assert refused > 100


def test_names_of_other_makers(model: bytes):
    bare = model[: -len(submission.with_labels(b"", LABEL_NAMES))]
    for text in ("\n".join(LABEL_NAMES) + "\n", "\r\n".join(LABEL_NAMES)):
        assert submission.read_labels(submission.with_labels(bare, text.split("\n"))) == LABEL_NAMES
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.txt", b"\xff\xfe")
    assert submission.read_labels(bare + file.getvalue()) is None


def test_latency_covers_the_distribution_of_lengths(model: bytes):
    lengths = np.array([5] * 90 + [400] * 10)
    typical = latency.typical_lengths(lengths)
    assert len(typical) == latency.LENGTHS
    assert abs(typical.count(400) / len(typical) - 0.1) < 0.02
    measured = latency.measure(model, typical, rounds=1)
    assert 0 < measured.median < measured.mean < measured.p95


def test_what_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.zip: there is no such file; make one with: python -m ensemble.select"):
        submission.read(tmp_path / "none.zip")
    with pytest.raises(UserError, match=r"is a folder; give a submission.zip or a .tflite file"):
        submission.read(tmp_path)
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "submission.zip").touch()
    with pytest.raises(UserError, match=f"is a folder; give {tmp_path}/ensemble/submission.zip"):
        submission.read(tmp_path)
    with pytest.raises(UserError, match=r"x.parquet: there is no such file"):
        read_landmarks(tmp_path / "x.parquet")
