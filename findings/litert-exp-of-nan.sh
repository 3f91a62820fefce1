#!/usr/bin/env bash
# EXP of NaN is 0, RSQRT of 0 is NaN, and SQRT of large values is wrong by half, in LiteRT's default kernels.
#
# ai-edge-litert 2.3.0 with its default delegate (XNNPACK), on x86-64 with AVX-512; other processors get other kernels,
# which were not tried, and there this script says so and ends. The built-in kernels (without the delegate) give
# what IEEE 754 functions give: NaN, 3.3259769e+38, inf, 1.7320508e+19.
#
# guess: NaN stays NaN, and 1/sqrt(0) is infinity: a network with one NaN inside shows it at its end.
set -euo pipefail
if ! grep -qw avx512f /proc/cpuinfo; then
    echo "this processor gets other kernels"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
cd "$folder"
cat > probe.py <<'PY'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def model(operator, inputs, options=None, kind=0):
    """A .tflite file of one operator over float32 [n] inputs."""
    code, tensors = schema.OperatorCodeT(), []
    code.builtinCode = code.deprecatedBuiltinCode = operator
    code.version = 1
    for name in [*(f"input{i}" for i in range(inputs)), "output"]:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1], schema.TensorType.FLOAT32, 0
        tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, list(range(inputs)), [inputs]
    step.builtinOptions, step.builtinOptionsType = options, kind
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [step], step.inputs, step.outputs
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def run(content, resolver, *values):
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    for details, value in zip(interpreter.get_input_details(), values):
        interpreter.set_tensor(details["index"], np.array([value], np.float32))
    interpreter.invoke()
    return str(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])


DEFAULT, PLAIN = OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
OPERATOR = schema.BuiltinOperator
CASES = ((OPERATOR.EXP, float("nan")), (OPERATOR.EXP, 88.7), (OPERATOR.RSQRT, 0.0), (OPERATOR.SQRT, 3e38))
for name, resolver in (("default", DEFAULT), ("built-in", PLAIN)):
    print(name, *(run(model(operator, 1), resolver, value) for operator, value in CASES))
PY
seen=$("$folder/venv/bin/python" probe.py 2> /dev/null)
echo "$seen"
expected="default 0.0 inf nan 2.5981372e+19
built-in nan 3.3259769e+38 inf 1.7320508e+19"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: default 0.0 inf nan 2.5981372e+19
# seen: built-in nan 3.3259769e+38 inf 1.7320508e+19
