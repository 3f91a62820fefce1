"""Packed attention against one sequence after the other, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.model.attention import attend
from trainer.model.dropout import Dropout
from trainer.model.packing import AttentionMode, Packing

pytestmark = pytest.mark.usefixtures("threads")

CPU = torch.device("cpu")
KEEP_ALL = Dropout(0.0, None)


def one_by_one(qkv: torch.Tensor, lengths: list[int], num_heads: int) -> torch.Tensor:
    """Rotary attention of the specification, sequence by sequence and head by head: [num_tokens, width]."""
    rows = []
    for sequence in qkv.double().split(lengths):
        angles = torch.arange(len(sequence)).double()[:, None] * 10000.0 ** (-torch.arange(32).double() / 32)
        turns = torch.polar(torch.ones_like(angles), angles)

        def rotate(x: torch.Tensor, turns: torch.Tensor = turns) -> torch.Tensor:
            turned = torch.complex(x[:, :32], x[:, 32:]) * turns
            return torch.cat([turned.real, turned.imag], dim=1)

        q, k, v = (part.split(64, dim=1) for part in sequence.chunk(3, dim=1))
        heads = []
        for head in range(num_heads):
            scores = rotate(q[head]) @ rotate(k[head]).T / 8
            powers = (scores - scores.max(dim=1, keepdim=True).values).exp()
            heads.append(powers / powers.sum(dim=1, keepdim=True) @ v[head])
        rows.append(torch.cat(heads, dim=1))
    return torch.cat(rows)


def first_rows(lengths: list[int]) -> list[int]:
    return [sum(lengths[:index]) for index in range(len(lengths))]


def check(lengths: list[int], num_heads: int, first_only: bool) -> None:
    generator = torch.Generator().manual_seed(sum(lengths))
    qkv = 2 * torch.randn(sum(lengths), 192 * num_heads, generator=generator)
    qkv.requires_grad_()
    expected = one_by_one(qkv, lengths, num_heads)
    if first_only:
        expected = expected[first_rows(lengths)]
    towards = torch.randn(expected.shape, generator=generator)
    (wanted,) = torch.autograd.grad((expected * towards).sum(), qkv)

    attended = attend(qkv, Packing(np.array(lengths), CPU), KEEP_ALL, AttentionMode(first_only=first_only))
    (gradient,) = torch.autograd.grad((attended * towards).sum(), qkv)
    torch.testing.assert_close(attended.double(), expected, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("num_heads", [1, 3])
@pytest.mark.parametrize("lengths", [[1], [513], [1, 513, 1], [7, 7, 7], [2, 3, 5, 1, 80, 81, 64, 30, 12, 12, 513]])
def test_equals_one_sequence_after_the_other(lengths: list[int], num_heads: int, first_only: bool) -> None:
    check(lengths, num_heads, first_only)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.sampled_from([1, 2]), st.booleans())
def test_equals_one_sequence_after_the_other_whatever_the_lengths(
    lengths: list[int], num_heads: int, first_only: bool
) -> None:
    check(lengths, num_heads, first_only)


@pytest.mark.parametrize("first_only", [False, True])
def test_dropout_keeps_the_expectation_and_drops_alike_backward(first_only: bool) -> None:
    lengths = [4, 9, 10, 33]
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 192, generator=generator, requires_grad=True)
    packing = Packing(np.array(lengths), CPU)
    exact = attend(qkv, packing, KEEP_ALL, AttentionMode(first_only=first_only))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        draws = torch.stack(
            [attend(qkv, packing, Dropout(0.3, rng), AttentionMode(first_only=first_only)) for _ in range(500)]
        )
    assert not torch.equal(draws[0], draws[1])
    error = (draws.mean(0) - exact).abs() / draws.std(0) * 500**0.5
    assert error.max() < 6

    # values enter linearly, so their gradient must give the output back: <v, d<out, w>/dv> = <out, w>
    dropped = attend(qkv, packing, Dropout(0.3, np.random.default_rng(1)), AttentionMode(first_only=first_only))
    towards = torch.randn(dropped.shape, generator=generator)
    (gradient,) = torch.autograd.grad((dropped * towards).sum(), qkv)
    product = (gradient[:, 128:] * qkv[:, 128:]).sum()
    torch.testing.assert_close(product, (dropped * towards).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [AttentionMode(), AttentionMode(causal=True), AttentionMode(first_only=True)])
def test_gradients_through_dropout_are_those_of_small_steps(mode: AttentionMode) -> None:
    lengths = [4, 9, 10, 33]
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 192, generator=generator)
    packing = Packing(np.array(lengths), CPU)
    towards = torch.randn(len(lengths) if mode.first_only else len(qkv), 64, generator=generator)

    def value(at: torch.Tensor) -> torch.Tensor:
        return (attend(at, packing, Dropout(0.3, np.random.default_rng(1)), mode) * towards).sum()

    (gradient,) = torch.autograd.grad(value(qkv.requires_grad_()), qkv)
    for part in range(3):  # queries, keys, values
        direction = torch.zeros_like(qkv)
        direction[:, 64 * part : 64 * part + 64] = gradient[:, 64 * part : 64 * part + 64]
        step = 0.01 * direction / direction.norm()
        with torch.no_grad():
            slope = (value(qkv + step) - value(qkv - step)) / 0.02
        assert slope.item() == pytest.approx(direction.norm().item(), rel=0.01)
