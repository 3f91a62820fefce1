#!/usr/bin/env bash
# ParquetFile.read leaves out a column that is not there; read_table raises. And it takes both columns of one name.
#
# pyarrow 26.0.1. Asked for ["x", "nope"], read_table and pandas raise ArrowInvalid, while ParquetFile.read,
# .iter_batches and .read_row_group give a table of "x" alone, without a word. Of a file with two columns "x", they give
# both for one name, where read_table raises. A reader that goes by ParquetFile must look at the schema itself.
#
# guess: all of them raise for a name that the file does not have.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy==2.4.6
cd "$folder"
cat > probe.py <<'PY'
import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"x": [1.0], "y": [2.0]}), "plain.parquet")
pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"]), "twice.parquet")


def columns(read):
    try:
        return read().column_names
    except pa.ArrowInvalid:
        return "ArrowInvalid"


def batches(path, names):
    return pa.Table.from_batches(pq.ParquetFile(path).iter_batches(columns=names))


for path, names in (("plain.parquet", ["x", "nope"]), ("twice.parquet", ["x"])):
    print(
        columns(lambda: pq.read_table(path, columns=names)),
        columns(lambda: pq.ParquetFile(path).read(columns=names)),
        columns(lambda: batches(path, names)),
        columns(lambda: pq.ParquetFile(path).read_row_group(0, columns=names)),
    )
PY
seen=$("$folder/venv/bin/python" probe.py)
echo "$seen"
expected="ArrowInvalid ['x'] ['x'] ['x']
ArrowInvalid ['x', 'x'] ['x', 'x'] ['x', 'x']"
[ "$seen" = "$expected" ] || { echo "changed"; exit 1; }
# seen: ArrowInvalid ['x'] ['x'] ['x']
# seen: ArrowInvalid ['x', 'x'] ['x', 'x'] ['x', 'x']
