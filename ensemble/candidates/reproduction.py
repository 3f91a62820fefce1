"""Whether a finished trial can be made again: its weights must predict what it left in val_probs.npy.

A .tflite file in float32 is built of the weights and run on validation sequences. Weights, configuration or predictions
that were damaged, edited or taken from another trial show here, before anything is selected by them.

What that file predicts is kept in the trial's study, beside what its other files do, named by all that it comes of
(ensemble.candidates.kept): the content of the trial's files, the packed dataset, the sequences, and the versions of
this package and of LiteRT. A trial of which a byte was changed is run again. No verdict is kept: predictions that are
found are held against val_probs.npy every time, as new ones are. What this does not defend against is somebody who
writes predictions of their own under the right hashes. A trial may then be selected by predictions that it does not
make, but not ship: the file that ships is run and compared with them whatever is kept (ensemble.ship.parity).
"""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
from rich.markup import escape

from ensemble.candidates.kept import find, keep, key_of
from ensemble.candidates.pool import Candidate, DatasetGoneError, Pool, to_member, without_folder
from ensemble.tflite import export
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.runtime import Model
from trainer.common.console import console, track
from trainer.common.errors import StorageError, UserError, first_line
from trainer.common.strict import read_array
from trainer.metrics import accuracy, log_loss
from trainer.rundir import DONE

SEQUENCES: Final = 64
"""On which a trial is run, spread over the validation sequences"""
WORSE: Final = 0.1
"""By which an accuracy on people trained on may lie below that of the trial repeated on others, by luck"""
ROUNDING: Final = 1e-3
"""Of a float32 file's log loss plus 1, from that in done.json, and of sequences whose likeliest sign differs: training
may have validated with TF32"""


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


class TrialFiles:
    """A trial's .tflite files: the weights are read once, and a file is built once."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.change: str | None = None
        """How the trial's files are not those that its training left, though they predict the same"""
        self._built: dict[str, bytes] = {}

    def at(self, precision: str) -> bytes:
        """The file at a precision. Raises UserError if the weights are not a classifier's."""
        if precision not in self._built:
            try:
                self._built[precision] = export.build([dataclasses.replace(self._member, precision=precision)])
            except (KeyError, ValueError) as error:
                raise UserError(f"weights.safetensors: not a classifier's ({first_line(error)})") from error
        return self._built[precision]

    @functools.cached_property
    def _member(self) -> export.Member:
        return to_member(self.candidate, 1)


def reproducible(pool: Pool, left_out: dict[str, str], caches: Mapping[Path, Sequence[Path]]) -> Iterator[TrialFiles]:
    """The trials of a pool that can be made again. The others come into ``left_out`` with their reasons.

    ``caches`` are the folders of kept predictions by study: all are read, and the first is written to. Without the
    packed dataset, a trial is believed if its files have the hashes that its done.json states. Shows a progress bar.
    Raises StorageError if it cannot be told whether the packed dataset is there.
    """
    try:
        _ = pool.dataset
        runs: _Runs | None = _Runs(pool)
    except DatasetGoneError:
        runs = None
    for candidate in track(pool.candidates, len(pool.candidates), "measuring trials"):
        files = TrialFiles(candidate)
        try:
            if runs is None:
                candidate.run.require_unchanged()
            else:
                runs.require_predictions(files, caches.get(candidate.study, ()))
                candidate.run.require_own_val_probs()  # also where no sequence was run
        except StorageError:
            raise
        except UserError as error:
            unseen = "; the packed dataset that would tell whether it is whole is gone" if runs is None else ""
            left_out[candidate.name] = f"{without_folder(error, candidate.run.path)}{unseen}"
            continue
        try:
            candidate.run.require_unchanged(needs_hashes=False)
        except UserError as error:
            files.change = without_folder(error, candidate.run.path)
        yield files


class _Runs:
    """Runs of trials' files on some of the validation sequences of a pool, whose packed dataset is there."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._places = pool.spread(SEQUENCES)
        self._setting = {
            "dataset": pool.dataset.fingerprint,
            "sequences": pool.validation.sequence_ids[self._places].tolist(),
            "versions": [version("sign-ensemble-search"), version("ai-edge-litert")],
        }

    def require_predictions(self, files: TrialFiles, caches: Sequence[Path]) -> None:
        """Raises UserError if the trial's weights do not predict what its val_probs.npy says."""
        run = files.candidate.run
        told = json.dumps({**self._setting, "trial": run.hashes(DONE)}, sort_keys=True)
        key = key_of(told.encode())
        kept = next((found for path in find(caches, key) if (found := self._kept(path)) is not None), None)
        probs = self._predict(files.at("float32")) if kept is None else kept
        off, most = deviation(probs, run.read_val_probs()[self._places]), PRECISIONS["float32"].largest_deviation
        if not off <= most:  # a NaN is not
            raise UserError(
                f"its weights do not predict what val_probs.npy says (they deviate by {off:.1e}, of at most "
                f"{most:.0e}): weights.safetensors, config.json or val_probs.npy is not what the training left"
            )
        if kept is None and caches:
            keep(caches[0], key, probs)

    def _kept(self, path: Path) -> np.ndarray | None:
        """Predictions that were kept, if they are there and of the right shape."""
        try:
            probs = read_array(path)
        except (OSError, ValueError):
            return None
        shape = (len(self._places), len(self._pool.label_names))
        return np.array(probs) if probs.shape == shape and probs.dtype == np.float32 else None

    def _predict(self, content: bytes) -> np.ndarray:
        """What a file gives: float32 [n, signs]."""
        model = Model(content)
        try:
            return np.array([model(raw) for raw in self._sequences])
        except (RuntimeError, ValueError) as error:
            raise UserError(f"weights.safetensors: its file does not run ({first_line(error)})") from error

    @functools.cached_property
    def _sequences(self) -> list[np.ndarray]:
        return list(self._pool.raw_sequences(self._places))


def require_result(candidate: Candidate, pool: Pool, held_out: float = 0.0) -> None:
    """Raises UserError if a trial trained on all participants is not the one that its done.json tells of.

    Such a trial leaves no predictions. Its weights must have done.json's accuracy and log loss on the validation
    sequences; without the packed dataset, its files must have the hashes that done.json states. ``held_out`` is the
    accuracy of the trial that it repeats, which was not trained on those people: this one, which was, cannot be far
    worse.
    """
    result, labels = candidate.run.read_result(), pool.validation.labels
    try:
        probs = predict_all(TrialFiles(candidate).at("float32"), pool)
    except DatasetGoneError:
        candidate.run.require_unchanged()
        console.print(
            f"[yellow]{escape(str(candidate.run.path))}: its weights are not run before they ship:[/] the packed "
            "dataset is gone; its files are those that the training left",
            soft_wrap=True,
        )
        return
    except StorageError:
        raise
    except UserError as error:
        raise UserError(f"{candidate.run.path}: {without_folder(error, candidate.run.path)}", field="ship") from error
    found, said = (accuracy(probs, labels), log_loss(probs, labels)), (result.val_accuracy, result.val_log_loss)
    few = max(1.5 / len(labels), ROUNDING)  # sequences whose two likeliest signs are level
    if not (abs(found[0] - said[0]) <= few and abs(found[1] - said[1]) <= ROUNDING * (1 + said[1])):
        raise UserError(
            f"{candidate.run.path}: its weights have an accuracy of {found[0]:.4f} and a log loss of {found[1]:.4f} on "
            f"the validation sequences, and done.json says {said[0]:.4f} and {said[1]:.4f}: a file was changed since; "
            "train it again",
            field="ship",
        )
    chance = 3 * math.sqrt(held_out * (1 - held_out) / len(labels))
    if found[0] < held_out - max(WORSE, chance):
        raise UserError(
            f"{candidate.run.path}: its weights have an accuracy of {found[0]:.4f} on people that they were trained "
            f"on, and the trial that it repeats has {held_out:.4f} on people that it was not; train it again",
            field="ship",
        )


def predict_all(content: bytes, pool: Pool, places: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """A .tflite file's probabilities for the validation sequences, or those at ``places``: float32 [n, signs].

    All cores share the work. Raises UserError if the file does not run, and what ``Pool.dataset`` does.
    """
    asked = range(len(pool.validation.labels)) if places is None else places
    threads = min(os.cpu_count() or 1, len(asked))

    def share(first: int) -> list[np.ndarray]:
        model = Model(content)
        try:
            return [model(raw) for raw in pool.raw_sequences(asked[first::threads])]
        except (RuntimeError, ValueError) as error:
            raise UserError(f"its file does not run ({first_line(error)})") from error

    probs = np.empty((len(asked), len(pool.label_names)), np.float32)
    with ThreadPoolExecutor(threads) as executor:
        for first, part in enumerate(executor.map(share, range(threads))):
            probs[first::threads] = part
    return probs
