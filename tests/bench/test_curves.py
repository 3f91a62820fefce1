"""The tables of recorded trainings, against what says how they were made."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.curves import EPOCHS, RECORDINGS, Curves
from trainer.common.errors import UserError


@pytest.mark.parametrize(("name", "fewest"), [("recorded", 316), ("wide", 300)])
def test_a_table_holds_the_first_configurations_of_its_space(name: str, fewest: int) -> None:
    recording = RECORDINGS[name]
    curves = Curves.read(recording.path)
    assert len(curves.params) >= fewest
    assert curves.accuracies.shape == (len(curves.params), EPOCHS)
    for params, expected in zip(curves.params, recording.configurations(len(curves.params)), strict=True):
        assert params.keys() == expected.keys()
        assert recording.point(params) == pytest.approx(recording.point(expected))
    assert curves.parameters.tolist() == [recording.size(params) for params in curves.params]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    params = [{"num_layers": 1, "pooling": "cls"}, {"num_layers": 2, "pooling": "mean"}]
    accuracies = np.full((2, EPOCHS), 0.5)
    accuracies[1, 3:] = np.nan  # diverged
    Curves(params, accuracies, np.array([10, 20])).write(tmp_path / "curves.parquet")
    found = Curves.read(tmp_path / "curves.parquet")
    assert found.params == params
    assert np.array_equal(found.accuracies, accuracies, equal_nan=True)
    assert found.parameters.tolist() == [10, 20]


def test_a_table_that_is_not_there_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"record it with: python -m tests\.bench\.record_curves"):
        Curves.read(tmp_path / "none.parquet")
