"""Loops over arrays, compiled: where numpy and torch pass over memory again for every operation.

They run on one thread, and give NaN for NaN. Importing this module takes half a second, numba's; what is compiled is
kept on disk for the next process.
"""

import math
from typing import Any, Final

import numpy as np

from trainer.common.jit import njit, njit_sums

_LOG2_E: Final = np.float32(1 / math.log(2))
_MOST_BITS: Final = np.float32(126)  # beyond, a float32 power of two would be subnormal or infinite
_ONE, _HALF = np.float32(1), np.float32(0.5)
_T1, _T2, _T3, _T4, _T5, _T6 = (np.float32(math.log(2) ** k / math.factorial(k)) for k in range(1, 7))


@njit
def _sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of a float32, to a relative error of 2e-7, without a branch.

    exp(-x) is 2^k * 2^r, k whole, written into the exponent's bits, and |r| <= 1/2, by Taylor's series.
    """
    exponent = x * -_LOG2_E
    exponent = exponent if exponent > -_MOST_BITS else -_MOST_BITS
    exponent = exponent if exponent < _MOST_BITS else _MOST_BITS
    whole = np.floor(exponent + _HALF)
    r = exponent - whole
    power = _ONE + r * (_T1 + r * (_T2 + r * (_T3 + r * (_T4 + r * (_T5 + r * _T6)))))
    scale = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return _ONE / (_ONE + power * scale)


@njit
def swiglu(gate_up: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [n, h] with silu(gate) * up of gate_up [n, 2h]; all float32."""
    half = out.shape[1]
    for i in range(len(out)):
        for j in range(half):
            gate, up = gate_up[i, j], gate_up[i, half + j]
            out[i, j] = gate * _sigmoid(gate) * up


@njit
def swiglu_backward(gate_up: np.ndarray, grad: np.ndarray, grad_gate_up: np.ndarray) -> None:
    """Fill ``grad_gate_up`` [n, 2h] from the gradient [n, h] of ``swiglu``'s output; all float32."""
    half = grad.shape[1]
    for i in range(len(grad)):
        for j in range(half):
            gate, up, along = gate_up[i, j], gate_up[i, half + j], grad[i, j]
            sigmoid = _sigmoid(gate)
            silu = gate * sigmoid
            grad_gate_up[i, j] = along * up * (sigmoid + silu * (_ONE - sigmoid))
            grad_gate_up[i, half + j] = along * silu


@njit_sums
def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray, scale: np.ndarray) -> None:
    """Fill ``out`` [n, width] with x * scale * weight and ``scale`` [n] with 1 / sqrt(mean(x^2) + eps); all float32."""
    width = x.shape[1]
    for i in range(len(x)):
        squares = np.float32(0)
        for j in range(width):
            squares += x[i, j] * x[i, j]
        scale[i] = _ONE / np.sqrt(squares / np.float32(width) + np.float32(eps))
        its_scale = scale[i]
        for j in range(width):
            out[i, j] = x[i, j] * its_scale * weight[j]


@njit_sums
def rms_norm_backward(
    x: np.ndarray, weight: np.ndarray, scale: np.ndarray, grad: np.ndarray, grad_x: np.ndarray, grad_weight: np.ndarray
) -> None:
    """Fill ``grad_x`` [n, width] from the gradient of ``rms_norm``'s output; add to ``grad_weight`` float64 [width]."""
    width = x.shape[1]
    for i in range(len(x)):
        its_scale = scale[i]
        along = np.float32(0)
        for j in range(width):
            along += grad[i, j] * weight[j] * x[i, j]
        along *= its_scale * its_scale / np.float32(width)
        for j in range(width):
            grad_weight[j] += grad[i, j] * x[i, j] * its_scale
            grad_x[i, j] = (grad[i, j] * weight[j] - x[i, j] * along) * its_scale


@njit
def dropout(x: np.ndarray, bits: np.ndarray, threshold: int, scale: float, out: np.ndarray) -> None:
    """Fill float32 ``out`` [n] with x * scale where ``bits`` uint16 [n] reach the threshold, with 0 elsewhere."""
    for i in range(len(x)):
        out[i] = x[i] * np.float32(scale) if bits[i] >= threshold else np.float32(0)


@njit
def convolve(x: np.ndarray, ends: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` [n, width] with each sequence's depthwise convolution with ``weight`` [kernel, width], all float32.

    Sequence s of ``x`` [n, width] is ends[s]:ends[s + 1], and there are zeros around it.
    """
    radius, width = len(weight) // 2, x.shape[1]
    for s in range(len(ends) - 1):
        for i in range(ends[s], ends[s + 1]):
            for c in range(width):
                out[i, c] = 0
            for j in range(max(ends[s], i - radius), min(ends[s + 1], i + radius + 1)):
                for c in range(width):
                    out[i, c] += weight[j - i + radius, c] * x[j, c]


@njit
def convolve_backward_weight(x: np.ndarray, ends: np.ndarray, grad: np.ndarray, grad_weight: np.ndarray) -> None:
    """Add the gradient of ``convolve``'s weight to float64 [kernel, width], from that of its output, [n, width]."""
    radius, width = len(grad_weight) // 2, x.shape[1]
    for s in range(len(ends) - 1):
        for i in range(ends[s], ends[s + 1]):
            for j in range(max(ends[s], i - radius), min(ends[s + 1], i + radius + 1)):
                for c in range(width):
                    grad_weight[j - i + radius, c] += x[j, c] * grad[i, c]


@njit_sums
def softmax_backward(grad: np.ndarray, dropped: np.ndarray, weight: np.ndarray) -> None:
    """Turn the gradient of attention weights after dropout, in place, into that of the scores; all float32 [n, k].

    ``dropped`` is weight * mask, and 0 where weight is: with g = grad * dropped, a row becomes g - weight * sum(g).
    """
    for i in range(len(grad)):
        total = np.float32(0)
        for j in range(grad.shape[1]):
            through = grad[i, j] * dropped[i, j]
            grad[i, j] = through
            total += through
        for j in range(grad.shape[1]):
            grad[i, j] -= weight[i, j] * total
