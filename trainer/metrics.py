"""Accuracy and log loss of probabilities, on arrays. Empty or ill-shaped arrays raise ValueError."""

import numpy as np

SEQUENCES_PER_NAT = 10.0  # correct sequences that a nat of mean log likelihood is worth (tests.bench.blends)
SMALLEST_PROBABILITY = 2.0**-25  # half the smallest positive float16: keeps the log of a stored zero finite


def accuracy(probs: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose largest probability is the label's: probs [n, signs], labels [n]."""
    _check(probs, labels)
    return float(np.mean(probs.argmax(axis=1) == labels))


def log_loss(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log(probability of the label), in nats: probs [n, signs], labels [n]."""
    _check(probs, labels)
    chosen = probs[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, SMALLEST_PROBABILITY)).mean())


def _check(probs: np.ndarray, labels: np.ndarray) -> None:
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or len(labels) == 0:
        raise ValueError(f"probs [n, signs] and labels [n] with n >= 1 expected, not {probs.shape} and {labels.shape}")


def to_half(probs: np.ndarray) -> np.ndarray:
    """Probabilities [n, signs] as float16, in which the likeliest sign of a row stays the only likeliest.

    Where rounding would make another equal to it, it is put one step above: what is kept has the accuracy of what was
    computed, however a tie counts.
    """
    half = probs.astype(np.float16)
    rows = np.arange(len(probs))
    likeliest = probs.argmax(axis=1)
    own = half[rows, likeliest]
    tied = (half == own[:, None]).sum(axis=1) > 1
    half[rows[tied], likeliest[tied]] = np.nextafter(own[tied], np.float16(2))
    return half
