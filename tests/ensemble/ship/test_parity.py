"""How close the file that ships must be to PyTorch."""

import contextlib
from pathlib import Path

import pytest
import torch

from ensemble.candidates.pool import open_pool, to_member
from ensemble.ship.parity import Agreement, compare
from ensemble.tflite import export
from trainer.common.errors import UserError


def test_a_file_that_gives_no_numbers_does_not_agree():
    with pytest.raises(UserError, match="does not predict what PyTorch does"):
        Agreement(sequences=9, largest_difference=float("nan"), same_sign=1.0).require({"float32"})


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
    agreement = Agreement(sequences=sequences, largest_difference=1e-5, same_sign=same / sequences)
    with contextlib.nullcontext() if agrees else pytest.raises(UserError, match=f"{same} of {sequences} sequences"):
        agreement.require({precision})


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
    import dataclasses

    pool = dataclasses.replace(open_pool(copy), data="gone")
    agreement = compare(export.build([to_member(pool.candidates[0], 1)]), [(pool.candidates[0], 1)], pool)
    agreement.require({"float32"})
    assert "comparing on random landmarks" in capsys.readouterr().out
