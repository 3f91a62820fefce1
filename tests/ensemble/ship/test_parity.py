"""How close the file that ships must be to PyTorch."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ensemble.candidates.measure import measure
from ensemble.candidates.opening import open_pool
from ensemble.candidates.pool import to_member
from ensemble.ship.parity import Agreement, compare, name_same_sign, unlike_selected
from ensemble.tflite import export
from ensemble.tflite.latency import Target
from trainer.common.errors import UserError


def test_a_file_that_gives_no_numbers_does_not_agree():
    with pytest.raises(UserError, match="does not predict what PyTorch does"):
        Agreement(sequences=9, largest_difference=float("nan"), same_sign=1.0, deviation=0).require({"float32"})


@pytest.mark.parametrize(
    ("precision", "sequences", "same", "agrees"),
    [
        ("float32", 36, 36, True),
        ("float32", 36, 35, False),
        ("int8", 36, 35, True),  # 97 percent, but all may not be asked of so few
        ("int8", 36, 34, False),
        ("int8", 200, 196, True),
        ("int8", 200, 195, False),
        ("float16", 200, 198, True),
        ("float16", 200, 197, False),
    ],
)
def test_how_many_signs_must_be_the_same(precision: str, sequences: int, same: int, agrees: bool):
    agreement = Agreement(sequences=sequences, largest_difference=1e-5, same_sign=same / sequences, deviation=0)
    with contextlib.nullcontext() if agrees else pytest.raises(UserError, match=f"{same} of {sequences} sequences"):
        agreement.require({precision})


@pytest.mark.parametrize(
    ("precision", "deviation", "agrees"),
    [("float32", 4e-4, True), ("float32", 1.1e-3, False), ("int8", 0.1, True), ("int8", 0.9, False)],
)
def test_level_signs_do_not_hide_a_file_that_is_another(precision: str, deviation: float, agrees: bool):
    """Of models that find all signs alike: no probability is far from another, and none is the largest."""
    agreement = Agreement(sequences=40, largest_difference=1e-5, same_sign=1.0, deviation=deviation)
    with contextlib.nullcontext() if agrees else pytest.raises(UserError, match="this is a defect"):
        agreement.require({precision})


@pytest.mark.parametrize(
    ("found", "expected", "same"),
    [
        ([0.6, 0.4], [0.5, 0.5], True),
        ([0.4, 0.6], [0.6, 0.4], True),  # as far apart as the two likeliest
        ([0.49, 0.51], [0.7, 0.3], False),
        ([0.3, 0.3, 0.4], [0.31, 0.35, 0.34], True),
        ([0.3, 0.3, 0.4], [0.25, 0.5, 0.25], False),
    ],
)
def test_signs_differ_where_they_are_further_apart_than_the_probabilities(
    found: list[float], expected: list[float], same: bool
):
    assert name_same_sign(np.array([found]), np.array([expected])).tolist() == [same]


def test_a_file_that_is_not_what_was_selected_is_refused(study: Path):
    pool = open_pool(study)
    first, last = pool.candidates[0], pool.candidates[-1]
    content = export.build([to_member(first, 1)])
    agreement = compare(content, [(first, 1)], pool, [(first, 1)])
    assert agreement.from_validation == 0
    assert agreement.file_accuracy == pytest.approx(first.val_accuracy)
    assert agreement.file_sequences == len(pool.validation.labels)
    agreement.require({"float32"})
    assert compare(content, [(first, 1)], pool).from_validation is None
    with pytest.raises(UserError, match="does not predict what its members were selected by"):
        compare(content, [(first, 1)], pool, [(last, 1)]).require({"float32"})


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_predictions_that_members_were_selected_by_must_be_the_files_own(copy: Path, precision: str):
    pool = measure(open_pool(copy), [precision], Target()).pool
    best = pool.candidates[-1]
    content = export.build([to_member(best, 1)])
    agreement = compare(content, [(best, 1)], pool, [(best, 1)])
    assert agreement.from_validation is not None
    assert agreement.from_validation < 1e-4
    agreement.require({precision})
    probs, labels = np.array(best.val_probs(), np.float64), pool.validation.labels
    probs[np.arange(len(labels)), labels] += 0.03
    (changed := copy / "changed.npy").write_bytes(b"")
    np.save(changed, (probs / probs.sum(1, keepdims=True)).astype(np.float16))
    edited = [(dataclasses.replace(best, probs=changed), 1)]
    with pytest.raises(UserError, match=f"the {precision} file does not predict what its members were selected by"):
        compare(content, [(best, 1)], pool, edited).require({precision})
    assert unlike_selected([(best, 1)], pool) == {}
    assert unlike_selected(edited, pool)[best.name].endswith(f"which is in {changed}; remove that file")


def test_a_file_of_the_members_agrees_and_another_does_not(study: Path):
    pool = open_pool(study)
    first, last = pool.candidates[0], pool.candidates[-1]
    content = export.build([to_member(first, 2), to_member(last, 1)])
    agreement = compare(content, [(first, 2), (last, 1)], pool)
    assert agreement.sequences == len(pool.validation.labels)
    agreement.require({"float32"})
    with pytest.raises(UserError, match="this is a defect"):
        compare(content, [(last, 1)], pool).require({"float32"})


def test_torch_keeps_its_threads(study: Path):
    pool = open_pool(study)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare(export.build([to_member(pool.candidates[0], 1)]), [(pool.candidates[0], 1)], pool)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_without_the_dataset_random_landmarks_are_compared(copy: Path, capsys: pytest.CaptureFixture[str]):
    pool = dataclasses.replace(open_pool(copy), data="gone")
    agreement = compare(export.build([to_member(pool.candidates[0], 1)]), [(pool.candidates[0], 1)], pool)
    agreement.require({"float32"})
    assert "comparing on random landmarks" in capsys.readouterr().out
