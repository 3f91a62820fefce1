"""A pool of made-up predictions with costs, for all that is evaluated on it."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ensemble.budget import Cost
from ensemble.candidates.opening import open_pool
from ensemble.candidates.pool import Candidate
from ensemble.candidates.priced import PricedPool
from ensemble.selection.scores import Accuracy
from trainer.config import ModelConfig
from trainer.metrics import accuracy
from trainer.rundir import RunDir

OF_ITS_SHAPE = (0, 1, 2, 3, 5)
COSTS = np.array([[1e6, size, 1.0, 1.0] for size in (4e6, 2e6, 1e6)] * 6)
PRECISIONS = ("float32", "float16", "int8")


@pytest.fixture
def priced(study: Path, tmp_path: Path) -> PricedPool:
    """Six trials at three precisions each; trial 4, the best of all, has another shape."""
    opened = open_pool(study)
    rng = np.random.default_rng(0)
    candidates = []
    for trial, hits in enumerate((0.3, 0.5, 0.4, 0.1, 0.9, 0.35)):
        logits = rng.normal(size=(len(opened.validation.labels), len(opened.label_names)))
        logits[np.arange(len(opened.validation.labels)), opened.validation.labels] += 8 * (
            rng.random(len(opened.validation.labels)) < hits
        )
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        path = tmp_path / f"{trial:04d}.npy"
        np.save(path, probs.astype(np.float16))
        one = Candidate(
            name=f"{trial:04d}",
            run=RunDir(tmp_path / f"{trial:04d}"),
            model=ModelConfig(num_heads=2, num_layers=6 if trial in OF_ITS_SHAPE else 5),
            precision="",
            probs=path,
            num_parameters=1_000_000,
            val_accuracy=accuracy(probs, opened.validation.labels),
            val_log_loss=1.0,
        )
        candidates += [dataclasses.replace(one, precision=precision) for precision in PRECISIONS]
    return PricedPool(dataclasses.replace(opened, candidates=candidates), Cost(), COSTS)


def accuracy_of(priced: PricedPool) -> Accuracy:
    """Scores the pool's ensembles by accuracy."""
    return Accuracy.of(priced.pool.val_probs, priced.pool.validation.labels)
