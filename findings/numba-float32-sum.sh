#!/usr/bin/env bash
# numba adds up a float32 array one after the other in float32: the mean of ten million numbers 0.1 is 0.1088.
#
# numba 0.68.1 with NumPy 2.4.6. NumPy adds pairwise, so that its float32 sum is right to seven digits. The same methods
# compiled by numba are 9% off.
#
# guess: the compiled a.sum() and a.mean() are NumPy's to float32's precision.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 llvmlite==0.50.0 numpy==2.4.6
cd "$folder"
cat > probe.py <<'PY'
import numba
import numpy as np


@numba.njit
def compiled(a):
    return a.sum(), a.mean()


a = np.full(10_000_000, 0.1, np.float32)
print("numpy", f"{a.sum():.0f} {a.mean():.4f}")
total, mean = compiled(a)
print("numba", f"{total:.0f} {mean:.4f}")
PY
seen=$("$folder/venv/bin/python" probe.py)
echo "$seen"
expected="numpy 1000000 0.1000
numba 1087937 0.1088"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: numpy 1000000 0.1000
# seen: numba 1087937 0.1088
