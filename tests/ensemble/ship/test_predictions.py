"""Finding landmark files, predicting one, and what is said of many."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.ship.predictions import (
    Prediction,
    Source,
    accuracy,
    find_sources,
    predict,
    to_line,
    to_table,
    worst_signs,
    write_csv,
)
from ensemble.tflite import submission
from ensemble.tflite.runtime import Model
from trainer.common.errors import UserError


def test_signs_that_the_model_cannot_name_are_told_apart(contest_folder: Path):
    def prediction(sign: str) -> Prediction:
        return Prediction(Source(contest_folder, "1", sign), [("cow", 1.0)])

    two_of_three = accuracy(
        [prediction("cow"), prediction("cow"), prediction("dog"), prediction("cat")], ["cow", "dog"]
    )
    assert two_of_three.startswith(
        "accuracy 0.6667: 2 of 3 sequences whose sign train.csv tells; signs that the model does not know: those of"
    )
    assert accuracy([prediction("cat")], ["cow"]).startswith("no accuracy: the model knows none of the signs")
    assert "does not hold its signs' names" in accuracy([prediction("cow")], None)


def test_a_model_that_gives_no_probability_a_sign_is_named(contest_folder: Path, zipped: Path):
    source = find_sources([contest_folder])[0]
    model = Model(submission.read(zipped))
    with pytest.raises(UserError, match=r"values of shape \[3\], and the names of 2 signs"):
        predict(model, ["a", "b"], source)
    for probs, message in ((np.full(3, np.nan), "not finite"), (np.ones((1, 3)), r"values of shape \[1, 3\]")):
        with pytest.raises(UserError, match=message):
            predict(lambda _, probs=probs: probs, None, source)  # type: ignore[arg-type]


def test_folders_behind_links_are_found(contest_folder: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(contest_folder / "train_landmark_files")
    assert len(find_sources([tmp_path])) == 12


def test_paths_that_overlap_name_a_file_once(contest_folder: Path):
    whole = find_sources([contest_folder])
    assert find_sources([contest_folder, whole[0].path, contest_folder, whole[1].path]) == whole


def test_shows_the_path_and_the_signs():
    prediction = Prediction(Source(Path("a/b.parquet"), "b", None), [("thank you", 0.75), ("cow", 0.25)])
    assert to_line(prediction) == "a/b.parquet\tthank you 0.750\tcow 0.250"
    assert to_table([prediction]).row_count == 1


def test_a_name_of_another_maker_stays_in_its_line(tmp_path: Path):
    prediction = Prediction(Source(Path("a\nb.parquet"), "b", None), [("thank\ryou", 0.75), ("co\tw", 0.25)])
    assert to_line(prediction) == "a\\nb.parquet\tthank\\ryou 0.750\tco\\tw 0.250"
    write_csv(tmp_path / "p.csv", [prediction])
    assert (tmp_path / "p.csv").read_bytes().splitlines()[1:] == [
        b"a\\nb.parquet,b,thank\\ryou,0.750000,,thank\\ryou,0.750000,co\\tw,0.250000,,,,,,"
    ]


def test_the_least_accurate_signs_come_first_with_what_they_are_taken_for():
    def prediction(true: str | None, named: str) -> Prediction:
        return Prediction(Source(Path("x"), "1", true), [(named, 1.0)])

    names = ["[b]cow\n", "dog", "cat", "hen"]
    cow, dog, cat, hen = names
    done = [prediction(cow, dog), prediction(cow, cat), prediction(cow, cat), prediction(cow, cow)]
    done += [
        prediction(dog, dog),
        prediction(dog, hen),
        prediction(hen, hen),
        prediction("fox", cow),
        prediction(None, dog),
    ]
    table = worst_signs(done, names)
    assert table is not None
    assert table.title == "the 2 least accurate of 3 signs"
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["\\[b]cow\\n", "dog"], ["4", "2"], ["0.250", "0.500"], ["cat (2)", "hen (1)"]]


def test_without_a_known_error_there_is_no_table():
    right, unknown = (Prediction(Source(Path("x"), "1", sign), [("cow", 1.0)]) for sign in ("cow", None))
    wrong = Prediction(Source(Path("x"), "1", "dog"), [("0", 1.0)])
    assert worst_signs([right, unknown], ["cow", "dog"]) is None
    assert worst_signs([unknown], ["cow", "dog"]) is None
    assert worst_signs([wrong], None) is None
