"""Running files on LiteRT."""

import os

import numpy as np
import pytest

from ensemble.tflite.graph import Graph
from ensemble.tflite.runtime import Model
from trainer.common.errors import UserError
from trainer.landmarks import NUM_ROWS


def test_takes_sequences_of_any_length_one_after_the_other(small_model: bytes):
    model = Model(small_model)
    rng = np.random.default_rng(0)
    frames = [rng.random((length, NUM_ROWS, 3), dtype=np.float32) for length in (30, 1, 30)]
    frames[2] = frames[0]
    first, _, again = (model(item).copy() for item in frames)
    np.testing.assert_array_equal(first, again)
    assert first.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((0, NUM_ROWS, 3), np.float32),
        ((9, NUM_ROWS, 2), np.float32),  # LiteRT takes them for 6 frames
        ((9, 85, 2), np.float32),
        ((NUM_ROWS, 3), np.float32),
        ((1, 9, NUM_ROWS, 3), np.float32),
        ((9, NUM_ROWS * 3), np.float32),
        ((), np.float32),
        ((9, NUM_ROWS, 3), np.float64),
    ],
)
def test_landmarks_of_another_shape_are_refused_and_leave_no_trace(
    shape: tuple[int, ...], kind: type, small_model: bytes
):
    model = Model(small_model)
    frames = np.random.default_rng(0).random((9, NUM_ROWS, 3), dtype=np.float32)
    with pytest.raises(UserError, match=r"landmarks must be float32 \[n, 543, 3\] with n of at least 1, not float"):
        model(np.zeros(shape, kind))
    np.testing.assert_array_equal(model(frames), Model(small_model)(frames))


def test_threads_change_nothing_but_the_time(small_model: bytes):
    frames = np.random.default_rng(0).random((30, NUM_ROWS, 3), dtype=np.float32)
    np.testing.assert_allclose(Model(small_model, threads=2)(frames), Model(small_model)(frames), atol=1e-6)


def test_says_what_the_file_takes(small_model: bytes):
    model = Model(small_model)
    assert model.input_shape == (-1, NUM_ROWS, 3)
    assert model.input_dtype == np.float32


def test_another_signature_is_named():
    graph = Graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    content = graph.to_bytes({"frames": inputs}, {"outputs": graph.elementwise("ADD", inputs, inputs)}, "a test")
    with pytest.raises(UserError, match=r"must have .*'inputs'.*not .*'frames'"):
        Model(content)


def test_what_native_code_writes_stays_off_the_terminal(small_model: bytes, capfd: pytest.CaptureFixture[str]):
    Model(small_model)
    os.write(2, b"after")  # standard error is itself again
    assert capfd.readouterr().err == "after"
