"""The recipe's own ensemble: three trials of its shape, the best, averaged."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ensemble.budget import Budget
from ensemble.candidates.pool import Candidate, Pool, open_pool
from ensemble.evaluation import frontier, recipe_ensemble
from ensemble.selection import baselines
from ensemble.selection.scores import Accuracy
from trainer.config import ModelConfig
from trainer.metrics import accuracy
from trainer.rundir import RunDir

OF_ITS_SHAPE = (0, 1, 2, 3, 5)
COSTS = np.array([[1e6, size, 1.0, 1.0] for size in (4e6, 2e6, 1e6)] * 6)
PRECISIONS = ("float32", "float16", "int8")


@pytest.fixture
def pool(study: Path, tmp_path: Path) -> Pool:
    """Six trials at three precisions each; trial 4, the best of all, has another shape."""
    opened = open_pool(study)
    rng = np.random.default_rng(0)
    candidates = []
    for trial, hits in enumerate((0.3, 0.5, 0.4, 0.1, 0.9, 0.35)):
        logits = rng.normal(size=(len(opened.labels), len(opened.label_names)))
        logits[np.arange(len(opened.labels)), opened.labels] += 8 * (rng.random(len(opened.labels)) < hits)
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
            val_accuracy=accuracy(probs, opened.labels),
            val_log_loss=1.0,
        )
        candidates += [dataclasses.replace(one, precision=precision) for precision in PRECISIONS]
    return dataclasses.replace(opened, candidates=candidates)


def test_takes_the_three_best_trials_of_the_shape_once_each(pool: Pool):
    objective = Accuracy.of(pool.val_probs, pool.labels)
    counts = recipe_ensemble.counts(pool, objective, COSTS)
    assert counts is not None
    assert set(counts) == {0, 1}
    of_the_shape = sorted({c.name: c.val_accuracy for c in pool.candidates if c.model.num_layers == 6}.items())
    best = sorted(of_the_shape, key=lambda item: -item[1])[:3]
    chosen = [pool.candidates[k] for k in np.flatnonzero(counts)]
    assert {candidate.name for candidate in chosen} == {name for name, _ in best}
    assert {candidate.precision for candidate in chosen} == {"int8"}  # all precisions score alike here: the smallest


def test_needs_three_of_the_shape(pool: Pool):
    few = dataclasses.replace(pool, candidates=pool.candidates[:6])
    assert recipe_ensemble.counts(few, Accuracy.of(few.val_probs, few.labels), COSTS[:6]) is None
    objective, capacity = Accuracy.of(few.val_probs, few.labels), np.full(4, np.inf)
    chosen = baselines.ours(objective, COSTS[:6], capacity)
    rows = frontier.sweep(few, objective, baselines.ours, np.zeros(4), COSTS[:6], (Budget(), capacity, chosen))
    assert "recipe" not in {row["kind"] for row in rows}


def test_is_a_row_of_the_frontier(pool: Pool):
    objective = Accuracy.of(pool.val_probs, pool.labels)
    one = Budget(members=1)
    chosen = baselines.ours(objective, COSTS, one.to_array())
    rows = frontier.sweep(pool, objective, baselines.ours, np.zeros(4), COSTS, (one, one.to_array(), chosen))
    row = rows[-1]
    assert row["kind"] == "recipe"
    assert row["parameters"] == 3e6
    assert len(row["trials"]) == 3
    assert row["unseen_accuracy"] == recipe_ensemble.unseen_accuracy(pool, objective, COSTS)
    assert frontier.to_table(rows).row_count >= 2


def test_unseen_accuracy_is_of_the_best_on_the_others(pool: Pool):
    expected = 0
    for participant in np.unique(pool.participants):
        rows = np.flatnonzero(pool.participants == participant)
        others = np.flatnonzero(pool.participants != participant)
        by_trial = {c.name: c.val_probs() for c in pool.candidates if c.model.num_layers == 6}
        best = sorted(by_trial, key=lambda name: -accuracy(by_trial[name][others], pool.labels[others]))[:3]
        mean = sum(by_trial[name][rows].astype(np.float32) for name in best)
        expected += int((mean.argmax(axis=1) == pool.labels[rows]).sum())
    found = recipe_ensemble.unseen_accuracy(pool, Accuracy.of(pool.val_probs, pool.labels), COSTS)
    assert found == expected / len(pool.labels)
