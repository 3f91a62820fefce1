"""The x and y of the contest's own parquet files, faster than a general reader has them.

One program wrote all of the contest's files in one way: one row group, Snappy, and a column a dictionary page followed
by a single data page of definition levels and bit-packed indices into the dictionary. Here the footer says where those
pages are, and parquet_pages decodes the landmarks in use, where a general reader decodes all 543. A file that is laid
out in any other way, or broken, is left to pyarrow: then ``read`` returns None. The format:
github.com/apache/parquet-format.
"""

import hashlib
import os
import re
import threading
from collections.abc import Container
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

FOOTER_BYTES: Final = 8192  # more than the contest's footers have
MAX_FRAMES: Final = 1024
MAX_BYTES: Final = 1 << 22  # of what is read of a file, and of a page

_USED: Final = np.array(ROWS, np.int64)  # ascending

# Integers below are Thrift's varints, whose last byte alone is under 0x80, shifted left by one: none is negative.
_INT: Final = rb"([\x80-\xff]*[\x00-\x7f])"
# ColumnMetaData: type, encodings, path, codec, values, sizes, where the data begin and where the dictionary, if any.
_CHUNK: Final = re.compile(
    rb"\x15(.)\x19.{2,5}?\x19\x18.(type|landmark_index|x|y)\x15(.)"
    + rb"\x16%b\x16%b\x16%b\x26%b(?:\x26%b)?" % ((_INT,) * 5),
    re.DOTALL,
)
_DOUBLE, _SNAPPY = b"\x0a", b"\x02"


class _OtherLayout(Exception):
    """The file is not laid out as the contest's are."""


_NOT_LIKE_THE_CONTESTS: Final = (_OtherLayout, OSError, ValueError, IndexError)


class _Scratch(threading.local):
    """Memory that every file is read into, each thread's own. Fresh memory would cost a quarter of the time."""

    def __init__(self) -> None:
        self.content = bytearray(MAX_BYTES)
        self.pages = np.empty((2, MAX_BYTES), np.uint8)


_scratch = _Scratch()


class _Chunk(NamedTuple):
    """Where a column's bytes are in the file, and what they hold."""

    column: bytes
    physical_type: bytes
    codec: bytes
    num_rows: int
    begin: int
    size: int


def read(path: Path, right_orders: Container[bytes]) -> np.ndarray | None:
    """The used landmarks of one file: float32 [n, 85, 2], NaN where missing; or None, and pyarrow must read it.

    The order of the rows is not decoded: ``right_orders`` holds ``find_order`` of files where it is right.
    """
    try:
        chunks, encoded = _load(path, [b"type", b"landmark_index", b"x", b"y"])
        _need(_order(chunks, encoded) in right_orders)
        return _read(chunks[2:], encoded[2:])
    except _NOT_LIKE_THE_CONTESTS:
        return None


def find_order(path: Path) -> bytes | None:
    """What files share only if their rows are in the same order, whichever their codec; None where it is not found."""
    try:
        return _order(*_load(path, [b"type", b"landmark_index"]))
    except _NOT_LIKE_THE_CONTESTS:
        return None


def _load(path: Path, columns: list[bytes]) -> tuple[list[_Chunk], list[memoryview]]:
    """The chunks of the given columns, which must stand in this order, and their bytes in the scratch memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        tail = os.pread(descriptor, FOOTER_BYTES, max(size - FOOTER_BYTES, 0))
        footer_begin = len(tail) - 8 - int.from_bytes(tail[-8:-4], "little")
        _need(tail[-4:] == b"PAR1" and footer_begin >= 0)
        chunks = [
            _Chunk(column, physical_type, codec, _int(values), _int(dictionary or data), _int(compressed))
            for physical_type, column, codec, values, _, compressed, data, dictionary in _CHUNK.findall(
                tail, footer_begin
            )
        ]
        names = [chunk.column for chunk in chunks]
        _need(len(set(names)) == len(names) and names[: len(columns)] == columns)
        chunks = chunks[: len(columns)]
        _need(len({chunk.num_rows for chunk in chunks}) == 1)
        begin = chunks[0].begin
        length = chunks[-1].begin + chunks[-1].size - begin
        _need(0 < length <= MAX_BYTES)
        content = memoryview(_scratch.content)[:length]
        _need(os.preadv(descriptor, [content], begin) == length)
    finally:
        os.close(descriptor)
    return chunks, [content[chunk.begin - begin :][: chunk.size] for chunk in chunks]


def _order(chunks: list[_Chunk], encoded: list[memoryview]) -> bytes:
    """Stands for the encoded bytes of the type and landmark_index columns, the first two."""
    key = hashlib.sha256()
    for chunk, content in zip(chunks[:2], encoded, strict=False):
        key.update(b"%d %b %d " % (chunk.num_rows, chunk.codec, chunk.size))
        key.update(content)
    return key.digest()


def _read(chunks: list[_Chunk], encoded: list[memoryview]) -> np.ndarray:
    from trainer.data.parquet_pages import (
        read_column,  # not at the top: it imports numba, and most commands read no such file
    )

    num_rows = chunks[0].num_rows
    num_frames = num_rows // NUM_ROWS
    _need(1 <= num_frames <= MAX_FRAMES and num_rows == num_frames * NUM_ROWS)
    _need(all(chunk.physical_type == _DOUBLE and chunk.codec == _SNAPPY for chunk in chunks))
    points = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
    for axis, content in enumerate(encoded):
        chunk = np.frombuffer(content, np.uint8)
        _need(read_column(chunk, num_rows, NUM_ROWS, _USED, _scratch.pages, points[..., axis]))
    return points


def _int(varint: bytes) -> int:
    """A varint without its lowest bit."""
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 0x7F
    return value >> 1


def _need(condition: bool) -> None:
    if not condition:
        raise _OtherLayout
