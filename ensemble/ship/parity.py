"""The file that ships, held against the PyTorch ensemble that was selected, on validation sequences."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from rich.markup import escape

from ensemble.candidates.pool import Candidate, Pool
from ensemble.tflite.runtime import Model
from trainer.common.console import console, track
from trainer.common.errors import UserError
from trainer.data.batches import resize_indices
from trainer.data.normalize import normalize, pick_landmarks
from trainer.landmarks import NUM_ROWS
from trainer.model.classifier import SignClassifier

SEQUENCES: Final = 200
REQUIRED: Final = {"float32": (1e-4, 1.0), "float16": (0.05, 0.99), "int8": (1.0, 0.98)}
"""For each precision: largest difference of a probability, and smallest share of sequences with the same sign,
rounded down to whole sequences: of 36, one may differ in int8"""


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
        """Raises UserError if the file strays further from PyTorch than the coarsest of its precisions explains."""
        coarsest = max(precisions, key=list(REQUIRED).index)
        difference, share = REQUIRED[coarsest]
        enough = round(self.same_sign * self.sequences) >= max(1, math.floor(share * self.sequences))
        if not (self.largest_difference <= difference and enough):  # a NaN is not
            raise UserError(f"the {coarsest} file does not predict what PyTorch does: {self}; this is a defect")


def compare(model: bytes, members: list[tuple[Candidate, int]], pool: Pool) -> Agreement:
    """Run both on validation sequences, or on random ones where the packed dataset is gone."""
    torch.set_num_threads(1)  # one sequence is little work: a second thread costs more than it brings
    file = Model(model)
    classifiers = [(_classifier(candidate), count) for candidate, count in members]
    total = sum(count for _, count in members)
    differences, same = [], []
    sequences = _sequences(pool)
    for raw in track(sequences, len(sequences), "comparing with PyTorch"):
        parts = [count / total * _predict(classifier, raw, pool.max_frames) for classifier, count in classifiers]
        expected = np.sum(parts, axis=0)
        found = file(raw)
        differences.append(float(np.abs(found - expected).max()))
        same.append(bool(found.argmax() == expected.argmax()))
    return Agreement(len(sequences), float(np.max(differences)), float(np.mean(same)))


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
    chosen = np.linspace(0, len(pool.labels) - 1, min(SEQUENCES, len(pool.labels))).astype(int)
    try:
        return list(pool.raw_sequences(chosen))
    except UserError as error:
        console.print(f"[yellow]comparing on random landmarks:[/] {escape(str(error))}", soft_wrap=True)
        rng = np.random.default_rng(0)
        return [rng.normal(0.5, 0.3, (n, NUM_ROWS, 3)).astype(np.float32) for n in pool.lengths[chosen]]
