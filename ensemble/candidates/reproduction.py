"""Whether a finished trial can be made again: its weights must predict what it left in val_probs.npy.

A .tflite file in float32 is built of the weights and run on validation sequences. Weights, configuration or predictions
that were damaged, edited or taken from another trial show here, before anything is selected by them.
"""

import dataclasses
from collections.abc import Iterable
from typing import Final

import numpy as np
from rich.markup import escape

from ensemble.candidates.pool import Candidate, DatasetGoneError, Pool, reason_of, require_any, to_member
from ensemble.tflite import export
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.runtime import Model
from trainer.common.console import console, track
from trainer.common.errors import StorageError, UserError, first_line
from trainer.metrics import accuracy, log_loss

SEQUENCES: Final = 64
"""On which a trial is run, spread over the validation sequences"""
LOG_LOSS_ROUNDING: Final = 0.01  # of a float32 file's log loss plus 1, from that in done.json


def deviation(found: np.ndarray, kept: np.ndarray, told: float | None = None) -> float:
    """How far probabilities are from those kept in float16, as a share of what these tell.

    ``found`` and ``kept`` are [n, signs]; ``told`` is what ``kept`` tells, if not ``information(kept)``. What rounding
    to float16 explains, one step of it, does not count. 0 where both are the same, about 1 where one is level or
    another model's; NaN if ``found`` is.

    >>> round(deviation(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]])), 2)
    1.0
    """
    half = kept.astype(np.float16)
    exact = half.astype(np.float64)
    excess = np.maximum(np.abs(found - exact) - np.spacing(half).astype(np.float64), 0)
    if not excess.any():
        return 0.0
    return float(np.linalg.norm(excess) / max(information(exact) if told is None else told, np.finfo(np.float64).tiny))


def information(probs: np.ndarray) -> float:
    """What probabilities [n, signs] tell beyond "all signs alike": the norm of their difference from that."""
    return float(np.linalg.norm(probs.astype(np.float64) - 1 / probs.shape[1]))


def only_reproducible(pool: Pool) -> Pool:
    """The pool without the trials that cannot be made again, which are left out with their reasons.

    Without the packed dataset, a trial is believed if its files have the hashes that its done.json states. Shows a
    progress bar. Raises UserError if no trial is left, and StorageError if it cannot be told whether the packed dataset
    is there.
    """
    candidates, left_out = [], dict(pool.left_out)
    try:
        places = pool.spread(SEQUENCES)
        sequences: list[np.ndarray] | None = list(pool.raw_sequences(places))
    except DatasetGoneError:
        sequences = None
    for candidate in track(pool.candidates, len(pool.candidates), "checking trials"):
        try:
            if sequences is None:
                candidate.run.require_unchanged()
            else:
                _require_predictions(candidate, sequences, places)
            candidates.append(candidate)
        except StorageError:
            raise
        except UserError as error:
            reason = reason_of(error, candidate.run.path)
            unseen = "; the packed dataset that would tell whether it is whole is gone" if sequences is None else ""
            left_out[candidate.name] = f"{reason}{unseen}"
            console.print(f"[yellow]trial {candidate.name} is left out:[/] {escape(reason + unseen)}", soft_wrap=True)
    require_any(pool.studies, candidates, left_out)
    return pool.replace(candidates=candidates, left_out=left_out)


def _require_predictions(candidate: Candidate, sequences: list[np.ndarray], places: np.ndarray) -> None:
    """Raises UserError if the trial's weights do not give what it kept for validation sequences."""
    found = _predict(candidate, sequences)
    off, most = deviation(found, candidate.val_probs()[places]), PRECISIONS["float32"].largest_deviation
    if not off <= most:  # a NaN is not
        raise UserError(
            f"its weights do not predict what val_probs.npy says (they deviate by {off:.1e}, of at most {most:.0e}): "
            "weights.safetensors, config.json or val_probs.npy is not what the training left"
        )


def require_result(candidate: Candidate, pool: Pool) -> None:
    """Raises UserError if a trial trained on all participants is not the one that its done.json tells of.

    Such a trial leaves no predictions. Its files must have the hashes in done.json. Where a run of an earlier version
    has none, or a file was written again, its weights must have done.json's accuracy and log loss on the validation
    sequences.
    """
    try:
        return candidate.run.require_unchanged()
    except UserError as changed:
        result, labels = candidate.run.read_result(), pool.validation.labels
        try:
            probs = _predict(candidate, pool.raw_sequences(range(len(labels))))
        except DatasetGoneError:
            raise changed from None
        few = 2.5 / len(labels)  # sequences whose two likeliest signs are level
        same = abs(accuracy(probs, labels) - result.val_accuracy) <= few
        off = abs(log_loss(probs, labels) - result.val_log_loss)
        if not (same and off <= LOG_LOSS_ROUNDING * (1 + result.val_log_loss)):
            raise UserError(
                f"{changed.message}; its weights do not have done.json's accuracy and log loss either: train it again",
                field="ship",
            ) from changed


def _predict(candidate: Candidate, sequences: Iterable[np.ndarray]) -> np.ndarray:
    """What the trial's weights give: float32 [n, signs]."""
    try:
        model = Model(export.build([to_member(dataclasses.replace(candidate, precision="float32"), 1)]))
        return np.array([model(raw) for raw in sequences])
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"weights.safetensors: not a classifier's ({first_line(error)})") from error
