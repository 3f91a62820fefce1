#!/usr/bin/env bash
# DIV by zero is infinity or the largest float32, depending on which kernels run the graph.
#
# ai-edge-litert 2.3.0. With the default delegate (XNNPACK) 1/0 is inf and -1/0 is -inf. Without it, as where a delegate
# does not take the graph, the built-in kernel clamps its result to the activation's range, which for "no activation" is
# the finite range of float32: 3.4028235e+38. 0/0 is NaN in both.
#
# guess: infinity in both, as IEEE 754 has it.
set -euo pipefail
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
content = model(OPERATOR.DIV, 2, schema.DivOptionsT(), schema.BuiltinOptions.DivOptions)
for name, resolver in (("default", DEFAULT), ("built-in", PLAIN)):
    print(name, *(run(content, resolver, value, 0.0) for value in (1.0, -1.0, 0.0)))
PY
seen=$("$folder/venv/bin/python" probe.py 2> /dev/null)
echo "$seen"
expected="default inf -inf nan
built-in 3.4028235e+38 -3.4028235e+38 nan"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: default inf -inf nan
# seen: built-in 3.4028235e+38 -3.4028235e+38 nan
