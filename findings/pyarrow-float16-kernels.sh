#!/usr/bin/env bash
# pyarrow reads and writes a Parquet column of float16, but cannot filter, sort, add or round it.
#
# pyarrow 26.0.1. A column of float16 probabilities comes back as it was, with statistics in the file, and its values can be told apart.
# pq.read_table(filters=...) on it raises ArrowNotImplementedError, and so do mean, sum, min_max, quantile, round and
# sort_indices: whoever reads such a file must cast to float32 first. The largest value in the
# file's statistics is raw bytes.
#
# guess: what can be read back can be filtered and averaged.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
cat > probe.py <<'PY'
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

pq.write_table(pa.table({"p": np.linspace(0, 1, 5).astype(np.float16)}), "half.parquet")
column = pq.read_table("half.parquet")["p"]
print("read back", column.type, column.to_pylist())
print("unique", len(pc.unique(column)))


def attempt(name, action):
    try:
        print(name, action())
    except pa.ArrowNotImplementedError:
        print(name, "ArrowNotImplementedError")


attempt("filter", lambda: pq.read_table("half.parquet", filters=[("p", ">", 0.4)]).num_rows)
for name in ("mean", "sum", "min_max", "quantile", "round", "sort_indices"):
    attempt(name, lambda: getattr(pc, name)(column))
attempt("mean of float32", lambda: pc.mean(column.cast(pa.float32())).as_py())
print("largest", pq.ParquetFile("half.parquet").metadata.row_group(0).column(0).statistics.max)
PY
seen=$("$folder/venv/bin/python" probe.py)
echo "$seen"
expected="read back halffloat [0.0, 0.25, 0.5, 0.75, 1.0]
unique 5
filter ArrowNotImplementedError
mean ArrowNotImplementedError
sum ArrowNotImplementedError
min_max ArrowNotImplementedError
quantile ArrowNotImplementedError
round ArrowNotImplementedError
sort_indices ArrowNotImplementedError
mean of float32 0.5
largest b'\\x00<'"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: filter ArrowNotImplementedError
# seen: mean ArrowNotImplementedError
# seen: mean of float32 0.5
