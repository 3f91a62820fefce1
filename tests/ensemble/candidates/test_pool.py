"""What a pool gives of its sequences."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.candidates.opening import open_pool
from tests.ensemble.conftest import NUM_FOLDS
from trainer.common.errors import UserError
from trainer.data.dataset import PackedDataset
from trainer.data.normalize import normalize, pick_landmarks


def test_raw_sequences_are_what_the_model_saw(study: Path, packed: PackedDataset):
    rows = packed.split(NUM_FOLDS, 0)[1]
    for row, raw in zip(rows, open_pool(study).raw_sequences(range(len(rows))), strict=True):
        np.testing.assert_allclose(normalize(pick_landmarks(raw)), packed.sequence(row), atol=1e-5)


def test_trials_that_are_ignored_are_no_candidates_and_are_listed_as_such(study: Path):
    pool = open_pool(study)
    first, *others = [candidate.name for candidate in pool.candidates]
    fewer = pool.without((first,))
    assert [candidate.name for candidate in fewer.candidates] == others
    assert fewer.left_out == {**pool.left_out, first: "ignored, as asked"}
    assert pool.without(()) is pool
    with pytest.raises(UserError, match=r"^ignore: there is no trial 999; there are 0 to "):
        pool.without(("0999",))
    with pytest.raises(UserError, match=r"no trial can be used.*ignored, as asked"):
        pool.without((first, *others))
