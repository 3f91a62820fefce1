#!/usr/bin/env bash
# A safetensors file does not keep the order of its tensors: wide types come first, and within a type names are sorted.
#
# safetensors 0.8.0. A dict of "layer2" and "layer10" in float32 and "scale" in float64 comes back as scale, layer10, layer2.
# Code that loads a file and walks over its tensors in the order in which it saved them pairs layers with other layers'
# weights, without an error where shapes agree. Names must be asked for, or sorted by their numbers.
#
# guess: load_file gives the tensors in the order of the dict that was saved, as Python's dicts and JSON objects do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cd "$folder"
cat > probe.py <<'PY'
import numpy as np
from safetensors.numpy import load_file, save_file

saved = {"layer2": np.ones(2, np.float32), "layer10": np.ones(2, np.float32), "scale": np.ones(1, np.float64)}
save_file(saved, "weights.safetensors")
print("saved", *saved)
print("loaded", *load_file("weights.safetensors"))
PY
seen=$("$folder/venv/bin/python" probe.py)
echo "$seen"
expected="saved layer2 layer10 scale
loaded scale layer10 layer2"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: saved layer2 layer10 scale
# seen: loaded scale layer10 layer2
