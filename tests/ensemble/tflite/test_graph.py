"""The writer of TFLite files, run on LiteRT."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ensemble.tflite.graph import Graph
from ensemble.tflite.runtime import Model
from trainer.landmarks import NUM_ROWS


def test_equal_constants_are_stored_once():
    graph = Graph()
    assert graph.constant(np.ones(3, np.float32)) is graph.constant(np.ones(3, np.float32))
    assert graph.constant(np.ones(3, np.float32)) is not graph.constant(np.ones((3, 1), np.float32))
    assert graph.constant(np.zeros(1, np.float32)) is not graph.constant(np.zeros(1, np.int32))


def test_every_buffer_is_aligned():
    """The schema demands 16 bytes; some runtimes refuse, or copy, what is not."""
    graph = Graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    x = graph.reshape(graph.reduce("SUM", graph.reduce("SUM", inputs, 0), 1), 3)
    for size in (1, 3, 3, 3):
        x = graph.elementwise("ADD", x, graph.constant(np.full(size, 0.5, np.float32)))
    content = graph.to_bytes({"inputs": inputs}, {"outputs": x}, "a test")
    parsed = schema.Model.GetRootAs(content, 0)
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for i in range(1, parsed.BuffersLength()):
        data = parsed.Buffers(i).DataAsNumpy()
        assert (data.__array_interface__["data"][0] - start) % 16 == 0


@pytest.mark.parametrize("length", [1, 5, 40])
def test_runs_what_was_appended(length: int):
    """Sums over frames and landmarks, scaled."""
    graph = Graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    sums = graph.reshape(graph.reduce("SUM", graph.reduce("SUM", inputs, 0), 1), 3)
    scaled = graph.elementwise("MUL", sums, graph.constant(np.array([1, 2, 3], np.float32)))
    model = Model(graph.to_bytes({"inputs": inputs}, {"outputs": scaled}, "a test"))
    frames = np.random.default_rng(length).random((length, NUM_ROWS, 3), dtype=np.float32)
    np.testing.assert_allclose(model(frames), frames.sum(axis=(0, 1)) * [1, 2, 3], rtol=1e-4)


def test_says_the_oldest_runtime_that_has_all_its_operators():
    graph = Graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    graph.elementwise("ADD", inputs, inputs)
    assert graph.min_runtime_version == "1.5.0"
    graph.unary("RSQRT", inputs)
    assert graph.min_runtime_version == "1.10.0"
    graph.elementwise("ADD", inputs, inputs)
    assert graph.min_runtime_version == "1.10.0"
