"""What a pool gives of its sequences."""

from pathlib import Path

import numpy as np

from ensemble.candidates.opening import open_pool
from tests.ensemble.conftest import NUM_FOLDS
from trainer.data.dataset import PackedDataset
from trainer.data.normalize import normalize, pick_landmarks


def test_raw_sequences_are_what_the_model_saw(study: Path, packed: PackedDataset):
    rows = packed.split(NUM_FOLDS, 0)[1]
    for row, raw in zip(rows, open_pool(study).raw_sequences(range(len(rows))), strict=True):
        np.testing.assert_allclose(normalize(pick_landmarks(raw)), packed.sequence(row), atol=1e-5)
