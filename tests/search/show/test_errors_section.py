"""What a page says of errors, against values worked by hand."""

import dataclasses

import numpy as np

from search.record.held_out import Predictions
from search.show.errors_section import errors_section
from tests.search.show.pages import Page
from trainer.validation import Validation

SIGNS = ("cow", "<script>alert('sign')</script>", "dog & cat")
LABELS = np.array([0, 0, 0, 1, 2])
FIRST = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0, 1, 0], [0.6, 0, 0.4]])
SECOND = np.array([[0.8, 0.2, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0, 1, 0], [0.7, 0, 0.3]])


def predictions(*members: np.ndarray, labels: np.ndarray = LABELS, signs: tuple[str, ...] = SIGNS) -> Predictions:
    places = np.arange(len(labels))
    held_out = Validation(sequence_ids=places + 100, participants=places // 3 + 7, labels=labels, lengths=places + 1)
    counts = tuple(range(1, len(members) + 1))
    return Predictions("the ensemble", ("<b>As it is.",), signs, held_out, members, counts)


def section(found: Predictions | str) -> str:
    return "\n".join(errors_section(found))


def lines_of(text: str) -> list[list[str]]:
    return [cells for cells in Page(text).cells if cells]


def test_signs_participants_confusions_and_sequences() -> None:
    text = section(predictions(FIRST, SECOND))
    # the mean, the second counted twice, names 0 1 0 1 0: sequences 1 and 4 are wrong, by both members
    assert "Of the ensemble: 3 of 5 held-out sequences are named rightly, 0.6000." in text
    lines = lines_of(text)
    assert lines[:2] == [["dog & cat", "1", "0.000", "cow (1)"], ["cow", "3", "0.667", f"{SIGNS[1]} (1)"]]
    assert lines[2:5] == [*lines[:2], [SIGNS[1], "1", "1.000", ""]]  # all signs, folded away
    assert lines[5:7] == [["cow", SIGNS[1], "1"], ["dog & cat", "cow", "1"]]
    assert lines[7:9] == [["8", "2", "0.500"], ["7", "3", "0.667"]]
    assert lines[9:] == [["101", "7", "cow", SIGNS[1], "0.867"], ["104", "8", "dog & cat", "cow", "0.667"]]
    assert "2 of 2 errors." in text
    assert "Sequences that every member gets wrong" in text


def test_names_of_signs_and_remarks_are_escaped() -> None:
    text = section(predictions(FIRST))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(&#x27;sign&#x27;)" in text
    assert "<b>As" not in text


def test_of_one_model_what_it_gets_wrong_most_surely() -> None:
    text = section(predictions(FIRST))
    assert [cells[0] for cells in lines_of(text) if len(cells) == 5] == ["101", "102", "104"]
    assert "Sequences that it gets wrong most surely" in text
    assert "All, the surest first: 3." in text


def test_calibration_is_said_in_a_sentence() -> None:
    # probabilities .9 .8 .7 1 .6, right 1 0 0 1 0: |1 - .9| + .8 + .7 + 0 + .6 over 5
    text = section(predictions(FIRST))
    assert "It is too sure: the named sign has a probability of 0.800 on average, and is right in 0.400" in text
    assert "expected calibration error is 0.440" in text
    (drawn,) = Page(text).figures
    assert drawn["layout"]["xaxis"]["title"]["text"] == "probability of the named sign"
    sure = np.where(np.eye(3)[LABELS] == 1, 0.5, 0.25)
    assert "It is not sure enough" in section(predictions(sure))
    assert "It is about as sure as it is right" in section(predictions(np.eye(3)[LABELS]))


def test_without_errors_there_is_nothing_to_list() -> None:
    text = section(predictions(np.eye(3)[LABELS], np.eye(3)[LABELS]))
    assert "All sequences of all 3 signs are named rightly." in text
    assert text.count("There are none.") == 2


def test_of_many_signs_the_worst_are_shown_and_all_are_folded_away() -> None:
    labels = np.repeat(np.arange(30), 2)
    probs = np.eye(30)[np.where(np.arange(60) % 2 == 0, labels, (labels + 1) % 30)]
    signs = tuple(f"sign{label}" for label in range(30))
    text = section(predictions(probs, labels=labels, signs=signs))
    shown, folded = text.split("<details>")[:2]
    assert len(lines_of(shown)) == 20
    assert "The 20 least accurate of 30 signs" in shown
    assert "all 30 signs" in folded
    assert 'class="trials searched"' in folded
    assert "The surest 20 of 30." in text
    assert "20 of 30 errors." in text


def test_why_it_cannot_be_told_is_said() -> None:
    text = section("trials/<b>: there is no such file")
    assert "This cannot be told: trials/&lt;b&gt;: there is no such file." in text
    assert "<table" not in text


def test_of_one_fold_it_says_that_others_were_not_held_out() -> None:
    words = "Only these were held out; a refit with all folds holds out everybody in turn."
    found = predictions(FIRST)
    assert words in section(found)
    rotated = dataclasses.replace(found.held_out, folds=np.array([0, 0, 0, 1, 1]))
    assert words not in section(dataclasses.replace(found, held_out=rotated))
