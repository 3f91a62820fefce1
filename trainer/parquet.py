"""The x and y of the contest's own parquet files, faster than a general reader has them.

One program wrote all of the contest's files in one way: one row group, Snappy, and a column a dictionary page followed
by a single data page of definition levels and bit-packed indices into the dictionary. Here those pages are decompressed
and only the landmarks in use are looked up, where a general reader decodes all 543. A file that is laid out in any
other way, or broken, is left to pyarrow: then ``read`` returns None. The format: github.com/apache/parquet-format.
"""

import hashlib
import os
import re
import threading
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import cramjam
import numpy as np

from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

FOOTER_BYTES: Final = 8192  # more than the contest's footers have
MAX_FRAMES: Final = 1024
MAX_BYTES: Final = 1 << 22  # of what is read of a file, and of a page
RUN: Final = 504  # bit-packed indices come in runs of 63 groups of 8, each after a byte 0x7f; the last is shorter
SLACK: Final = 3  # bytes after the last index, so that it too can be had from four bytes
NULL: Final = 1 << 40  # taken from a place, it leaves it negative

_USED: Final = np.arange(MAX_FRAMES)[:, None] * NUM_ROWS + np.array(ROWS)  # row of each used landmark in the file

# Integers below are Thrift's varints, whose last byte alone is under 0x80, shifted left by one: none is negative.
_INT: Final = rb"([\x80-\xff]*[\x00-\x7f])"
# ColumnMetaData: type, encodings, path, codec, values, sizes, where the data begin and where the dictionary, if any.
_CHUNK: Final = re.compile(
    rb"\x15(.)\x19.{2,5}?\x19\x18.(type|landmark_index|x|y)\x15(.)"
    + rb"\x16%b\x16%b\x16%b\x26%b(?:\x26%b)?" % ((_INT,) * 5),
    re.DOTALL,
)
_DOUBLE, _SNAPPY = b"\x0a", b"\x02"
# PageHeader: kind of page, sizes uncompressed and compressed, then of its own header values, encoding, and the rest.
_DICTIONARY_PAGE: Final = re.compile(
    rb"\x15\x04\x15%b\x15%b\x4c\x15%b\x15[\x00\x04][\x11\x12]?\x00\x00" % ((_INT,) * 3)
)
_DATA_PAGE: Final = re.compile(rb"\x15\x00\x15%b\x15%b\x2c\x15%b\x15[\x04\x10]\x15\x06" % ((_INT,) * 3))
# A run of equal definition levels: its length as a varint shifted left by one, and 1 for values or 0 for nulls.
_LEVEL_RUN: Final = re.compile(rb"([\x80-\xff]{0,3}[\x00-\x7f])([\x00\x01])", re.DOTALL)


class _OtherLayout(Exception):
    """The file is not laid out as the contest's are."""


_NOT_LIKE_THE_CONTESTS: Final = (_OtherLayout, OSError, ValueError, IndexError, cramjam.DecompressionError)


class _Scratch(threading.local):
    """Memory that every file is read into, each thread's own. Fresh memory would cost a quarter of the time."""

    def __init__(self) -> None:
        self.content = bytearray(MAX_BYTES)
        self.dictionaries = np.empty((2, MAX_FRAMES * NUM_ROWS))
        self.pages = np.empty((2, MAX_BYTES), np.uint8)


_scratch = _Scratch()


class _Column(NamedTuple):
    """One column, decompressed into the scratch memory."""

    dictionary: np.ndarray
    """float64 [k]"""
    levels: bytes
    """runs of definition levels: which rows hold a value, and which a null"""
    bits: int
    """of an index into the dictionary"""
    indices: np.ndarray
    """uint8, of the rows that hold a value, in runs, and SLACK"""


class _Places(NamedTuple):
    """Where the used landmarks stand among a column's values that are not null: all [n, 85]."""

    place: np.ndarray
    """int64, 0 for nulls"""
    run_headers: np.ndarray
    """int64, bits of run headers up to there"""
    null: np.ndarray
    """bool"""
    num_values: int


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
        size = os.fstat(descriptor).st_size
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
    num_rows = chunks[0].num_rows
    num_frames = num_rows // NUM_ROWS
    _need(1 <= num_frames <= MAX_FRAMES)
    _need(all(chunk.physical_type == _DOUBLE and chunk.codec == _SNAPPY for chunk in chunks))
    x, y = (_decompress(content, num_rows, axis) for axis, content in enumerate(encoded))
    places = _locate(x.levels, num_rows)
    points = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
    points[..., 0] = _look_up(x, places)
    points[..., 1] = _look_up(y, places if y.levels == x.levels else _locate(y.levels, num_rows))
    return points


def _decompress(chunk: memoryview, num_rows: int, axis: int) -> _Column:
    header = _match(_DICTIONARY_PAGE, chunk, 0)
    size, compressed, count = map(_int, header.groups())
    _need(size == 8 * count and 0 < count <= num_rows)
    dictionary = _scratch.dictionaries[axis, :count]
    page_end = header.end() + compressed
    _need(cramjam.snappy.decompress_raw_into(chunk[header.end() : page_end], dictionary.view(np.uint8).data) == size)

    header = _match(_DATA_PAGE, chunk, page_end)
    size, compressed, count = map(_int, header.groups())
    _need(header.end() + compressed < len(chunk) and count == num_rows and size <= MAX_BYTES - SLACK)
    page = _scratch.pages[axis, : size + SLACK]
    _need(cramjam.snappy.decompress_raw_into(chunk[-compressed:], page.data) == size)
    levels_end = 4 + int.from_bytes(page[:4].tobytes(), "little")
    _need(levels_end < size)
    return _Column(dictionary, page[4:levels_end].tobytes(), int(page[levels_end]), page[levels_end + 1 :])


def _locate(levels: bytes, num_rows: int) -> _Places:
    headers, flags = zip(*_LEVEL_RUN.findall(levels), strict=True)
    lengths = np.array([_run_length(header) for header in headers])
    _need(len(b"".join(headers)) + len(flags) == len(levels) and int(lengths.sum()) == num_rows)
    present = np.frombuffer(b"".join(flags), np.bool)
    nulls = np.cumsum(np.where(present, 0, lengths))
    used = _USED[: num_rows // NUM_ROWS]
    place = used - np.where(present, nulls, NULL).repeat(lengths)[used]
    null = place < 0
    place[null] = 0
    return _Places(place, 8 * (place // RUN + 1), null, num_rows - int(nulls[-1]))


def _look_up(column: _Column, places: _Places) -> np.ndarray:
    """Values of the used landmarks, NaN where null: float64 [n, 85]."""
    run_bytes = 1 + RUN * column.bits // 8
    full_runs = (places.num_values - 1) // RUN
    last = full_runs * run_bytes
    _need(places.num_values > 0 and 0 < column.bits <= 24 and last < len(column.indices))
    header = int(column.indices[last])
    _need(bool((column.indices[:last:run_bytes] == 0x7F).all()) and header & 0x81 == 1)
    _need(8 * (header >> 1) >= places.num_values - full_runs * RUN)
    _need(last + 1 + (header >> 1) * column.bits <= len(column.indices) - SLACK)
    words = np.ndarray((len(column.indices) - SLACK,), "<u4", column.indices, 0, (1,))  # the four bytes at every byte
    bit = places.place * column.bits + places.run_headers
    index = (words[bit >> 3] >> (bit & 7)) & ((1 << column.bits) - 1)
    values: np.ndarray = column.dictionary[index]
    values[places.null] = np.nan
    return values


def _match(pattern: re.Pattern[bytes], chunk: memoryview, at: int) -> re.Match[bytes]:
    found = pattern.match(chunk, at)
    if found is None:
        raise _OtherLayout
    return found


def _int(varint: bytes) -> int:
    """A varint without its lowest bit."""
    value = 0
    for byte in reversed(varint):
        value = value << 7 | byte & 0x7F
    return value >> 1


@cache
def _run_length(header: bytes) -> int:
    _need(not header[0] & 1)  # else it is not a run of equal levels
    return _int(header)


def _need(condition: bool) -> None:
    if not condition:
        raise _OtherLayout
