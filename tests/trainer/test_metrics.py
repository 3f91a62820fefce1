import math

import numpy as np
import pytest

from trainer.metrics import accuracy, log_loss, to_half


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_against_a_row_by_row_count(dtype: type) -> None:
    rng = np.random.default_rng(0)
    probs: np.ndarray = softmax(rng.normal(size=(200, 7))).astype(dtype)
    labels = rng.integers(0, 7, 200)
    right = [label == max(range(7), key=row.__getitem__) for row, label in zip(probs.tolist(), labels, strict=True)]
    surprise = [-math.log(row[label]) for row, label in zip(probs.tolist(), labels, strict=True)]
    assert accuracy(probs, labels) == sum(right) / 200
    assert log_loss(probs, labels) == pytest.approx(sum(surprise) / 200, rel=1e-12)


def test_values_known_by_hand() -> None:
    probs = np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    assert accuracy(probs, np.array([0, 2])) == 0.5
    assert log_loss(probs, np.array([0, 1])) == pytest.approx(math.log(2) / 2)
    assert log_loss(np.full((3, 250), 1 / 250), np.arange(3)) == pytest.approx(math.log(250))


def test_a_probability_of_zero_is_a_large_finite_loss() -> None:
    loss = log_loss(np.array([[1.0, 0.0]], dtype=np.float16), np.array([1]))
    # beyond what float16 can hold apart from zero, and finite
    assert -math.log(float(np.finfo(np.float16).smallest_subnormal)) < loss < 20


def test_a_float16_probability_is_averaged_in_higher_precision() -> None:
    probs = np.full((70_000, 2), 0.5, dtype=np.float16)
    assert log_loss(probs, np.zeros(70_000, dtype=np.int64)) == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("metric", [accuracy, log_loss])
@pytest.mark.parametrize(("probs", "labels"), [((0, 3), (0,)), ((2, 3), (3,)), ((3,), (3,)), ((2, 3), (2, 1))])
def test_ill_shaped_arrays_raise(metric: type, probs: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected, not"):
        metric(np.ones(probs), np.zeros(labels, dtype=np.int64))


def test_halves_keep_the_likeliest_sign_the_only_likeliest() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(250, 1e4), 4_000).astype(np.float32)  # all but equal: many tie as float16
    half = to_half(probs)
    plain = probs.astype(np.float16)
    assert ((plain == plain.max(axis=1, keepdims=True)).sum(axis=1) > 1).mean() > 0.1
    assert ((half == half.max(axis=1, keepdims=True)).sum(axis=1) == 1).all()
    assert (half.argmax(axis=1) == probs.argmax(axis=1)).all()
    np.testing.assert_allclose(half, plain, rtol=2e-3)
    assert (half != plain).sum() < len(probs)
