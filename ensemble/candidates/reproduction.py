"""Whether a finished trial can be made again: its weights must predict what it left in val_probs.npy.

A .tflite file in float32 is built of the weights and run on validation sequences. Weights, configuration or predictions
that were damaged, edited or taken from another trial show here, before anything is selected by them.
"""

import dataclasses
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
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

    Such a trial leaves no predictions. Its weights must have done.json's accuracy and log loss on the validation
    sequences; without the packed dataset, its files must have the hashes that done.json states.
    """
    result, labels = candidate.run.read_result(), pool.validation.labels
    try:
        probs = predict_all(_build(candidate), pool)
    except DatasetGoneError:
        candidate.run.require_unchanged()
        return
    except StorageError:
        raise
    except UserError as error:
        raise UserError(f"{candidate.run.path}: {reason_of(error, candidate.run.path)}", field="ship") from error
    found, said = (accuracy(probs, labels), log_loss(probs, labels)), (result.val_accuracy, result.val_log_loss)
    few = 2.5 / len(labels)  # sequences whose two likeliest signs are level
    if not (abs(found[0] - said[0]) <= few and abs(found[1] - said[1]) <= LOG_LOSS_ROUNDING * (1 + said[1])):
        raise UserError(
            f"{candidate.run.path}: its weights have an accuracy of {found[0]:.4f} and a log loss of {found[1]:.4f} on "
            f"the validation sequences, and done.json says {said[0]:.4f} and {said[1]:.4f}: a file was changed since; "
            "train it again",
            field="ship",
        )


def predict_all(content: bytes, pool: Pool) -> np.ndarray:
    """A .tflite file's probabilities for the validation sequences, float32 [N, signs]; all cores share the work.

    Raises UserError if it does not run, and what ``Pool.dataset`` does.
    """
    threads = min(os.cpu_count() or 1, len(pool.validation.labels))

    def share(first: int) -> list[np.ndarray]:
        model = Model(content)
        try:
            return [model(raw) for raw in pool.raw_sequences(range(first, len(pool.validation.labels), threads))]
        except (RuntimeError, ValueError) as error:
            raise UserError(f"its file does not run ({first_line(error)})") from error

    probs = np.empty((len(pool.validation.labels), len(pool.label_names)), np.float32)
    with ThreadPoolExecutor(threads) as executor:
        for first, part in enumerate(executor.map(share, range(threads))):
            probs[first::threads] = part
    return probs


def _predict(candidate: Candidate, sequences: Iterable[np.ndarray]) -> np.ndarray:
    """What the trial's weights give: float32 [n, signs]."""
    model = Model(_build(candidate))
    try:
        return np.array([model(raw) for raw in sequences])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"weights.safetensors: its file does not run ({first_line(error)})") from error


def _build(candidate: Candidate) -> bytes:
    """Its .tflite file in float32. Raises UserError if the weights are not a classifier's."""
    try:
        return export.build([to_member(dataclasses.replace(candidate, precision="float32"), 1)])
    except (KeyError, ValueError) as error:
        raise UserError(f"weights.safetensors: not a classifier's ({first_line(error)})") from error
