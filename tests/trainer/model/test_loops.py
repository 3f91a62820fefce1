"""Compiled loops, against numpy in float64."""

import numpy as np
import pytest

from trainer.model import loops


def test_swiglu_is_accurate_from_the_smallest_gate_to_the_largest() -> None:
    gate = np.concatenate([np.linspace(-200, 200, 4001), [-np.inf, np.inf, 0]]).astype(np.float32)[:, None]
    gate_up = np.concatenate([gate, np.ones_like(gate)], axis=1)
    out = np.empty_like(gate)
    loops.swiglu(gate_up[np.isfinite(gate[:, 0])], out[: np.isfinite(gate).sum()])
    wide = gate[np.isfinite(gate)].astype(np.float64)
    with np.errstate(over="ignore"):
        expected = wide / (1 + np.exp(-wide))
    np.testing.assert_allclose(out[: len(wide), 0], expected, rtol=1e-5, atol=1e-30)


def test_nan_gives_nan() -> None:
    gate_up = np.array([[np.nan, 1.0], [1.0, np.nan], [1.0, 1.0]], np.float32)
    out = np.empty((3, 1), np.float32)
    loops.swiglu(gate_up, out)
    assert np.isnan(out[:, 0]).tolist() == [True, True, False]


def test_rms_norm_of_a_row_does_not_depend_on_other_rows() -> None:
    x = np.random.default_rng(0).normal(size=(5, 128)).astype(np.float32)
    weight = np.linspace(0.5, 2, 128, dtype=np.float32)
    out, scale = np.empty_like(x), np.empty(5, np.float32)
    loops.rms_norm(x, weight, 1e-5, out, scale)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).mean(1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-7)
    alone, its_scale = np.empty((1, 128), np.float32), np.empty(1, np.float32)
    loops.rms_norm(x[2:3], weight, 1e-5, alone, its_scale)
    np.testing.assert_array_equal(alone[0], out[2])


@pytest.mark.parametrize("threshold", [0, 1, 32768, 65535])
def test_dropout_keeps_what_reaches_the_threshold(threshold: int) -> None:
    bits = np.array([0, 1, 32767, 32768, 65535], np.uint16)
    x, out = np.arange(1, 6, dtype=np.float32), np.empty(5, np.float32)
    loops.dropout(x, bits, threshold, 2.0, out)
    np.testing.assert_array_equal(out, np.where(bits >= threshold, 2 * x, 0))


def test_softmax_backward_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    weight = rng.dirichlet(np.ones(7), 4).astype(np.float32)
    grad = rng.normal(size=(4, 7)).astype(np.float32)
    expected = weight * (grad - (grad * weight).sum(1, keepdims=True))
    loops.softmax_backward(grad, weight.copy(), weight)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)
