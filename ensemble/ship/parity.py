"""Compares the file that ships with the PyTorch models that it was made of, on validation sequences."""

import contextlib
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from rich.markup import escape

from ensemble.candidates.pool import Candidate, Pool
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.runtime import Model
from trainer.common.console import console, track
from trainer.common.errors import UserError
from trainer.data.batches import resize_indices
from trainer.data.normalize import normalize, pick_landmarks
from trainer.landmarks import NUM_ROWS
from trainer.model.classifier import SignClassifier

SEQUENCES: Final = 200


@dataclass(frozen=True)
class Agreement:
    """How close the file's probabilities are to PyTorch's."""

    sequences: int
    largest_difference: float
    same_sign: float
    """Share of sequences for which both name the same sign"""

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
        if not (self.largest_difference <= allowed.largest_difference and enough):  # a NaN is not
            raise UserError(f"the {coarsest} file does not predict what PyTorch does: {self}; this is a defect")


def compare(model: bytes, members: list[tuple[Candidate, int]], pool: Pool) -> Agreement:
    """Run both on validation sequences, or on random ones if the packed dataset is gone.

    ``members`` are the models in the file ``model``, with their counts. Raises UserError if either cannot be run.
    """
    file = Model(model)
    classifiers = [(_classifier(candidate), count) for candidate, count in members]
    total = sum(count for _, count in members)
    differences, same = [], []
    sequences = _sequences(pool)
    with _one_thread():
        for raw in track(sequences, len(sequences), "comparing with PyTorch"):
            parts = [count / total * _predict(classifier, raw, pool.max_frames) for classifier, count in classifiers]
            expected = np.sum(parts, axis=0)
            found = file(raw)
            differences.append(float(np.abs(found - expected).max()))
            same.append(bool(found.argmax() == expected.argmax()))
    return Agreement(len(sequences), float(np.max(differences)), float(np.mean(same)))


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


def _sequences(pool: Pool) -> list[np.ndarray]:
    """Raw landmarks float32 [n, 543, 3] of validation sequences, spread over the participants."""
    chosen = np.linspace(0, len(pool.validation.labels) - 1, min(SEQUENCES, len(pool.validation.labels))).astype(int)
    try:
        return list(pool.raw_sequences(chosen))
    except UserError as error:
        console.print(f"[yellow]comparing on random landmarks:[/] {escape(str(error))}", soft_wrap=True)
        rng = np.random.default_rng(0)
        return [rng.normal(0.5, 0.3, (n, NUM_ROWS, 3)).astype(np.float32) for n in pool.validation.lengths[chosen]]
