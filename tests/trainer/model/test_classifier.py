"""The packed model against a padded one written here from the specification alone."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.data.features import features
from trainer.model.classifier import SignClassifier, num_parameters, weight_shapes
from trainer.model.packing import Packing

LENGTHS = np.array([5, 1, 40, 12, 5, 7, 23, 1, 39])
SMALL = ModelConfig(num_heads=2, num_layers=2, num_signs=11, dropout=0.3, max_frames=40, motion=0)


def sharp_model(config: ModelConfig, seed: int = 0) -> SignClassifier:
    """A model whose weights are large enough for every part of it to matter to the logits."""
    generator = torch.Generator().manual_seed(seed)
    model = SignClassifier(config, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def sequences(lengths: np.ndarray, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(int(lengths.sum()), 85, 2, generator=generator)


def padded_reference(
    weights: dict[str, torch.Tensor], config: ModelConfig, frames: torch.Tensor, lengths: np.ndarray
) -> torch.Tensor:
    """Logits by the specification: one padded batch, a key mask, and no code of the trainer's."""
    batch, longest, width, heads = len(lengths), int(lengths.max()), 64 * config.num_heads, config.num_heads
    pieces = torch.split(frames.flatten(1), lengths.tolist())
    padded = torch.nn.utils.rnn.pad_sequence(list(pieces), batch_first=True)
    tokens = padded @ weights["embed.weight"].T + weights["positions"][:longest]
    x = torch.cat([weights["cls"].expand(batch, 1, width), tokens], dim=1)
    outside = torch.arange(longest + 1)[None] > torch.from_numpy(lengths)[:, None]
    mask = torch.zeros(batch, longest + 1).masked_fill(outside, -torch.inf)[:, None, None]
    angles = torch.arange(longest + 1)[:, None] * 10000 ** (-torch.arange(32) / 32)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]

    def rotate(x: torch.Tensor) -> torch.Tensor:
        a, b = x[..., :32], x[..., 32:]
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)

    def split_heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(batch, longest + 1, heads, 64).transpose(1, 2)

    for i in range(config.num_layers):
        block = {name.removeprefix(f"blocks.{i}."): value for name, value in weights.items()}
        q, k, v = (norm(x, f"blocks.{i}.attention_norm") @ block["qkv.weight"].T).split(width, dim=-1)
        q, k, v = rotate(split_heads(q)), rotate(split_heads(k)), split_heads(v)
        attended = torch.softmax(q @ k.transpose(-1, -2) / 8 + mask, dim=-1) @ v
        x = x + attended.transpose(1, 2).reshape(batch, -1, width) @ block["out.weight"].T
        gate, up = (norm(x, f"blocks.{i}.ffn_norm") @ block["gate_up.weight"].T).chunk(2, dim=-1)
        x = x + (gate * torch.sigmoid(gate) * up) @ block["down.weight"].T
    return norm(x[:, 0], "norm") @ weights["head.weight"].T + weights["head.bias"]


def directed_loss(logits: torch.Tensor) -> torch.Tensor:
    targets = torch.arange(len(logits)) % logits.shape[1]
    return F.cross_entropy(logits, targets)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        ModelConfig(num_heads=1, num_layers=1, num_signs=3, max_frames=40, motion=0),
        ModelConfig(num_heads=3, motion=0),
    ],
)
def test_logits_and_gradients_equal_the_padded_reference(config: ModelConfig) -> None:
    model, frames = sharp_model(config), sequences(LENGTHS)
    logits = model(frames, LENGTHS)
    directed_loss(logits).backward()
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.state_dict().items()}
    expected = padded_reference(weights, config, frames, LENGTHS)
    directed_loss(expected).backward()

    assert logits.shape == (len(LENGTHS), config.num_signs)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        gradient, wanted = parameter.grad, weights[name].grad
        assert wanted is not None
        error = (gradient - wanted).norm() / wanted.norm()
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


def test_the_longest_sequence_allowed() -> None:
    lengths = np.array([512, 3])
    model = sharp_model(ModelConfig(num_heads=1, num_layers=2, num_signs=5, motion=0))
    frames = sequences(lengths)
    with torch.no_grad():
        expected = padded_reference(model.state_dict(), model.config, frames, lengths)
        torch.testing.assert_close(model(frames, lengths), expected, rtol=1e-4, atol=1e-4)


def test_a_sequences_logits_do_not_depend_on_its_batch() -> None:
    model, frames = sharp_model(SMALL), sequences(LENGTHS)
    pieces = torch.split(frames, LENGTHS.tolist())
    with torch.no_grad():
        together = model(frames, LENGTHS)
        for index, piece in enumerate(pieces):
            torch.testing.assert_close(model(piece, LENGTHS[[index]])[0], together[index], rtol=1e-5, atol=1e-5)
        order = np.random.default_rng(0).permutation(len(LENGTHS))
        shuffled = model(torch.cat([pieces[index] for index in order]), LENGTHS[order])
        torch.testing.assert_close(shuffled, together[order], rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32() -> None:
    model, frames = sharp_model(SMALL), sequences(LENGTHS)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        model.zero_grad()
        logits = model(frames, LENGTHS, dtype=dtype)
        directed_loss(logits).backward()
        gradients_of = {name: item.grad.clone() for name, item in model.named_parameters() if item.grad is not None}
        results.append((logits, gradients_of))
    (exact, exact_gradients), (rounded, gradients) = results
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() / exact.norm() < 0.02
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        assert (gradient - exact_gradients[name]).norm() / exact_gradients[name].norm() < 0.05, name


def test_nothing_is_dropped_without_a_generator() -> None:
    """In training mode too: the mode of the module decides nothing."""
    model, frames = sharp_model(SMALL), sequences(LENGTHS)
    undropped = SignClassifier(ModelConfig(**{**vars(SMALL), "dropout": 0.0}))
    undropped.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = undropped(frames, LENGTHS, np.random.default_rng(0))
        for mode in (True, False):
            assert torch.equal(model.train(mode)(frames, LENGTHS), expected)


def test_dropout_is_decided_by_its_generator_alone() -> None:
    model, frames = sharp_model(SMALL).eval(), sequences(LENGTHS)
    with torch.no_grad():
        first, again, other = (model(frames, LENGTHS, np.random.default_rng(seed)) for seed in (0, 0, 1))
        undropped = model(frames, LENGTHS)
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(dim=1).any()
    assert not torch.isclose(first, undropped).all(dim=1).any()


def test_gradients_through_dropout_agree_with_finite_differences() -> None:
    """What is dropped forward is dropped backward: along each parameter's gradient, and along a random direction."""
    model, frames = sharp_model(SMALL), sequences(LENGTHS)
    generator = torch.Generator().manual_seed(1)

    def loss() -> torch.Tensor:
        return directed_loss(model(frames, LENGTHS, np.random.default_rng(7)))

    loss().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        direction = parameter.grad / parameter.grad.norm()
        direction = direction + torch.randn(parameter.shape, generator=generator) * parameter.numel() ** -0.5
        slope = (parameter.grad * direction).sum().item()
        start, step = parameter.detach().clone(), 1e-2
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter.copy_(start + sign * step * direction)
                values.append(loss().item())
            parameter.copy_(start)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=0.03, abs=2e-4), name


@pytest.mark.parametrize(("num_heads", "num_layers", "millions"), [(6, 5, 9.2), (2, 6, 1.7)])
def test_parameter_counts_are_the_seeds(num_heads: int, num_layers: int, millions: float) -> None:
    model = SignClassifier(ModelConfig(num_heads=num_heads, num_layers=num_layers, num_signs=250, motion=0))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 1) == millions


def test_state_dict_is_what_exporters_rely_on() -> None:
    width, ffn, config = 128, 512, SMALL
    expected: dict[str, tuple[int, ...]] = {
        "embed.weight": (width, 170),
        "positions": (config.max_frames, width),
        "cls": (width,),
        "norm.weight": (width,),
        "head.weight": (config.num_signs, width),
        "head.bias": (config.num_signs,),
    }
    for i in range(config.num_layers):
        expected |= {
            f"blocks.{i}.attention_norm.weight": (width,),
            f"blocks.{i}.qkv.weight": (3 * width, width),
            f"blocks.{i}.out.weight": (width, width),
            f"blocks.{i}.ffn_norm.weight": (width,),
            f"blocks.{i}.gate_up.weight": (2 * ffn, width),
            f"blocks.{i}.down.weight": (width, ffn),
        }
    state = SignClassifier(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_initial_weights_come_from_the_generator() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        return SignClassifier(SMALL, torch.Generator().manual_seed(seed)).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    differing = {name for name in first if not torch.equal(first[name], other[name])}
    assert set(first) - differing == {name for name in first if name.endswith("norm.weight") or name == "head.bias"}


@pytest.mark.parametrize("lengths", [[], [3, 0, 2], [41], [3, 41]])
def test_empty_and_overlong_sequences_raise(lengths: list[int]) -> None:
    array = np.array(lengths, dtype=np.int64)
    with pytest.raises(ValueError, match=r"."):
        SignClassifier(SMALL)(sequences(array), array)


def test_a_convolution_of_one_is_the_model_without_it() -> None:
    """It begins close to that."""
    plain, config = sharp_model(SMALL), dataclasses.replace(SMALL, conv_kernel=5)
    begun = SignClassifier(config, torch.Generator().manual_seed(0)).state_dict()
    for name in ("blocks.0.conv.weight", "blocks.1.conv.weight"):
        assert (begun[name] - torch.eye(5)[2][:, None]).abs().max() < 0.1
    model, frames = SignClassifier(config), sequences(LENGTHS)
    model.load_state_dict(
        plain.state_dict() | {name: torch.eye(5)[2][:, None].repeat(1, 128) for name in begun if "conv" in name}
    )
    torch.testing.assert_close(model(frames, LENGTHS), plain(frames, LENGTHS))
    assert num_parameters(config) == num_parameters(SMALL) + 2 * 5 * 128 == sum(map(torch.numel, model.parameters()))


@pytest.mark.parametrize("asked", [{"motion": 3}, {"distances": True}, {"hand_frame": True, "landmarks": "hands"}])
def test_a_model_is_the_plain_one_on_the_features_it_sees(asked: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **asked)
    model, frames = sharp_model(config), sequences(LENGTHS)
    seen = features(frames, Packing(LENGTHS, frames.device).positions, config)
    weights = model.state_dict() | {"embed.weight": torch.eye(config.width)}
    with torch.no_grad():
        expected = padded_reference(weights, config, seen @ model.state_dict()["embed.weight"].T, LENGTHS)
        torch.testing.assert_close(model(frames, LENGTHS), expected, rtol=1e-4, atol=1e-4)
    assert num_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_counted_as_a_model_has_them() -> None:
    shapes = itertools.product(
        (1, 3, 4), (1, 2), ("rmsnorm", "layernorm"), (True, False), ("cls", "mean"), ("all", "hands"), (5, 512)
    )
    for heads, layers, norm, learned, pooling, landmarks, frames in shapes:
        config = ModelConfig(
            num_heads=heads,
            num_layers=layers,
            num_signs=17,
            max_frames=frames,
            norm=norm,
            learned_positions=learned,
            pooling=pooling,
            landmarks=landmarks,
        )
        with torch.device("meta"):
            model = SignClassifier(config)
        assert num_parameters(config) == sum(parameter.numel() for parameter in model.parameters())
        expected = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
        assert weight_shapes(config) == expected


def test_a_model_that_no_file_could_hold_is_refused_before_it_is_built() -> None:
    with pytest.raises(UserError, match=r"2 heads x 100000000 layers are .* parameters; .* make the model smaller"):
        SignClassifier(ModelConfig(num_layers=100_000_000))
    with torch.device("meta"):
        assert num_parameters(ModelConfig(num_heads=128, num_layers=2)) < 2**31
        SignClassifier(ModelConfig(num_heads=128, num_layers=2))
