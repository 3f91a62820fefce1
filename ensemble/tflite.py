"""Members -> one TFLite file: preprocessing, every member, and the average of their probabilities.

Input ``inputs`` float32 [n, 543, 3], any n >= 1, NaN where missing; output ``outputs`` float32 [num_signs]. The
graph does what trainer.normalize, trainer.dataset.resize_indices and trainer.model do, rearranged for speed:
norm weights are folded into the next matrix, rotary halves are two matrices so that nothing is sliced, the last
block computes the CLS token alone, and every shape follows from n, so XNNPACK runs it all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ensemble.flatgraph import Graph, Tensor
from trainer.config import HEAD_DIM
from trainer.landmarks import HEAD, NUM_LANDMARKS, NUM_ROWS, ROWS
from trainer.model import NORM_EPS, ROTARY_THETA

COORDINATES: Final = 2 * NUM_LANDMARKS  # inputs a frame: landmark by landmark, x then y
PRECISIONS: Final = ("float32", "float16")


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, and how often it counts."""

    weights: Mapping[str, np.ndarray]
    """float32, named as in SignClassifier's state_dict"""
    count: int = 1
    precision: str = "float32"
    """How its matrices are stored: float32 or float16"""


def build(members: Sequence[Member], description: str = "sign ensemble") -> bytes:
    """The .tflite file of an ensemble: the average of its members' probabilities, weighted by their counts.

    All members must know the same signs and the same longest sequence. Raises ValueError if they do not, or if
    there is none.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    shapes = {(len(m.weights["head.bias"]), len(m.weights["positions"])) for m in members}
    if len(shapes) > 1:
        raise ValueError(f"members differ in (signs, longest sequence): {sorted(shapes)}")
    max_frames = shapes.pop()[1]
    graph = Graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    shared = _Preprocessing(graph, inputs, max_frames)
    total = sum(member.count for member in members)
    average: Tensor | None = None
    for member in members:
        probs = graph.softmax(_Classifier(graph, shared, member).logits())
        share = graph.elementwise("MUL", probs, graph.constant(np.array(member.count / total, np.float32)))
        average = share if average is None else graph.elementwise("ADD", average, share)
    assert average is not None
    outputs = graph.reshape(average, average.shape[1])
    return graph.to_bytes({"inputs": inputs}, {"outputs": outputs}, description)


class _Preprocessing:
    """What every member shares: its input frames, token numbers, and rotary tables. T = min(n, max_frames) + 1."""

    def __init__(self, graph: Graph, inputs: Tensor, max_frames: int) -> None:
        self.graph = graph
        frames, ones = self._normalise(inputs)
        count = graph.op("CUMSUM", (ones, graph.constant(np.array(0, np.int32))), (-1,), np.int32, "CumsumOptions")
        step = graph.elementwise("SUB", graph.slice(count, 0, 0, max_frames), graph.constant(np.array(1, np.int32)))
        kept = graph.slice(ones, 0, 0, max_frames)
        total, most = graph.reduce("SUM", ones, 0), graph.reduce("SUM", kept, 0)
        source = graph.elementwise("FLOOR_DIV", graph.elementwise("MUL", step, total), most)
        zero = graph.constant(np.zeros((1, COORDINATES), np.float32))
        self.frames = graph.concatenate((zero, graph.gather(frames, source, 0)), 0)
        """float32 [T, 170]; the CLS token's row is zero"""
        self.tokens = graph.concatenate(
            (graph.constant(np.zeros(1, np.int32)), graph.slice(count, 0, 0, max_frames)), 0
        )
        """int32 [T]: 0, 1, ... T - 1"""
        angles = np.arange(max_frames + 1)[:, None] * ROTARY_THETA ** (-np.arange(HEAD_DIM // 2) / (HEAD_DIM // 2))
        self._tables = [
            graph.gather(graph.constant(f(angles).astype(np.float32)), self.tokens, 0) for f in (np.cos, np.sin)
        ]
        self._rotary: dict[int, tuple[Tensor, Tensor]] = {}

    def _normalise(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Centred frames, 0 where missing: float32 [n, 170]; and int32 ones [n]."""
        graph = self.graph
        flat = graph.reshape(inputs, -1, NUM_ROWS * 3)
        columns = np.array([3 * row + axis for row in ROWS for axis in (0, 1)], np.int32)
        points = graph.gather(flat, graph.constant(columns), 1)
        others = graph.gather(flat, graph.constant(columns.reshape(-1, 2)[:, ::-1].reshape(-1).copy()), 1)
        both = graph.elementwise("ADD", points, others)  # NaN where either coordinate is
        present = graph.op("EQUAL", (both, both), both.shape, np.bool_, "EqualOptions")
        zeros = graph.elementwise("MUL", present_float := graph.cast(present, np.float32), _scalar(graph, 0))
        known = graph.op("SELECT", (present, points, zeros), points.shape, options="SelectOptions")
        head = np.zeros((2, NUM_LANDMARKS, 2), np.float32)
        head[0, HEAD, 0] = head[1, HEAD, 1] = 1
        pick = graph.constant(head.reshape(2, COORDINATES))
        sums = graph.reduce("SUM", graph.linear(known, pick), 0)
        counts = graph.reduce("SUM", graph.linear(present_float, pick), 0)
        offset = graph.elementwise("DIV", sums, graph.elementwise("MAXIMUM", counts, _scalar(graph, 1)))
        spread = graph.constant(np.tile(np.eye(2, dtype=np.float32), (NUM_LANDMARKS, 1)))
        centred = graph.elementwise("SUB", points, graph.linear(offset, spread))
        frames = graph.op("SELECT", (present, centred, zeros), points.shape, options="SelectOptions")
        zero = graph.cast(graph.reshape(graph.slice(zeros, 1, 0, 1), -1), np.int32)
        return frames, graph.elementwise("ADD", zero, graph.constant(np.array(1, np.int32)))

    def rotary(self, blocks: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [T, blocks * 32] of every token's angles, for so many heads side by side."""
        if blocks not in self._rotary:
            cos, sin = (self.graph.tile(table, 1, blocks) for table in self._tables)
            self._rotary[blocks] = cos, sin
        return self._rotary[blocks]


def _scalar(graph: Graph, value: float) -> Tensor:
    return graph.constant(np.array(value, np.float32))


class _Classifier:
    """One member's part of the graph, from the shared input to its logits [1, num_signs]."""

    def __init__(self, graph: Graph, shared: _Preprocessing, member: Member) -> None:
        self.graph, self.shared, self.member = graph, shared, member
        self.weights = member.weights
        self.width = len(self.weights["cls"])
        self.heads = self.width // HEAD_DIM
        self.layers = 1 + max(int(name.split(".")[1]) for name in self.weights if name.startswith("blocks."))

    def logits(self) -> Tensor:
        graph, weights = self.graph, self.weights
        table = np.concatenate((weights["cls"][None], weights["positions"]))
        x = self._linear(self.shared.frames, weights["embed.weight"])
        x = graph.elementwise("ADD", x, graph.gather(self._matrix(table), self.shared.tokens, 0))
        for index in range(self.layers):
            x = self._block(x, f"blocks.{index}.", last=index == self.layers - 1)
        normed = self._norm(x)
        return self._linear(normed, weights["head.weight"] * weights["norm.weight"], weights["head.bias"])

    def _matrix(self, value: np.ndarray) -> Tensor:
        if self.member.precision == "float32":
            return self.graph.constant(value.astype(np.float32))
        half = self.graph.constant(value.astype(np.float16))
        return self.graph.op("DEQUANTIZE", (half,), value.shape, options="DequantizeOptions")

    def _linear(self, x: Tensor, weight: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        return self.graph.linear(x, self._matrix(weight), None if bias is None else self.graph.constant(bias))

    def _norm(self, x: Tensor) -> Tensor:
        """RMSNorm without its weight, which the callers fold into the next matrix."""
        graph = self.graph
        mean = graph.reduce("MEAN", graph.elementwise("MUL", x, x), 1)
        scale = graph.unary("RSQRT", graph.elementwise("ADD", mean, _scalar(graph, NORM_EPS)))
        return graph.elementwise("MUL", x, scale)

    def _block(self, x: Tensor, prefix: str, last: bool) -> Tensor:
        """One block on x [T, d]; the last gives the CLS token alone, [1, d]."""
        graph = self.graph
        norm = self.weights[f"{prefix}attention_norm.weight"]
        q, k, v = np.split(self.weights[f"{prefix}qkv.weight"] * norm, 3)
        normed = self._norm(x)
        query = graph.slice(normed, 0, 0, 1) if last else normed
        attended = self._attend(*self._rotated(normed, query, q / np.sqrt(HEAD_DIM), k), self._linear(normed, v))
        if last:
            x = graph.slice(x, 0, 0, 1)
        x = graph.elementwise("ADD", x, self._linear(attended, self.weights[f"{prefix}out.weight"]))
        normed = self._norm(x)
        gate_up = self.weights[f"{prefix}gate_up.weight"] * self.weights[f"{prefix}ffn_norm.weight"]
        gate, up = (self._linear(normed, half) for half in np.split(gate_up, 2))
        hidden = graph.elementwise("MUL", graph.elementwise("MUL", gate, graph.unary("LOGISTIC", gate)), up)
        return graph.elementwise("ADD", x, self._linear(hidden, self.weights[f"{prefix}down.weight"]))

    def _rotated(self, keys: Tensor, query: Tensor, q: np.ndarray, k: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rotary queries [h, Q, 64] and keys [h, T, 64]; Q is 1 (CLS, angle 0) if ``query`` is a single row."""
        graph, heads = self.graph, self.heads
        if query is not keys:
            rows = self._linear(query, q)
            return graph.reshape(rows, heads, 1, HEAD_DIM), self._rotate(keys, [k])
        both = self._rotate(keys, [q, k])
        return graph.slice(both, 0, 0, heads), graph.slice(both, 0, heads, 2 * heads)

    def _rotate(self, x: Tensor, matrices: list[np.ndarray]) -> Tensor:
        """Rotated projections of x [T, d] by each matrix [d, d]: [heads of all matrices, T, 64]."""
        graph, blocks = self.graph, len(matrices) * self.heads
        rows = np.concatenate(matrices).reshape(blocks, 2, HEAD_DIM // 2, self.width)
        a, b = (self._linear(x, rows[:, half].reshape(-1, self.width)) for half in (0, 1))
        cos, sin = self.shared.rotary(blocks)
        first = graph.elementwise("SUB", graph.elementwise("MUL", a, cos), graph.elementwise("MUL", b, sin))
        second = graph.elementwise("ADD", graph.elementwise("MUL", b, cos), graph.elementwise("MUL", a, sin))
        halves = [graph.reshape(half, -1, blocks, HEAD_DIM // 2) for half in (first, second)]
        return graph.transpose(graph.concatenate(halves, 2), 1, 0, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q [h, Q, 64] on k [h, T, 64] and v [T, d]: [Q, d]."""
        graph = self.graph
        values = graph.transpose(graph.reshape(v, -1, self.heads, HEAD_DIM), 1, 0, 2)
        probs = graph.softmax(graph.batch_matmul(q, k, transpose_b=True))
        mixed = graph.transpose(graph.batch_matmul(probs, values, transpose_b=False), 1, 0, 2)
        return graph.reshape(mixed, q.shape[1], self.width)
