"""Mutations of NumPy arrays in .npy files and of tensors in .safetensors files."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.fuzz.mutations import DoesNotApply, Mutations, brief, pick

NPY = Mutations("npy")
TENSORS = Mutations("safetensors")
Change = Callable[[np.ndarray], np.ndarray]


def _filled(value: float, rows: slice) -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        with np.errstate(all="ignore"):
            changed[rows] = value
        return changed

    return change


SAME_SHAPE: Final[tuple[tuple[str, Change], ...]] = (
    ("0 everywhere", lambda a: np.zeros_like(a)),
    ("NaN everywhere", _filled(np.nan, slice(None))),
    ("NaN in its first row", _filled(np.nan, slice(0, 1))),
    ("infinite in its first row", _filled(np.inf, slice(0, 1))),
    ("-1 in its first row", _filled(-1, slice(0, 1))),
    ("6e4 in its last row", _filled(6e4, slice(-1, None))),
    ("reversed", lambda a: a[::-1].copy()),
    ("with its rows rolled by one", lambda a: np.roll(a, 1, axis=0)),
    ("shuffled", lambda a: np.random.default_rng(0).permutation(a)),
    ("negative", lambda a: -a),
    ("twice as large", lambda a: a * 2),
    ("a little larger", lambda a: (a * 1.01).astype(a.dtype)),
    ("the same in all rows", lambda a: np.repeat(a[:1], len(a), axis=0)),
    ("with columns rolled by one", lambda a: np.roll(a, 1, axis=-1)),
)
OTHER_SHAPE: Final[tuple[tuple[str, Change], ...]] = (
    ("without its last row", lambda a: a[:-1]),
    ("without its first row", lambda a: a[1:]),
    ("with its last row twice", lambda a: np.concatenate([a, a[-1:]])),
    ("empty", lambda a: a[:0]),
    ("transposed", lambda a: np.ascontiguousarray(a.T)),
    ("flat", lambda a: a.reshape(-1)),
    ("with an axis more", lambda a: a[None]),
    ("a single number", lambda a: a.reshape(-1)[0] if a.size else a),
    ("without its last column", lambda a: np.ascontiguousarray(a[..., :-1])),
)


def _load(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DoesNotApply from error
    if not isinstance(array, np.ndarray) or not array.size or array.dtype.kind != "f":
        raise DoesNotApply
    return array


def _apply(change: Change, array: np.ndarray) -> np.ndarray:
    try:
        with np.errstate(all="ignore"):
            return np.asarray(change(array))
    except (ValueError, IndexError) as error:
        raise DoesNotApply from error


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


@NPY.add
def values_changed(path: Path, _: int, what: int) -> str:
    words, change = pick(SAME_SHAPE, what)
    _save(path, _apply(change, _load(path)))
    return words


@NPY.add
def shape_changed(path: Path, _: int, what: int) -> str:
    words, change = pick(OTHER_SHAPE, what)
    _save(path, _apply(change, _load(path)))
    return words


@NPY.add
def of_another_type(path: Path, _: int, what: int) -> str:
    kind = pick(("<f8", "<f4", "<f2", ">f4", ">f2", "<i4", "<i8", "|b1", "<c8", "<U3", "|S3", "|u1"), what)
    with np.errstate(all="ignore"):
        _save(path, _load(path).astype(kind))
    return f"as {kind}"


@NPY.add
def of_objects(path: Path, _: int, what: int) -> str:
    """What NumPy reads only by running what the file says."""
    array = _load(path)
    structured = np.zeros(len(array), [("a", "<f4"), ("b", "<f4")])
    _save(path, structured if what % 2 else array.reshape(-1)[:4].astype(object))
    return "of records" if what % 2 else "of pickled objects"


@NPY.add
def in_fortran_order(path: Path, _: int, __: int) -> str:
    """The same values, stored column by column."""
    _save(path, np.asfortranarray(_load(path)))
    return "in Fortran order"


@NPY.add
def as_npz(path: Path, _: int, what: int) -> str:
    array, file = _load(path), io.BytesIO()
    (np.savez_compressed if what % 2 else np.savez)(file, a=array)
    path.write_bytes(file.getvalue())
    return "as npz"


@NPY.add
def header_changed(path: Path, where: int, what: int) -> str:
    """Another header before the same bytes."""
    content = path.read_bytes()
    if content[:6] != b"\x93NUMPY" or len(content) < 128:
        raise DoesNotApply
    size = struct.unpack("<H", content[8:10])[0]
    header, body = content[10 : 10 + size].decode("latin-1"), content[10 + size :]
    shape = header[header.index("'shape'") : header.rindex("}")]
    others = ("'shape': (10000000000, 85, 2), ", "'shape': (-1, 85, 2), ", "'shape': (), ", "'shape': (0,), ",
              "'shape': (1,) * 40, ", "'shape': 5, ", "'shape': (1, 2, ", "'shape': (85, 2, 3), ", "")  # fmt: skip
    if where % 2:
        changed = header.replace(shape, pick(others, what))
    else:
        changed = header.replace("'fortran_order': False", "'fortran_order': True")
    changed = changed.rstrip() + "\n"
    path.write_bytes(content[:8] + struct.pack("<H", len(changed)) + changed.encode("latin-1") + body)
    return f"with the header {brief(changed.strip(), 90)}"


_Tensors = dict[str, tuple[dict[str, Any], bytes]]


def _read_tensors(path: Path) -> _Tensors:
    """Each tensor's entry of the header and its bytes, by name; safetensors' own functions refuse to write nonsense."""
    content = path.read_bytes()
    try:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        body = content[8 + size :]
        found = {name: (entry, body[slice(*entry["data_offsets"])]) for name, entry in header.items()
                 if name != "__metadata__"}  # fmt: skip
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise DoesNotApply from error
    if not found:
        raise DoesNotApply
    return found


def _write_tensors(path: Path, tensors: _Tensors) -> None:
    header, body = {}, b""
    for name, (entry, data) in tensors.items():
        header[name] = entry | {"data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def _array(tensors: _Tensors, name: str) -> np.ndarray:
    entry, data = tensors[name]
    if entry["dtype"] != "F32":
        raise DoesNotApply
    return np.frombuffer(data, np.float32).reshape(entry["shape"])


@TENSORS.add
def tensor_changed(path: Path, where: int, what: int) -> str:
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    words, change = pick(SAME_SHAPE, what)
    changed = _apply(change, _array(tensors, name))
    tensors[name] = (tensors[name][0], changed.astype(np.float32).tobytes())
    _write_tensors(path, tensors)
    return f"{name} is {words}"


@TENSORS.add
def all_tensors_changed(path: Path, _: int, what: int) -> str:
    tensors = _read_tensors(path)
    words, change = pick(SAME_SHAPE, what)
    for name in tensors:
        changed = _apply(change, _array(tensors, name))
        tensors[name] = (tensors[name][0], changed.astype(np.float32).tobytes())
    _write_tensors(path, tensors)
    return f"all tensors {words}"


@TENSORS.add
def tensor_of_another_shape(path: Path, where: int, what: int) -> str:
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    words, change = pick(OTHER_SHAPE, what)
    changed = _apply(change, _array(tensors, name))
    tensors[name] = (tensors[name][0] | {"shape": list(changed.shape)}, changed.astype(np.float32).tobytes())
    _write_tensors(path, tensors)
    return f"{name} is {words}"


@TENSORS.add
def tensors_of_another_type(path: Path, where: int, what: int) -> str:
    tensors = _read_tensors(path)
    names = list(tensors) if where % 2 else [pick(tensors, where // 2)]
    label, kind = pick(
        (("F16", "<f2"), ("F64", "<f8"), ("I32", "<i4"), ("BF16", ""), ("U8", "|u1"), ("X9", "<f4")), what
    )
    for name in names:
        array = _array(tensors, name)
        with np.errstate(all="ignore"):
            data = array.astype(kind).tobytes() if kind else (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        tensors[name] = (tensors[name][0] | {"dtype": label}, data)
    _write_tensors(path, tensors)
    return f"{'all tensors' if len(names) > 1 else names[0]} as {label}"


@TENSORS.add
def tensor_renamed(path: Path, where: int, what: int) -> str:
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    other = pick((f"module.{name}", "", *tensors), what)
    tensors[other] = tensors.pop(name)
    _write_tensors(path, tensors)
    return f"{name} is called {other!r}"


@TENSORS.add
def tensor_removed(path: Path, where: int, _: int) -> str:
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    del tensors[name]
    _write_tensors(path, tensors)
    return f"without {name}"


@TENSORS.add
def tensor_added(path: Path, where: int, _: int) -> str:
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    tensors["extra"] = tensors[name]
    _write_tensors(path, tensors)
    return f"with a copy of {name} besides"


@TENSORS.add
def tensors_swapped(path: Path, where: int, what: int) -> str:
    """Two tensors of one shape in each other's place."""
    tensors = _read_tensors(path)
    name = pick(tensors, where)
    others = [other for other in tensors if other != name and tensors[other][0]["shape"] == tensors[name][0]["shape"]]
    other = pick(others, what)
    tensors[name], tensors[other] = tensors[other], tensors[name]
    _write_tensors(path, tensors)
    return f"{name} and {other} in each other's place"


@TENSORS.add
def tensors_header_changed(path: Path, where: int, what: int) -> str:
    tensors = _read_tensors(path)
    _write_tensors(path, tensors)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    name = pick(tensors, where)
    header = json.loads(content[8 : 8 + size])
    entry = header[name]
    kind = what % 6
    if kind == 0:
        entry["data_offsets"] = [0, 2**40]
    elif kind == 1:
        entry["data_offsets"] = entry["data_offsets"][::-1]
    elif kind == 2:
        entry["shape"] = [2**40, 2**40]
    elif kind == 3:
        entry["shape"] = "text"
    elif kind == 4:
        header["__metadata__"] = {"state": "{" * 1000}
    text = json.dumps(header).encode()
    length = 2**60 if kind == 5 else len(text)
    path.write_bytes(struct.pack("<Q", length) + text + content[8 + size :])
    return ("data beyond the end", "offsets swapped", "a huge shape", "a shape of text", "metadata", "a huge header")[
        kind
    ]
