"""Files against the PyTorch model and trainer.data.normalize, which they share no code with."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from ensemble.tflite import export
from ensemble.tflite.runtime import Model
from tests.ensemble.conftest import random_classifier
from trainer.common.errors import UserError
from trainer.config import ModelConfig
from trainer.data.batches import resize_indices
from trainer.data.normalize import normalize, pick_landmarks
from trainer.landmarks import FACE_ROWS, LEFT_HAND_ROWS, NUM_ROWS, RIGHT_HAND_ROWS
from trainer.model.classifier import SignClassifier

LENGTHS = [1, 2, 38, 511, 512, 513, 600]


def sequence(length: int, *missing: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Raw landmarks off centre, with whole groups missing in some frames and single points in others."""
    rng = np.random.default_rng((seed, length))
    raw = rng.normal(0.5, 0.3, (length, NUM_ROWS, 3)).astype(np.float32)
    for rows in (FACE_ROWS, LEFT_HAND_ROWS, RIGHT_HAND_ROWS):
        raw[np.ix_(rng.random(length) < 0.3, np.array(rows))] = np.nan
    raw[rng.random((length, NUM_ROWS, 3)) < 0.02] = np.nan
    for rows in missing:
        raw[:, rows] = np.nan
    return raw


@torch.inference_mode()
def predict(model: SignClassifier, raw: np.ndarray) -> np.ndarray:
    points = normalize(pick_landmarks(raw))
    points = points[resize_indices(len(points), min(len(points), model.config.max_frames))]
    return torch.softmax(model(torch.from_numpy(points), np.array([len(points)]))[0], dim=0).numpy()


def member(model: SignClassifier, count: int = 1, precision: str = "float32") -> export.Member:
    weights = {name: weight.numpy() for name, weight in model.state_dict().items()}
    return export.Member(model.config, weights, count, precision)


@pytest.fixture(scope="module")
def models() -> list[SignClassifier]:
    shapes = [(2, 3), (3, 1)]
    return [random_classifier(ModelConfig(num_heads=h, num_layers=n), seed=h) for h, n in shapes]


@pytest.fixture(scope="module")
def ensemble(models: list[SignClassifier]) -> Model:
    return Model(export.build([member(models[0], 2), member(models[1], 1)]))


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_pytorch_at_every_length(ensemble: Model, models: list[SignClassifier], length: int):
    raw = sequence(length)
    expected = (2 * predict(models[0], raw) + predict(models[1], raw)) / 3
    np.testing.assert_allclose(ensemble(raw), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-3  # not so flat that anything would pass


@pytest.mark.parametrize(
    "missing",
    [
        (FACE_ROWS, tuple(range(489, 500))),
        (LEFT_HAND_ROWS, RIGHT_HAND_ROWS),
        (tuple(range(NUM_ROWS)),),
    ],
    ids=["no head", "no hands", "nothing"],
)
def test_equals_pytorch_whatever_is_missing(
    ensemble: Model, models: list[SignClassifier], missing: tuple[tuple[int, ...], ...]
):
    raw = sequence(21, *missing)
    expected = (2 * predict(models[0], raw) + predict(models[1], raw)) / 3
    np.testing.assert_allclose(ensemble(raw), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("landmarks", "norm", "learned_positions", "rotary", "pooling"),
    list(
        itertools.product(
            ("all", "hands_lips"), ("rmsnorm", "layernorm"), (True, False), (True, False), ("cls", "mean")
        )
    ),
)
def test_equals_pytorch_with_every_option(
    landmarks: str, norm: str, learned_positions: bool, rotary: bool, pooling: str
):
    config = ModelConfig(
        num_heads=1,
        num_layers=2,
        num_signs=9,
        max_frames=16,
        landmarks=landmarks,
        norm=norm,
        learned_positions=learned_positions,
        rotary=rotary,
        pooling=pooling,
    )
    model = random_classifier(config)
    file = Model(export.build([member(model)]))
    for length in (1, 9, 40):
        np.testing.assert_allclose(file(sequence(length)), predict(model, sequence(length)), atol=1e-5)


def share_of_same_signs(content: bytes, model: SignClassifier) -> float:
    """Of 40 sequences, for how many file and model name the same sign."""
    file = Model(content)
    sequences = [sequence(20, seed=seed) for seed in range(40)]
    return float(np.mean([file(raw).argmax() == predict(model, raw).argmax() for raw in sequences]))


def test_float16_halves_the_file_and_keeps_the_sign(models: list[SignClassifier]):
    full, half = (export.build([member(models[0], 1, precision)]) for precision in ("float32", "float16"))
    assert len(half) < 0.55 * len(full)
    assert share_of_same_signs(half, models[0]) >= 0.97


def test_int8_is_smaller_yet_and_mostly_keeps_the_sign(models: list[SignClassifier]):
    half, quarter = (export.build([member(models[0], 1, precision)]) for precision in ("float16", "int8"))
    assert len(quarter) < 0.75 * len(half)
    same = share_of_same_signs(quarter, models[0])
    assert same >= 0.8  # of untrained models, whose probabilities are close to each other


def test_order_of_lengths_does_not_matter(ensemble: Model):
    first = {length: ensemble(sequence(length)) for length in LENGTHS}
    again = {length: ensemble(sequence(length)) for length in reversed(LENGTHS)}
    for length in LENGTHS:
        np.testing.assert_array_equal(first[length], again[length])


def test_a_call_without_frames_gives_probabilities_and_leaves_no_trace(models: list[SignClassifier]):
    """The file itself, without this package's wrapper, which refuses such a call."""
    content = export.build([member(model) for model in models])
    rng = np.random.default_rng(0)
    model = Model(content)
    for length in (0, 1, 0, 2, 0, 38, 0, 600, 0, 7):  # each longer than all before: LiteRT's XNNPACK went wrong there
        frames = rng.random((length, NUM_ROWS, 3), dtype=np.float32)
        probs = model._run(inputs=frames)["outputs"]
        assert probs.sum() == pytest.approx(1, abs=1e-5)
        if length:
            np.testing.assert_array_equal(probs, Model(content)(frames))


def test_members_must_fit_together(models: list[SignClassifier]):
    other = random_classifier(ModelConfig(num_heads=1, num_layers=1, num_signs=3))
    with pytest.raises(ValueError, match="num_signs"):
        export.build([member(models[0]), member(other)])
    with pytest.raises(ValueError, match="num_signs"):
        export.build([])


def test_every_buffer_is_aligned(models: list[SignClassifier]):
    """The schema demands 16 bytes; some runtimes refuse, or copy, what is not."""
    from ai_edge_litert import schema_py_generated as schema

    content = export.build([member(models[1])])
    parsed = schema.Model.GetRootAs(content, 0)
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for i in range(1, parsed.BuffersLength()):
        data = parsed.Buffers(i).DataAsNumpy()
        assert (data.__array_interface__["data"][0] - start) % 16 == 0


def test_a_precision_is_one_entry_of_the_table(models: list[SignClassifier], monkeypatch: pytest.MonkeyPatch):
    """Here one that rounds to whole sixteenths."""
    half = export.PRECISIONS["float16"]
    sixteenths = dataclasses.replace(
        half, matrix=lambda graph, value: half.matrix(graph, np.rint(16 * value) / np.float32(16))
    )
    monkeypatch.setitem(export.PRECISIONS, "sixteenths", sixteenths)
    content = export.build([member(models[0], precision="sixteenths")])
    found = Model(content)(sequence(20))
    assert 1e-3 < np.abs(found - predict(models[0], sequence(20))).max() < 0.5


def test_weights_too_large_for_a_precision_are_refused(models: list[SignClassifier]):
    big = member(models[1], precision="int8")
    weights = {name: weight * 1e6 for name, weight in big.weights.items()}
    with pytest.raises(UserError, match="weights too large for int8; choose another precision"):
        export.build([dataclasses.replace(big, weights=weights)])
