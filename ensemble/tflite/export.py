"""Members -> one TFLite file: preprocessing, every member, and the average of their probabilities.

Input ``inputs`` float32 [n, 543, 3], any n >= 1, NaN where missing; output ``outputs`` float32 [num_signs]. The
graph does what trainer.data's normalize, resize_indices and features, and the classifier do, rearranged for speed: norm
weights are folded into the next matrix, the two halves that a rotary embedding pairs come from two matrices so that
nothing is sliced, and the last block computes the CLS token alone.

Shapes below: n frames of input, m = min(n, max_frames) frames seen, T = m + 1 tokens with a CLS token, else m.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from ensemble.tflite.features import Features
from trainer.common.errors import UserError
from trainer.config import HEAD_DIM, NORM_EPS, ROTARY_THETA, ModelConfig
from trainer.data.positions import HEAD
from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

if TYPE_CHECKING:  # PRECISIONS is wanted by the help of a command, which must not load LiteRT
    from ensemble.tflite.graph import Graph, Tensor

COORDINATES: Final = 2 * NUM_LANDMARKS  # of a frame: landmark by landmark, x then y


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a file stores a model's matrices, and how far it may then be from the model as trained."""

    matrix: Callable[[Graph, np.ndarray], Tensor]
    """Stores a float32 matrix; gives a tensor that is float32 when the file runs. Raises OverflowError"""
    trial_predictions: Literal["exact", "close", "far"]
    """How well the predictions that the trial left stand for the file's: exact ones always, close ones where the file
    cannot be run on the validation sequences"""
    largest_difference: float
    """From PyTorch, of a probability"""
    largest_deviation: float
    """From PyTorch, of all probabilities together (ensemble.candidates.reproduction.deviation)"""
    deviation_from_kept: float = 0.01
    """The same, from what the models' own files predicted, perhaps on another machine"""
    same_sign: float
    """Smallest share of sequences for which the file names PyTorch's sign, or one as likely"""
    linear: Callable[[Graph, Tensor, np.ndarray, Tensor | None], Tensor] | None = None
    """A linear layer of a block: x [n, in] times a weight [out, in] transposed, plus a bias [out] if there is one;
    None for the plain one on the stored matrix"""


def _float16(graph: Graph, value: np.ndarray) -> Tensor:
    with np.errstate(over="ignore"):
        rounded = value.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise OverflowError("beyond the largest float16")
    return graph.op("DEQUANTIZE", (graph.constant(rounded),), value.shape, options="DequantizeOptions")


def _int8_linear(graph: Graph, x: Tensor, weight: np.ndarray, bias: Tensor | None) -> Tensor:
    scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / np.float32(127)
    rounded = np.rint(weight / scales[:, None]).astype(np.int8)
    # Runtimes before 2.17 know one scale a matrix; multiplying afterwards gives every row its own.
    product = graph.elementwise("MUL", graph.linear_int8(x, graph.constant(rounded)), graph.constant(scales))
    return product if bias is None else graph.elementwise("ADD", product, bias)


PRECISIONS: Final[dict[str, Precision]] = {
    "float32": Precision(
        matrix=lambda graph, value: graph.constant(value),
        trial_predictions="exact",  # validation is in float32, whatever training was
        largest_difference=1e-4,
        largest_deviation=1e-3,  # validation with TF32 on a GPU is 3e-4 away
        deviation_from_kept=1e-3,
        same_sign=1.0,
    ),
    "float16": Precision(
        matrix=_float16,
        trial_predictions="close",
        largest_difference=0.05,
        largest_deviation=0.02,
        deviation_from_kept=1e-3,
        same_sign=0.99,
    ),
    "int8": Precision(  # in the blocks, one scale per row of a matrix; float16 elsewhere
        matrix=_float16,
        trial_predictions="far",
        largest_difference=0.5,
        largest_deviation=0.2,
        deviation_from_kept=0.01,
        same_sign=0.98,
        linear=_int8_linear,
    ),
}
"""Every precision by its name, as ensemble.choices lists them"""


@dataclass(frozen=True)
class Member:
    """One model of an ensemble, and how often it counts."""

    config: ModelConfig
    weights: Mapping[str, np.ndarray]
    """float32, named as in SignClassifier's state_dict"""
    count: int = 1
    precision: str = "float32"
    """A name in PRECISIONS"""


def build(members: Sequence[Member]) -> bytes:
    """The .tflite file of an ensemble: the average of its members' probabilities, weighted by their counts.

    All members must know the same signs and the same longest sequence. Raises ValueError if they do not, or if
    there is none, and KeyError if a weight is missing.
    """
    shapes = {(member.config.num_signs, member.config.max_frames) for member in members}
    if len(shapes) != 1:
        raise ValueError(f"members must have one (num_signs, max_frames), not {sorted(shapes)}")
    graph = _new_graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    shared = Preprocessing(graph, inputs, shapes.pop()[1])
    total = sum(member.count for member in members)
    parts = []
    for member in members:
        probs = graph.softmax(Classifier(graph, shared, member).logits())
        parts.append(graph.elementwise("MUL", probs, _scalar(graph, member.count / total)))
    average = parts[0]
    for part in parts[1:]:
        average = graph.elementwise("ADD", average, part)
    outputs = graph.reshape(average, average.shape[1])
    return graph.to_bytes({"inputs": inputs}, {"outputs": outputs}, "sign ensemble")


def build_shared(max_frames: int) -> bytes:
    """A .tflite file with what members share and no member, to measure what every ensemble takes."""
    graph = _new_graph()
    inputs = graph.input("inputs", (-1, NUM_ROWS, 3))
    shared = Preprocessing(graph, inputs, max_frames)
    sums = [graph.reduce("SUM", x, 0) for x in (shared.frames, *shared.rotary(1, cls=True))]
    outputs = graph.reshape(graph.concatenate(sums, 1), COORDINATES + HEAD_DIM)
    return graph.to_bytes({"inputs": inputs}, {"outputs": outputs}, "preprocessing")


def _new_graph() -> Graph:
    from ensemble.tflite.graph import Graph

    return Graph()


class Preprocessing:
    """What members share. Parts that only some need are made when first asked for."""

    def __init__(self, graph: Graph, inputs: Tensor, max_frames: int) -> None:
        self.graph, self.max_frames = graph, max_frames
        frames, marks = self._normalise(inputs)
        # max(n, 1) of n + 1: of no frames, the one that is missing is left, and no later tensor is empty.
        ones = graph.concatenate((graph.slice(marks, 0, 0, 1), graph.slice(marks, 0, 1, -1)), 0)
        one = graph.constant(np.array(1, np.int32))
        count = graph.op("CUMSUM", (ones, graph.constant(np.array(0, np.int32))), (-1,), np.int32, "CumsumOptions")
        self._count = graph.slice(count, 0, 0, max_frames)
        """int32 [m]: 1, 2, ... m"""
        self.steps = graph.elementwise("SUB", self._count, one)
        """int32 [m]: 0, 1, ... m - 1"""
        num_frames, num_seen = (graph.reduce("SUM", x, 0) for x in (ones, graph.slice(ones, 0, 0, max_frames)))
        source = graph.elementwise("FLOOR_DIV", graph.elementwise("MUL", self.steps, num_frames), num_seen)
        self.frames = graph.gather(frames, source, 0)
        """float32 [m, 170]"""
        self.features = Features(graph, self.frames, self.steps)
        self.rotary = cache(self._rotary)
        self._tables = cache(self._angles)

    def _normalise(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Centred frames and a last one that is missing, 0 where missing: float32 [n + 1, 170]; int32 ones [n + 1]."""
        graph = self.graph
        used = graph.pad_first_axis(graph.gather(inputs, graph.constant(np.array(ROWS, np.int32)), 1), np.nan)
        flat = graph.reshape(used, -1, NUM_LANDMARKS * 3)
        columns = 3 * np.arange(NUM_LANDMARKS, dtype=np.int32)[:, None] + np.arange(2, dtype=np.int32)
        points = graph.gather(flat, graph.constant(columns.reshape(-1)), 1)
        partners = graph.gather(flat, graph.constant(columns[:, ::-1].reshape(-1)), 1)
        both = graph.elementwise("ADD", points, partners)  # NaN where either coordinate is
        present = graph.op("EQUAL", (both, both), both.shape, np.bool_, "EqualOptions")
        weights = graph.cast(present, np.float32)
        zeros = graph.elementwise("MUL", weights, _scalar(graph, 0))
        known = graph.op("SELECT", (present, points, zeros), points.shape, options="SelectOptions")
        head = np.zeros((2, NUM_LANDMARKS, 2), np.float32)
        head[0, HEAD, 0] = head[1, HEAD, 1] = 1
        of_head = graph.constant(head.reshape(2, COORDINATES))
        sums, counts = (graph.reduce("SUM", graph.linear(x, of_head), 0) for x in (known, weights))
        offset = graph.elementwise("DIV", sums, graph.elementwise("MAXIMUM", counts, _scalar(graph, 1)))
        to_every_landmark = graph.constant(np.tile(np.eye(2, dtype=np.float32), (NUM_LANDMARKS, 1)))
        centred = graph.elementwise("SUB", points, graph.linear(offset, to_every_landmark))
        frames = graph.op("SELECT", (present, centred, zeros), points.shape, options="SelectOptions")
        zero = graph.cast(graph.reshape(graph.slice(zeros, 1, 0, 1), -1), np.int32)
        return frames, graph.elementwise("ADD", zero, graph.constant(np.array(1, np.int32)))

    def _angles(self, cls: bool) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every token's rotary angles: float32 [T, 32] each."""
        graph = self.graph
        zero = graph.constant(np.zeros(1, np.int32))
        places = graph.concatenate((zero, self._count), 0) if cls else self.steps
        half = np.float32(HEAD_DIM // 2)
        frequencies = ROTARY_THETA ** (-np.arange(half, dtype=np.float32) / half)
        angles = np.arange(self.max_frames + 1, dtype=np.float32)[:, None] * frequencies
        cos, sin = (graph.gather(graph.constant(f(angles)), places, 0) for f in (np.cos, np.sin))
        return cos, sin

    def _rotary(self, blocks: int, cls: bool) -> tuple[Tensor, Tensor]:
        """Cosines and sines for so many heads side by side: float32 [T, blocks * 32] each."""
        cos, sin = (self.graph.tile(table, 1, blocks) for table in self._tables(cls))
        return cos, sin


def _scalar(graph: Graph, value: float) -> Tensor:
    return graph.constant(np.array(value, np.float32))


class Classifier:
    """One member's part of the graph, from the shared frames to its logits float32 [1, num_signs]."""

    def __init__(self, graph: Graph, shared: Preprocessing, member: Member) -> None:
        self.graph, self.shared = graph, shared
        self.config, self.weights, self.precision = member.config, member.weights, member.precision
        self._stored = PRECISIONS[member.precision]
        self.cls = self.config.pooling == "cls"

    def logits(self) -> Tensor:
        graph, config = self.graph, self.config
        x = self._linear(self.shared.features.of(config), self.weights["embed.weight"])
        if config.learned_positions:
            table = self._matrix(self.weights["positions"])
            x = graph.elementwise("ADD", x, graph.gather(table, self.shared.steps, 0))
        if self.cls:
            x = graph.concatenate((graph.constant(self.weights["cls"][None]), x), 0)
        for index in range(config.num_layers):
            x = self._block(x, f"blocks.{index}.", first_only=self.cls and index == config.num_layers - 1)
        pooled = self._normed(x) if self.cls else graph.reduce("MEAN", self._normed(x), 0)
        return self._linear(pooled, *self._after_norm("norm", self.weights["head.weight"], self.weights["head.bias"]))

    def _matrix(self, value: np.ndarray) -> Tensor:
        with self._naming_overflow():
            return self._stored.matrix(self.graph, value)

    def _linear(self, x: Tensor, weight: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        return self.graph.linear(x, self._matrix(weight), None if bias is None else self.graph.constant(bias))

    def _block_linear(self, x: Tensor, weight: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
        """A linear layer of a block: most of the weights are in these."""
        if self._stored.linear is None:
            return self._linear(x, weight, bias)
        with self._naming_overflow():
            return self._stored.linear(self.graph, x, weight, None if bias is None else self.graph.constant(bias))

    @contextlib.contextmanager
    def _naming_overflow(self) -> Iterator[None]:
        try:
            yield
        except OverflowError as error:
            raise UserError(
                f"weights.safetensors: weights too large for {self.precision}; choose another precision"
            ) from error

    def _normed(self, x: Tensor) -> Tensor:
        """A norm without its weight and bias, which ``_after_norm`` puts into what comes next."""
        graph = self.graph
        if self.config.norm == "layernorm":
            x = graph.elementwise("SUB", x, graph.reduce("MEAN", x, 1))
        variance = graph.reduce("MEAN", graph.elementwise("MUL", x, x), 1)
        scale = graph.unary("RSQRT", graph.elementwise("ADD", variance, _scalar(graph, NORM_EPS)))
        return graph.elementwise("MUL", x, scale)

    def _after_norm(
        self, norm: str, weight: np.ndarray, bias: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Weight and bias of a linear layer that follows a norm, with the norm's own folded in."""
        if self.config.norm == "layernorm":
            bias = weight @ self.weights[f"{norm}.bias"] + (np.float32(0) if bias is None else bias)
        return weight * self.weights[f"{norm}.weight"], bias

    def _block(self, x: Tensor, prefix: str, first_only: bool) -> Tensor:
        """One block on x [T, width]; with ``first_only`` the first token alone comes out, [1, width]."""
        graph = self.graph
        normed, (q, k, v) = self._before_attention(x, prefix)
        if first_only:  # its rotary angle is 0
            x, first = graph.slice(x, 0, 0, 1), graph.slice(normed, 0, 0, 1)
            queries = graph.reshape(self._block_linear(first, *q), self.config.num_heads, 1, HEAD_DIM)
            keys = self._heads(normed, [k])
        else:
            both = self._heads(normed, [q, k])
            queries = graph.slice(both, 0, 0, self.config.num_heads)
            keys = graph.slice(both, 0, self.config.num_heads, 2 * self.config.num_heads)
        attended = self._attend(queries, keys, self._block_linear(normed, *v))
        x = graph.elementwise("ADD", x, self._block_linear(attended, self.weights[f"{prefix}out.weight"]))
        normed = self._normed(x)
        gate, up = (
            self._block_linear(normed, *self._after_norm(f"{prefix}ffn_norm", matrix))
            for matrix in np.split(self.weights[f"{prefix}gate_up.weight"], 2)
        )
        hidden = graph.elementwise("MUL", graph.elementwise("MUL", gate, graph.unary("LOGISTIC", gate)), up)
        return graph.elementwise("ADD", x, self._block_linear(hidden, self.weights[f"{prefix}down.weight"]))

    def _before_attention(self, x: Tensor, prefix: str) -> tuple[Tensor, list[tuple[np.ndarray, np.ndarray | None]]]:
        """x [T, width] normed, and convolved where the model does that; weights and biases of queries, keys, values."""
        graph, norm, normed = self.graph, f"{prefix}attention_norm", self._normed(x)
        matrices = np.split(self.weights[f"{prefix}qkv.weight"], 3)
        if not self.config.conv_kernel:
            return normed, [self._after_norm(norm, matrix) for matrix in matrices]
        kernel = self.weights[f"{prefix}conv.weight"]
        if self.config.norm == "layernorm":  # whose bias is not there beyond the ends
            normed = graph.elementwise("MUL", normed, graph.constant(self.weights[f"{norm}.weight"]))
            normed = graph.elementwise("ADD", normed, graph.constant(self.weights[f"{norm}.bias"]))
        else:
            kernel = kernel * self.weights[f"{norm}.weight"]
        convolved = graph.depthwise_convolution(normed, graph.constant(kernel[None, :, None]))
        return convolved, [(matrix, None) for matrix in matrices]

    def _heads(self, x: Tensor, layers: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> Tensor:
        """x [T, width] through each layer, rotated where the model does that: [heads of all layers, T, 64]."""
        graph, blocks = self.graph, len(layers) * self.config.num_heads
        weight = np.concatenate([weight for weight, _ in layers]).reshape(blocks, 2, -1, self.config.width)
        biases = [bias for _, bias in layers if bias is not None]
        bias = np.concatenate(biases).reshape(blocks, 2, -1) if biases else None
        first, second = (
            self._block_linear(
                x,
                weight[:, half].reshape(-1, self.config.width),
                None if bias is None else bias[:, half].reshape(-1),
            )
            for half in (0, 1)
        )
        if self.config.rotary:
            cos, sin = self.shared.rotary(blocks, self.cls)
            (a_cos, a_sin), (b_cos, b_sin) = (
                [graph.elementwise("MUL", half, table) for table in (cos, sin)] for half in (first, second)
            )
            first, second = graph.elementwise("SUB", a_cos, b_sin), graph.elementwise("ADD", b_cos, a_sin)
        halves = [graph.reshape(half, -1, blocks, HEAD_DIM // 2) for half in (first, second)]
        return graph.transpose(graph.concatenate(halves, 2), 1, 0, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of queries [heads, Q, 64] on keys [heads, T, 64] and values [T, width]: [Q, width]."""
        graph, heads = self.graph, self.config.num_heads
        values = graph.transpose(graph.reshape(values, -1, heads, HEAD_DIM), 1, 0, 2)
        scaled = graph.elementwise("MUL", queries, _scalar(graph, HEAD_DIM**-0.5))
        probs = graph.softmax(graph.batch_matmul(scaled, keys, transpose_b=True))
        mixed = graph.transpose(graph.batch_matmul(probs, values, transpose_b=False), 1, 0, 2)
        return graph.reshape(mixed, queries.shape[1], self.config.width)
