"""A small writer of TFLite files: the few operators an ensemble needs, in their oldest versions.

Writing the FlatBuffer directly takes milliseconds where a converter takes seconds, and decides which version of
each operator is used, hence how old a runtime may be. Every shape follows from the input's without running
anything, so a runtime can hand the whole graph to XNNPACK. Operators and versions:
tensorflow/lite/schema/schema.fbs and tensorflow/lite/tools/versioning/runtime_version.cc.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNMENT: Final = 16  # bytes; the schema's force_align of a buffer's data

_TYPES: Final = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
# operator -> (version, first TFLite release that runs this version)
_VERSIONS: Final = {
    "ADD": (1, (1, 5, 0)),
    "BATCH_MATMUL": (1, (2, 3, 0)),
    "CAST": (1, (1, 5, 0)),
    "CONCATENATION": (1, (1, 5, 0)),
    "CUMSUM": (1, (2, 4, 0)),
    "DEPTHWISE_CONV_2D": (1, (1, 5, 0)),
    "DEQUANTIZE": (3, (1, 15, 0)),
    "DIV": (1, (1, 6, 0)),
    "EQUAL": (1, (1, 14, 0)),
    "FLOOR_DIV": (1, (1, 13, 1)),
    "FULLY_CONNECTED": (6, (2, 1, 0)),
    "FULLY_CONNECTED int8": (9, (2, 3, 0)),  # of float32 by int8, which quantises its input as it runs
    "GATHER": (1, (1, 6, 0)),
    "LOGISTIC": (1, (1, 14, 0)),
    "MAXIMUM": (1, (1, 14, 0)),
    "MEAN": (1, (1, 6, 0)),
    "MUL": (1, (1, 5, 0)),
    "PADV2": (1, (1, 9, 0)),
    "RESHAPE": (1, (1, 5, 0)),
    "RSQRT": (1, (1, 10, 0)),
    "SELECT": (1, (1, 14, 0)),
    "SOFTMAX": (1, (1, 5, 0)),
    "SQRT": (1, (1, 10, 0)),
    "STRIDED_SLICE": (1, (1, 6, 0)),
    "SUB": (1, (1, 6, 0)),
    "SUM": (1, (1, 10, 0)),
    "TILE": (1, (1, 10, 1)),
    "TRANSPOSE": (1, (1, 6, 0)),
}
_OPTIONS: Final = {name: value for name, value in vars(schema.BuiltinOptions).items() if not name.startswith("_")}


@dataclass(frozen=True)
class Tensor:
    """A value in the graph. In ``shape`` -1 is a size that is known only when the graph runs."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the generated class is untyped
    """A buffer whose data starts at a multiple of 16 bytes, as the schema asks; the generated code forgets it."""

    def Pack(self, builder: Any) -> Any:
        data = np.ascontiguousarray(self.data).reshape(-1).view(np.uint8)
        builder.StartVector(1, data.size, ALIGNMENT)
        builder.head -= data.size
        builder.Bytes[builder.head : builder.head + data.size] = data.tobytes()
        builder.vectorNumElems = data.size
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


class Graph:
    """Operators are appended in the order in which they run; ``to_bytes`` makes the file."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # by convention the first is empty
        self._codes: dict[str, int] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}

    def _tensor(self, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: int = 0, name: str = "") -> Tensor:
        index = len(self._tensors)
        self._tensors.append(
            schema.TensorT(
                name=name or f"t{index}",
                type=_TYPES[dtype],
                shape=[max(size, 1) for size in shape],
                shapeSignature=list(shape) if -1 in shape else None,
                buffer=buffer,
                quantization=schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0]) if dtype == np.int8 else None,
                hasRank=True,
            )
        )
        return Tensor(index, shape, dtype)

    def input(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A float32 input."""
        return self._tensor(shape, np.dtype(np.float32), name=name)

    def constant(self, value: np.ndarray) -> Tensor:
        """A constant; equal ones are stored once."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            self._buffers.append(_AlignedBuffer(data=value))
            self._constants[key] = self._tensor(value.shape, value.dtype, buffer=len(self._buffers) - 1)
        return self._constants[key]

    def op(
        self,
        name: str,
        inputs: Sequence[Tensor],
        shape: tuple[int, ...],
        dtype: type = np.float32,
        options: str | None = None,
        **fields: Any,
    ) -> Tensor:
        """Append an operator with one output of the given shape; ``options`` names its table in the schema."""
        code = self._codes.setdefault(name, len(self._codes))
        output = self._tensor(shape, np.dtype(dtype))
        self._operators.append(
            schema.OperatorT(
                opcodeIndex=code,
                inputs=[tensor.index for tensor in inputs],
                outputs=[output.index],
                builtinOptionsType=_OPTIONS[options] if options else 0,
                builtinOptions=getattr(schema, f"{options}T")(**fields) if options else None,
            )
        )
        return output

    def elementwise(self, name: str, a: Tensor, b: Tensor) -> Tensor:
        """ADD, SUB, MUL, DIV, MAXIMUM or FLOOR_DIV with broadcasting."""
        rank = max(len(a.shape), len(b.shape))
        left, right = ((1,) * (rank - len(t.shape)) + t.shape for t in (a, b))
        shape = tuple(j if i == 1 else i for i, j in zip(left, right, strict=True))
        options = {"MAXIMUM": "MaximumMinimumOptions", "FLOOR_DIV": "FloorDivOptions"}
        return self.op(name, (a, b), shape, a.dtype.type, options.get(name, f"{name.capitalize()}Options"))

    def unary(self, name: str, x: Tensor) -> Tensor:
        """LOGISTIC, RSQRT or SQRT."""
        return self.op(name, (x,), x.shape, x.dtype.type)

    def reduce(self, name: str, x: Tensor, axis: int) -> Tensor:
        """SUM or MEAN over one axis, which stays with size 1."""
        shape = tuple(1 if i == axis else size for i, size in enumerate(x.shape))
        axes = self.constant(np.array([axis], np.int32))
        return self.op(name, (x, axes), shape, x.dtype.type, "ReducerOptions", keepDims=True)

    def cast(self, x: Tensor, dtype: type) -> Tensor:
        return self.op("CAST", (x,), x.shape, dtype, "CastOptions")

    def gather(self, x: Tensor, indices: Tensor, axis: int) -> Tensor:
        """x's slices along an axis, at a vector of indices."""
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.op("GATHER", (x, indices), shape, x.dtype.type, "GatherOptions", axis=axis)

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        target = self.constant(np.array(shape, np.int32))
        return self.op("RESHAPE", (x, target), shape, x.dtype.type, "ReshapeOptions", newShape=list(shape))

    def slice(self, x: Tensor, axis: int, begin: int, end: int) -> Tensor:
        """x[begin:end] along an axis. An axis of unknown size ends at ``end`` or where x does, as in Python."""
        rank = len(x.shape)
        starts = [begin if i == axis else 0 for i in range(rank)]
        ends = [end if i == axis else 0 for i in range(rank)]
        whole = sum(1 << i for i in range(rank) if i != axis)
        size = x.shape[axis] if x.shape[axis] == -1 else end - begin
        vectors = [self.constant(np.array(values, np.int32)) for values in (starts, ends, [1] * rank)]
        return self.op(
            "STRIDED_SLICE",
            (x, *vectors),
            (*x.shape[:axis], size, *x.shape[axis + 1 :]),
            x.dtype.type,
            "StridedSliceOptions",
            beginMask=whole,
            endMask=whole,
        )

    def concatenate(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        sizes = [part.shape[axis] for part in parts]
        size = -1 if -1 in sizes else sum(sizes)
        shape = (*parts[0].shape[:axis], size, *parts[0].shape[axis + 1 :])
        return self.op("CONCATENATION", parts, shape, parts[0].dtype.type, "ConcatenationOptions", axis=axis)

    def pad_first_axis(self, x: Tensor, value: float) -> Tensor:
        """x with one more slice at its end, in which every element is ``value``."""
        rank = len(x.shape)
        paddings = self.constant(np.array([[0, int(axis == 0)] for axis in range(rank)], np.int32))
        size = -1 if x.shape[0] == -1 else x.shape[0] + 1
        inputs = (x, paddings, self.constant(np.array([value], np.float32)))
        return self.op("PADV2", inputs, (size, *x.shape[1:]), x.dtype.type, "PadV2Options")

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        axes = self.constant(np.array(order, np.int32))
        return self.op("TRANSPOSE", (x, axes), tuple(x.shape[i] for i in order), x.dtype.type, "TransposeOptions")

    def tile(self, x: Tensor, *repeats: int) -> Tensor:
        shape = tuple(size if times == 1 else size * times for size, times in zip(x.shape, repeats, strict=True))
        return self.op("TILE", (x, self.constant(np.array(repeats, np.int32))), shape, x.dtype.type, "TileOptions")

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [n, in] times weight [out, in] transposed, plus bias [out]."""
        inputs = (x, weight) if bias is None else (x, weight, bias)
        return self.op("FULLY_CONNECTED", inputs, (x.shape[0], weight.shape[0]), options="FullyConnectedOptions")

    def linear_int8(self, x: Tensor, weight: Tensor) -> Tensor:
        """The same with an int8 weight, taken as the numbers it holds; x is rounded to 8 bits, row by row."""
        return self.op(
            "FULLY_CONNECTED int8",
            (x, weight),
            (x.shape[0], weight.shape[0]),
            options="FullyConnectedOptions",
            asymmetricQuantizeInputs=True,
        )

    def depthwise_convolution(self, x: Tensor, weight: Tensor) -> Tensor:
        """out[i] = sum over j of weight[j - i + kernel // 2] * x[j]: x [n, width], weight [1, kernel, 1, width]."""
        width = x.shape[1]
        rows = self.reshape(x, 1, -1, 1, width)
        bias = self.constant(np.zeros(width, np.float32))
        options = {"padding": schema.Padding.SAME, "strideH": 1, "strideW": 1, "depthMultiplier": 1}
        options |= {"dilationHFactor": 1, "dilationWFactor": 1}
        out = self.op(
            "DEPTHWISE_CONV_2D", (rows, weight, bias), rows.shape, options="DepthwiseConv2DOptions", **options
        )
        return self.reshape(out, -1, width)

    def batch_matmul(self, a: Tensor, b: Tensor, transpose_b: bool) -> Tensor:
        """a [h, m, k] times b [h, k, n], or b [h, n, k] transposed."""
        columns = b.shape[1] if transpose_b else b.shape[2]
        return self.op("BATCH_MATMUL", (a, b), (*a.shape[:2], columns), options="BatchMatMulOptions", adjY=transpose_b)

    def softmax(self, x: Tensor) -> Tensor:
        """Over the last axis."""
        return self.op("SOFTMAX", (x,), x.shape, options="SoftmaxOptions", beta=1.0)

    @property
    def min_runtime_version(self) -> str:
        """The oldest TFLite release that has every operator in the version used."""
        return ".".join(str(part) for part in max(_VERSIONS[name][1] for name in self._codes))

    def to_bytes(self, inputs: dict[str, Tensor], outputs: dict[str, Tensor], description: str) -> bytes:
        """The .tflite file, with one signature, serving_default, of the named inputs and outputs."""
        for name, tensor in outputs.items():
            self._tensors[tensor.index].name = name
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name, tensor.index) for name, tensor in inputs.items()],
            outputs=[schema.TensorMapT(name, tensor.index) for name, tensor in outputs.items()],
            signatureKey="serving_default",
        )
        version = np.frombuffer(self.min_runtime_version.encode().ljust(16, b"\0"), np.uint8)
        model = schema.ModelT(
            version=3,
            description=description,
            operatorCodes=[self._operator_code(name) for name in self._codes],
            subgraphs=[
                schema.SubGraphT(
                    tensors=self._tensors,
                    inputs=[tensor.index for tensor in inputs.values()],
                    outputs=[tensor.index for tensor in outputs.values()],
                    operators=self._operators,
                    name="main",
                )
            ],
            buffers=[*self._buffers, _AlignedBuffer(data=version)],
            metadata=[schema.MetadataT("min_runtime_version", len(self._buffers))],
            signatureDefs=[signature],
        )
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _operator_code(self, name: str) -> Any:
        code = getattr(schema.BuiltinOperator, name.split()[0])
        return schema.OperatorCodeT(
            deprecatedBuiltinCode=min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES),
            builtinCode=code,
            version=_VERSIONS[name][0],
        )
