#!/usr/bin/env bash
# CAST of NaN to a whole number is the largest one in LiteRT 2.3, and the smallest, or 0, in tflite-runtime 2.14.
#
# ai-edge-litert 2.3.0 and tflite-runtime 2.14.0, Python 3.11, x86-64. In 2.3 CAST of float32 saturates: to int8, 300 is
# 127, and so is NaN. In 2.14 it wraps, as numpy does: 300 is 44, NaN is 0 in int8 and the smallest of int32.
# So a mask or an index that is cast from NaN is another one, silently, where a model made for one runs on the other.
#
# guess: both do what a C cast does on this processor: NaN to int32 is -2147483648, to int8 0, and 300 wraps to 44.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for name in new old; do python3 -m venv "$folder/$name"; done
"$folder/new/bin/pip" install --quiet --disable-pip-version-check ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
"$folder/old/bin/pip" install --quiet --disable-pip-version-check tflite-runtime==2.14.0 numpy==1.26.4
cd "$folder"
cat > make.py <<'PY'
import flatbuffers
from ai_edge_litert import schema_py_generated as schema

KINDS = schema.TensorType
for name, kind in (("int8", KINDS.INT8), ("int32", KINDS.INT32)):
    code, tensors = schema.OperatorCodeT(), []
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CAST
    code.version = 1
    for its in (KINDS.FLOAT32, kind):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"of {its}", [4], its, 0
        tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0], [1]
    step.builtinOptions, step.builtinOptionsType = schema.CastOptionsT(), schema.BuiltinOptions.CastOptions
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [step], [0], [1]
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(whole.Pack(builder), b"TFL3")
    open(f"{name}.tflite", "wb").write(builder.Output())
PY
cat > run.py <<'PY'
import sys

import numpy as np

if sys.argv[1] == "new":
    from ai_edge_litert.interpreter import Interpreter
else:
    from tflite_runtime.interpreter import Interpreter
for name in ("int8", "int32"):
    interpreter = Interpreter(f"{name}.tflite")
    interpreter.allocate_tensors()
    interpreter.set_tensor(0, np.array([float("nan"), 300, -300, -1.5], np.float32))
    interpreter.invoke()
    print(sys.argv[1], name, *interpreter.get_tensor(1))
PY
"$folder/new/bin/python" make.py
seen=$(for name in new old; do "$folder/$name/bin/python" run.py "$name" 2> /dev/null; done)
echo "$seen"
expected="new int8 127 127 -128 -1
new int32 2147483647 300 -300 -1
old int8 0 44 -44 -1
old int32 -2147483648 300 -300 -1"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen, of NaN, 300, -300 and -1.5:
# seen: new int8 127 127 -128 -1
# seen: new int32 2147483647 300 -300 -1
# seen: old int8 0 44 -44 -1
# seen: old int32 -2147483648 300 -300 -1
