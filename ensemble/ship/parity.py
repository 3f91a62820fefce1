"""Compares the file that ships, on validation sequences, with the PyTorch models that it was made of and with the
predictions that these were selected by.
"""

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from rich.markup import escape

from ensemble.candidates.pool import Candidate, DatasetGoneError, Pool
from ensemble.candidates.reproduction import TrialFiles, deviation, information, predict_all
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.runtime import Model
from trainer.common.console import console, track
from trainer.common.errors import UserError
from trainer.data.batches import resize_indices
from trainer.data.normalize import normalize, pick_landmarks
from trainer.landmarks import NUM_ROWS
from trainer.metrics import accuracy
from trainer.model.classifier import SignClassifier
from trainer.rundir import VAL_PROBS

SEQUENCES: Final = 200
"""Compared with PyTorch"""
KEPT_SEQUENCES: Final = 1000
"""Compared with the predictions that members were selected by"""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How close the file's probabilities are to PyTorch's, and to those that its members were selected by."""

    sequences: int
    largest_difference: float
    """From PyTorch, of a probability"""
    same_sign: float
    """Share of sequences for which both name the same sign, or signs that are level: PyTorch's two likeliest are no
    further apart than the file's probabilities are from PyTorch's"""
    deviation: float
    """From PyTorch, of all probabilities together, as a share of what the members tell
    (ensemble.candidates.reproduction.deviation)"""
    from_validation: float | None = None
    """The same from the predictions that the members were selected by; None where they have none for these weights or
    the packed dataset is gone"""

    file_accuracy: float | None = None
    """Of the file itself on ``file_sequences`` of the validation sequences. It may differ from the ensemble's by those
    whose two likeliest signs are level, as that is of predictions kept in float16"""
    file_sequences: int = 0

    def __str__(self) -> str:
        return (
            f"the same sign on {round(self.same_sign * self.sequences)} of {self.sequences} sequences, "
            f"probabilities at most {self.largest_difference:.0e} apart"
        )

    def require(self, precisions: Collection[str]) -> None:
        """Raises UserError if the file is further from PyTorch than the coarsest of its precisions explains.

        The share of sequences that must have the same sign is rounded down to whole sequences: of 36, one may differ in
        int8.
        """
        coarsest = max(precisions, key=lambda name: PRECISIONS[name].largest_difference)
        allowed = PRECISIONS[coarsest]
        enough = round(self.same_sign * self.sequences) >= max(1, math.floor(allowed.same_sign * self.sequences))
        close = self.largest_difference <= allowed.largest_difference and self.deviation <= allowed.largest_deviation
        if not (close and enough):  # a NaN is not
            raise UserError(f"the {coarsest} file does not predict what PyTorch does: {self}; this is a defect")
        if not self.is_as_selected(precisions):
            raise UserError(
                f"the {coarsest} file does not predict what its members were selected by (they deviate by "
                f"{self.from_validation:.1e}, of at most {allowed.deviation_from_kept:.0e}), though each member's own "
                "file does; this is a defect"
            )

    def is_as_selected(self, precisions: Collection[str]) -> bool:
        """Whether the file predicts what its members were selected by, as far as is known."""
        most = max(PRECISIONS[name].deviation_from_kept for name in precisions)
        return self.from_validation is None or self.from_validation <= most  # a NaN is not


def compare(
    model: bytes,
    members: list[tuple[Candidate, int]],
    pool: Pool,
    selected: list[tuple[Candidate, int]] | None = None,
) -> Agreement:
    """Run both on validation sequences, or on random ones if the packed dataset is gone.

    ``members`` are the models in the file ``model``, with their counts. ``selected`` are those that were selected, if
    they have the same weights: then the file is also compared with their predictions. Raises UserError if either cannot
    be run.
    """
    file = Model(model)
    classifiers = [(_classifier(candidate), count) for candidate, count in members]
    places = pool.spread(SEQUENCES)
    sequences, are_validation = _sequences(pool, places)
    found = np.empty((len(sequences), len(pool.label_names)), np.float32)
    parts = np.empty((len(members), *found.shape), np.float32)  # of the average, a member each
    with _one_thread():
        for index, raw in enumerate(track(sequences, len(sequences), "comparing with PyTorch")):
            found[index] = file(raw)
            for part, (classifier, _) in zip(parts, classifiers, strict=True):
                part[index] = _predict(classifier, raw, pool.max_frames)
    shares = np.array([count for _, count in members]) / sum(count for _, count in members)
    expected = np.tensordot(shares, parts, 1)
    told = float(shares @ [information(part) for part in parts])
    kept = _Kept.of(model, selected, shares, pool) if selected and are_validation else None
    return Agreement(
        sequences=len(sequences),
        largest_difference=float(np.abs(found - expected).max()),
        same_sign=float(np.mean(name_same_sign(found, expected))),
        deviation=deviation(found, expected, told),
        from_validation=kept.deviation if kept else None,
        file_accuracy=kept.accuracy if kept else None,
        file_sequences=kept.sequences if kept else 0,
    )


@dataclass(frozen=True)
class _Kept:
    """A file beside the predictions that its members were selected by."""

    deviation: float
    accuracy: float
    """Of the file itself"""
    sequences: int

    @classmethod
    def of(cls, model: bytes, selected: list[tuple[Candidate, int]], shares: np.ndarray, pool: Pool) -> "_Kept":
        """``shares`` are those of the members selected, each of a part of the whole."""
        places = pool.spread(KEPT_SEQUENCES)
        kept = [candidate.val_probs()[places].astype(np.float64) for candidate, _ in selected]
        told = float(shares @ [information(part) for part in kept])
        found = predict_all(model, pool, places)
        off = deviation(found, np.tensordot(shares, kept, 1), told)
        return cls(off, accuracy(found, pool.validation.labels[places]), len(places))


def unlike_selected(selected: list[tuple[Candidate, int]], pool: Pool) -> dict[str, str]:
    """Why trials do not predict what they were selected by, by their names; empty if the packed dataset is gone.

    Each one's own file is run. Raises UserError if one does not run.
    """
    places = pool.spread(KEPT_SEQUENCES)
    reasons: dict[str, str] = {}
    for candidate, _ in selected:
        try:
            found = predict_all(TrialFiles(candidate).at(candidate.precision), pool, places)
        except DatasetGoneError:
            return {}
        off, most = deviation(found, candidate.val_probs()[places]), PRECISIONS[candidate.precision].deviation_from_kept
        if not off <= most:  # a NaN is not
            where = VAL_PROBS if candidate.probs is None else f"{candidate.probs}; remove that file"
            reasons[candidate.name] = (
                f"its {candidate.precision} file does not predict what it was selected by (they deviate by {off:.1e}, "
                f"of at most {most:.0e}), which is in {where}"
            )
    return reasons


def name_same_sign(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Whether probabilities [n, signs] name the same sign as those expected, or one that is level with it: bool [n].

    Two signs are level where the likeliest two of ``expected`` are no further apart than ``found`` is from it.

    >>> name_same_sign(np.array([[0.50, 0.49, 0.01]]), np.array([[0.49, 0.50, 0.01]])).tolist()
    [True]
    """
    best = np.sort(expected, axis=1)[:, ::-1]
    margin = best[:, 0] - best[:, 1] if expected.shape[1] > 1 else np.inf
    is_level = margin <= np.abs(found - expected).max(axis=1)
    same: np.ndarray = (found.argmax(axis=1) == expected.argmax(axis=1)) | is_level
    return same


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have torch use one thread: a sequence is so little work that a second one costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _classifier(candidate: Candidate) -> SignClassifier:
    classifier = SignClassifier(candidate.model)
    classifier.load_state_dict(candidate.run.read_weights())
    return classifier.eval()


@torch.inference_mode()
def _predict(classifier: SignClassifier, raw: np.ndarray, max_frames: int) -> np.ndarray:
    points = normalize(pick_landmarks(raw))
    points = points[resize_indices(len(points), min(len(points), max_frames))]
    logits = classifier(torch.from_numpy(points), np.array([len(points)]))
    probs: np.ndarray = torch.softmax(logits[0], dim=0).numpy()
    return probs


def _sequences(pool: Pool, places: np.ndarray) -> tuple[list[np.ndarray], bool]:
    """Raw landmarks float32 [n, 543, 3] of validation sequences, and whether they are that or random ones instead."""
    try:
        return list(pool.raw_sequences(places)), True
    except DatasetGoneError as error:
        console.print(f"[yellow]comparing on random landmarks:[/] {escape(str(error))}", soft_wrap=True)
        rng = np.random.default_rng(0)
        lengths = pool.validation.lengths[places]
        return [rng.normal(0.5, 0.3, (n, NUM_ROWS, 3)).astype(np.float32) for n in lengths], False
