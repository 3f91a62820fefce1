"""The recipe's own ensemble: the three best trials of its shape, averaged."""

import dataclasses

import numpy as np

from ensemble.candidates.priced import PricedPool
from ensemble.evaluation import recipe_ensemble
from tests.ensemble.evaluation.conftest import accuracy_of
from trainer.metrics import accuracy


def test_takes_the_three_best_trials_of_the_shape_once_each(priced: PricedPool):
    pool = priced.pool
    counts = recipe_ensemble.counts(priced, accuracy_of(priced))
    assert counts is not None
    assert set(counts) == {0, 1}
    of_the_shape = sorted({c.name: c.val_accuracy for c in pool.candidates if c.model.num_layers == 6}.items())
    best = sorted(of_the_shape, key=lambda item: -item[1])[:3]
    chosen = [pool.candidates[k] for k in np.flatnonzero(counts)]
    assert {candidate.name for candidate in chosen} == {name for name, _ in best}
    assert {candidate.precision for candidate in chosen} == {"int8"}  # all precisions score alike here: the smallest


def test_needs_three_of_the_shape(priced: PricedPool):
    few = PricedPool(
        dataclasses.replace(priced.pool, candidates=priced.pool.candidates[:6]), priced.base, priced.costs[:6]
    )
    assert recipe_ensemble.counts(few, accuracy_of(few)) is None
    assert recipe_ensemble.unseen_accuracy(few, accuracy_of(few)) is None


def test_unseen_accuracy_is_of_the_best_on_the_others(priced: PricedPool):
    pool, labels, people = priced.pool, priced.pool.validation.labels, priced.pool.validation.participants
    expected = 0
    for participant in np.unique(people):
        rows, others = np.flatnonzero(people == participant), np.flatnonzero(people != participant)
        by_trial = {c.name: c.val_probs() for c in pool.candidates if c.model.num_layers == 6}
        best = sorted(by_trial, key=lambda name: -accuracy(by_trial[name][others], labels[others]))[:3]
        mean = np.sum([by_trial[name][rows].astype(np.float32) for name in best], axis=0)
        expected += int((mean.argmax(axis=1) == labels[rows]).sum())
    assert recipe_ensemble.unseen_accuracy(priced, accuracy_of(priced)) == expected / len(labels)
