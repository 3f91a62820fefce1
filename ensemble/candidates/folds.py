"""Configurations that were trained with every fold held out in turn: one candidate each, judged on all participants.

Each of its models predicts the participants that it was not trained on. Together these are predictions for every
sequence: out-of-fold, or cross-validated, predictions (Stone 1974, "Cross-Validatory Choice and Assessment of
Statistical Predictions"). Selecting on them, an ensemble is chosen by the sequences of all participants, not of one
fold.

A configuration that was trained with several seeds is a candidate for each of them, so that two of its models may be
members. None of them gains by the luck of its seed: all are judged by all seeds. The validation sequences are
repeated, once for each seed; in repeat r, the candidate of seed s has the predictions of seed s + r, counted round. An
ensemble is thus scored by its average over repeats, in each of which every member is another training.

What ships is a model that was trained as these were: the one that fold 0 was held out of.
"""

import contextlib
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from ensemble.candidates.pool import Candidate, DatasetGoneError, Pool, require_any
from ensemble.candidates.priced import PricedPool
from trainer.config import TrainConfig
from trainer.metrics import accuracy, log_loss
from trainer.validation import Validation

INCOMPLETE: Final = "its configuration has no {} file of a training with seed {} and fold {} held out"


@dataclass(frozen=True, kw_only=True)
class Rotated(Candidate):
    """A configuration with a seed, and the models of all folds and seeds that it is judged by."""

    parts: tuple[tuple[Candidate, ...], ...]
    """A trial for each repeat and fold"""
    rows: tuple[np.ndarray, ...]
    """The places of each fold's sequences among all, int64"""

    @property
    def itself(self) -> Candidate:
        return self.parts[0][0]

    def val_probs(self) -> np.ndarray:
        """float16 [repeats * N, signs]."""
        repeats, sequences = len(self.parts), sum(map(len, self.rows))
        first = self.parts[0][0].val_probs()
        probs = np.empty((repeats, sequences, first.shape[1]), first.dtype)
        for repeat, of_folds in zip(probs, self.parts, strict=True):
            for rows, part in zip(self.rows, of_folds, strict=True):
                repeat[rows] = part.val_probs()
        return probs.reshape(repeats * sequences, -1)


class _Key(NamedTuple):
    """What the models of one candidate have in common."""

    config: TrainConfig
    """With seed and fold 0"""
    precision: str


def by_fold(pool: Pool) -> list[Pool]:
    """The trials of a study whose folds are held out in turn, as a pool for each fold.

    Raises UserError if there is none of some fold.
    """
    with contextlib.suppress(DatasetGoneError):
        _ = pool.dataset  # opened, and hashed, once for all
    folds = pool.validation.folds
    assert folds is not None
    pools = []
    for fold in np.unique(folds).tolist():
        candidates = [candidate for candidate in pool.candidates if candidate.fold == fold]
        require_any(pool.studies, candidates, pool.left_out)
        pools.append(pool.replace(validation=pool.validation.at(np.flatnonzero(folds == fold)), candidates=candidates))
    return pools


def combined(pool: Pool, folds: Sequence[PricedPool]) -> PricedPool:
    """Configurations from the measured trials of each fold; their costs are those of the first fold's models.

    Configurations that lack a training are left out by the names of those that they have. Raises UserError if none is
    complete.
    """
    assert pool.validation.folds is not None
    rows = tuple(np.flatnonzero(pool.validation.folds == fold) for fold in np.unique(pool.validation.folds))
    trainings, seeds = _trainings(folds)
    left_out = {name: reason for its in folds for name, reason in its.pool.left_out.items()}
    changed = {name: change for its in folds for name, change in its.pool.changed.items()}
    candidates: list[Rotated] = []
    costs: list[np.ndarray] = []
    for key, found in trainings.items():
        if missing := [(seed, fold) for seed in seeds for fold in range(len(folds)) if (seed, fold) not in found]:
            for candidate, _ in found.values():
                left_out.setdefault(candidate.name, INCOMPLETE.format(key.precision, *missing[0]))
            continue
        for first in range(len(seeds)):
            order = [*seeds[first:], *seeds[:first]]
            parts = tuple(tuple(found[seed, fold][0] for fold in range(len(folds))) for seed in order)
            candidate = _rotated(parts, rows, pool.validation.labels)
            candidates.append(candidate)
            costs.append(found[order[0], 0][1])
            if changes := [changed[part.name] for of_folds in parts for part in of_folds if part.name in changed]:
                changed[candidate.name] = changes[0]
    complete = {part.name for candidate in candidates for of_folds in candidate.parts for part in of_folds}
    left_out = {name: reason for name, reason in left_out.items() if name not in complete}
    require_any(pool.studies, candidates, left_out)
    whole = pool.replace(
        candidates=candidates,
        left_out=left_out,
        changed=changed,
        validation=_repeated(pool.validation, len(seeds)),
        of_files=folds[0].pool,
    )
    return PricedPool(whole, folds[0].base, np.array(costs))


def _trainings(
    folds: Sequence[PricedPool],
) -> tuple[dict[_Key, dict[tuple[int, int], tuple[Candidate, np.ndarray]]], list[int]]:
    """The models of each configuration at each precision with their costs, by seed and fold; and all seeds."""
    trainings: dict[_Key, dict[tuple[int, int], tuple[Candidate, np.ndarray]]] = defaultdict(dict)
    for fold, priced in enumerate(folds):
        for candidate, cost in zip(priced.pool.candidates, priced.costs, strict=True):
            config = candidate.run.read_config()
            key = _Key(config.replace(seed=0, fold=0), candidate.precision)
            trainings[key][config.seed, fold] = candidate, cost
    return trainings, sorted({seed for found in trainings.values() for seed, _ in found})


def _rotated(parts: tuple[tuple[Candidate, ...], ...], rows: tuple[np.ndarray, ...], labels: np.ndarray) -> Rotated:
    own = {item.name: getattr(parts[0][0], item.name) for item in dataclasses.fields(Candidate)}
    candidate = Rotated(**own, parts=parts, rows=rows)
    probs, repeated = candidate.val_probs(), np.tile(labels, len(parts))
    return dataclasses.replace(
        candidate, val_accuracy=accuracy(probs, repeated), val_log_loss=log_loss(probs, repeated)
    )


def _repeated(validation: Validation, times: int) -> Validation:
    return validation.at(np.tile(np.arange(len(validation.labels)), times))
