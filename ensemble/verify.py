"""The file that ships, held against the PyTorch ensemble that was selected, on validation sequences."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from ensemble.pool import Candidate, Pool
from ensemble.runtime import Model
from trainer.cli import UserError, console, track
from trainer.dataset import PackedDataset, resize_indices
from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS
from trainer.model import SignClassifier
from trainer.normalize import normalize, select

SEQUENCES: Final = 200
REQUIRED: Final = {"float32": (1e-4, 1.0), "float16": (0.05, 0.99)}
"""For each precision: largest difference of a probability, and smallest share of sequences with the same sign"""


@dataclass(frozen=True)
class Agreement:
    """How close the file's probabilities are to PyTorch's."""

    sequences: int
    largest_difference: float
    same_sign: float
    """Share of sequences for which both name the same sign"""

    def __str__(self) -> str:
        return (
            f"{self.same_sign:.1%} same sign on {self.sequences} sequences, "
            f"probabilities within {self.largest_difference:.0e}"
        )

    def require(self, precision: str) -> None:
        """Raises UserError if the file strays further than its precision explains."""
        difference, share = REQUIRED[precision]
        if self.largest_difference > difference or self.same_sign < share:
            raise UserError(f"the {precision} file does not predict what PyTorch does: {self}; this is a defect")


def compare(model: bytes, members: list[tuple[Candidate, int]], pool: Pool) -> Agreement:
    """Run both on validation sequences, or on random ones where the packed dataset is gone."""
    file = Model(model)
    classifiers = [(_classifier(candidate), count) for candidate, count in members]
    total = sum(count for _, count in members)
    differences, same = [], []
    sequences = list(_sequences(pool))
    for raw in track(sequences, len(sequences), "comparing with PyTorch"):
        parts = [count / total * _predict(classifier, raw, pool.max_frames) for classifier, count in classifiers]
        expected = np.sum(parts, axis=0)
        found = file(raw)
        differences.append(float(np.abs(found - expected).max()))
        same.append(bool(found.argmax() == expected.argmax()))
    return Agreement(len(sequences), max(differences), float(np.mean(same)))


def _classifier(candidate: Candidate) -> SignClassifier:
    classifier = SignClassifier(candidate.model)
    classifier.load_state_dict(candidate.run.read_weights())
    return classifier.eval()


@torch.inference_mode()
def _predict(classifier: SignClassifier, raw: np.ndarray, max_frames: int) -> np.ndarray:
    points = normalize(select(raw))
    points = points[resize_indices(len(points), min(len(points), max_frames))]
    logits = classifier(torch.from_numpy(points), np.array([len(points)]))
    probs: np.ndarray = torch.softmax(logits[0], dim=0).numpy()
    return probs


def _sequences(pool: Pool) -> Iterator[np.ndarray]:
    """Raw landmarks float32 [n, 543, 3] of validation sequences, spread over the participants."""
    chosen = np.linspace(0, len(pool.labels) - 1, min(SEQUENCES, len(pool.labels))).astype(int)
    try:
        dataset = PackedDataset.open(pool.data)
        places = {int(sequence): i for i, sequence in enumerate(dataset.sequence_ids)}
        packed = [dataset.sequence(places[int(pool.sequence_ids[i])]) for i in chosen]
    except (UserError, KeyError):
        console.print(
            f"{pool.data}: the packed dataset is gone or another; comparing on random landmarks", soft_wrap=True
        )
        rng = np.random.default_rng(0)
        packed = [rng.normal(0, 0.3, (int(n), NUM_LANDMARKS, 2)).astype(np.float32) for n in pool.lengths[chosen]]
    for points in packed:
        raw = np.full((len(points), NUM_ROWS, 3), np.nan, np.float32)
        raw[:, np.array(ROWS), :2] = np.where((points == 0).all(axis=2, keepdims=True), np.nan, points)
        yield raw
