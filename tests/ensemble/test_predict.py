"""Predictions of files and of the contest's folder."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble import predict as predict_module
from ensemble.predict import Prediction, Source, accuracy, find_sources, main, read_landmarks
from ensemble.tflite import export, submission
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import random_classifier
from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.synthetic.generate import synthesize

NUM_SIGNS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated dataset in the contest's layout: twelve sequences of three signs."""
    path = tmp_path_factory.mktemp("contest") / "signs"
    synthesize(path, num_signs=NUM_SIGNS, num_participants=2, repeats=2)
    return path


@pytest.fixture(scope="module")
def zipped(folder: Path) -> Path:
    names = sorted(json.loads((folder / "sign_to_prediction_index_map.json").read_text()))
    classifier = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=NUM_SIGNS))
    weights = {name: weight.numpy() for name, weight in classifier.state_dict().items()}
    path = folder.parent / "submission.zip"
    submission.write(path, submission.with_labels(export.build([export.Member(classifier.config, weights)]), names))
    return path


def lines_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "train.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    main()


def test_a_whole_folder(
    folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    content = submission.read(zipped)
    model, names = Model(content), submission.read_labels(content)
    assert names is not None
    lines = lines_of(folder)
    expected, right = [], 0
    for line in lines:
        probs = model(read_landmarks(folder / line["path"]))
        sign = names[int(probs.argmax())]
        right += sign == line["sign"]
        expected.append([str(folder / line["path"]), line["sequence_id"], sign, f"{probs.max():.6f}"])
    assert 0 < right < len(lines)
    run(monkeypatch, zipped, folder, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["path", "sequence_id", "sign", "probability"], *expected]
    printed = capsys.readouterr().out
    assert f"accuracy {right / 12:.4f}: {right} of 12 sequences" in printed

    run(monkeypatch, zipped, folder)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in printed[:-1]] == [row[0] for row in expected]
    assert printed[-1].startswith("accuracy")


def test_signs_that_the_model_cannot_name_are_told_apart(folder: Path):
    def prediction(sign: str) -> Prediction:
        return Prediction(Source(folder, "1", sign), [("cow", 1.0)])

    two_of_three = accuracy(
        [prediction("cow"), prediction("cow"), prediction("dog"), prediction("cat")], ["cow", "dog"]
    )
    assert two_of_three.startswith(
        "accuracy 0.6667: 2 of 3 sequences whose sign train.csv tells; signs that the model does not know: 1"
    )
    assert accuracy([prediction("cat")], ["cow"]).startswith("no accuracy: the model knows none of the 1 signs")
    assert "does not hold its signs' names" in accuracy([prediction("cow")], None)


def test_a_folder_without_labels(
    folder: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, zipped, folder / "train_landmark_files")
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 12
    assert "accuracy" not in printed


def test_bad_files_are_named_and_the_others_predicted(
    folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    good = folder / lines_of(folder)[0]["path"]
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError) as refused:
        run(monkeypatch, zipped, tmp_path / "none.parquet", good, tmp_path / "bad.parquet")
    message = str(refused.value)
    assert message.startswith("2 of 3 files could not be used:\n")
    assert f"{tmp_path}/none.parquet: there is no such file" in message
    assert f"{tmp_path}/bad.parquet: cannot be read" in message
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [str(good)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no parquet files"),
        (b"path,sign\na.parquet,hello\n", "train.csv: no column 'sequence_id'"),
        (b"path,sequence_id,sign\n\xff\n", "train.csv: cannot be read"),
        (b"path,sequence_id,sign\n", "holds no parquet files"),
    ],
)
def test_says_what_is_wrong_with_a_folder(
    zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
):
    if content is not None:
        (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        run(monkeypatch, zipped, tmp_path)


def test_a_file_without_names_gives_indices(
    folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    content = submission.read(zipped)
    names = submission.read_labels(content)
    assert names is not None
    bare = tmp_path / "model.tflite"
    bare.write_bytes(content[: -len(submission.with_labels(b"", names))])
    file = folder / lines_of(folder)[0]["path"]
    run(monkeypatch, bare, file)
    found = capsys.readouterr().out.strip().split("\t")[1:]
    assert sorted(np.char.partition(found, " ")[:, 0].tolist()) == ["0", "1", "2"]


def test_where_to_write_is_checked_first(folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("ensemble.predict.predict", None)  # nothing is
    with pytest.raises(UserError, match=r"--out .*: is a folder; name a file in it"):
        run(monkeypatch, zipped, folder, "--out", tmp_path)
    with pytest.raises(UserError, match=r"--out .*file: .* cannot be written to"):
        run(monkeypatch, zipped, folder, "--out", tmp_path / "file" / "x.csv")


def test_what_was_predicted_before_an_interruption_is_written_and_nothing_else_overwrites(
    folder: Path, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "x.csv"
    real, calls = predict_module.predict, []

    def interrupted(*arguments: object) -> Prediction:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_module, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(monkeypatch, zipped, folder, "--out", out)
    written = out.read_text()
    assert len(written.splitlines()) == 1 + 3
    (tmp_path / "bad.parquet").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        run(monkeypatch, zipped, tmp_path / "bad.parquet", "--out", out)
    assert out.read_text() == written


def test_a_model_that_gives_no_probability_a_sign_is_named(folder: Path, zipped: Path):
    source = find_sources([folder])[0]
    model = Model(submission.read(zipped))
    with pytest.raises(UserError, match=r"values of shape \[3\], and the names of 2 signs"):
        predict_module.predict(model, ["a", "b"], source)
    for probs, message in ((np.full(3, np.nan), "not finite"), (np.ones((1, 3)), r"values of shape \[1, 3\]")):
        with pytest.raises(UserError, match=message):
            predict_module.predict(lambda _, probs=probs: probs, None, source)  # type: ignore[arg-type]


def test_many_bad_files_are_not_all_listed(tmp_path: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError) as refused:
        run(monkeypatch, zipped, *(tmp_path / f"{n}.parquet" for n in range(70)))
    lines = str(refused.value).splitlines()
    assert len(lines) == 1 + 50 + 1
    assert lines[-1].strip() == "and 20 more"


def test_folders_behind_links_are_found(folder: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(folder / "train_landmark_files")
    assert len(find_sources([tmp_path])) == 12
