"""The x and y of the contest's own parquet files, faster than a general reader has them.

One program wrote all of the contest's files in one way: one row group, Snappy, and a column a dictionary page followed
by a single data page of definition levels and bit-packed indices into the dictionary. Here those pages are decompressed
and only the landmarks in use are looked up, by a compiled loop, where a general reader decodes all 543. A file that is
laid out in any other way, or broken, is left to pyarrow: then ``read`` returns None. The format:
github.com/apache/parquet-format.
"""

import hashlib
import os
import re
import threading
from collections.abc import Container
from pathlib import Path
from typing import Final, NamedTuple

import cramjam
import numpy as np

from trainer.compiled import compiled
from trainer.landmarks import NUM_LANDMARKS, NUM_ROWS, ROWS

FOOTER_BYTES: Final = 8192  # more than the contest's footers have
MAX_FRAMES: Final = 1024
MAX_BYTES: Final = 1 << 22  # of what is read of a file, and of a page
RUN: Final = 504  # bit-packed indices come in runs of 63 groups of 8, each after a byte 0x7f; the last is shorter
SLACK: Final = 3  # bytes after the last index, so that it too can be had from four bytes
MAX_BITS: Final = 24  # of an index

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
# PageHeader: kind of page, sizes uncompressed and compressed, then of its own header values, encoding, and the rest.
_DICTIONARY_PAGE: Final = re.compile(
    rb"\x15\x04\x15%b\x15%b\x4c\x15%b\x15[\x00\x04][\x11\x12]?\x00\x00" % ((_INT,) * 3)
)
_DATA_PAGE: Final = re.compile(rb"\x15\x00\x15%b\x15%b\x2c\x15%b\x15[\x04\x10]\x15\x06" % ((_INT,) * 3))


class _OtherLayout(Exception):
    """The file is not laid out as the contest's are."""


_NOT_LIKE_THE_CONTESTS: Final = (_OtherLayout, OSError, ValueError, IndexError, cramjam.DecompressionError)


class _Scratch(threading.local):
    """Memory that every file is read into, each thread's own. Fresh memory would cost a quarter of the time."""

    def __init__(self) -> None:
        self.content = bytearray(MAX_BYTES)
        self.dictionary = np.empty(MAX_FRAMES * NUM_ROWS)
        self.page = np.empty(MAX_BYTES, np.uint8)


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
    _need(1 <= num_frames <= MAX_FRAMES and num_rows == num_frames * NUM_ROWS)
    _need(all(chunk.physical_type == _DOUBLE and chunk.codec == _SNAPPY for chunk in chunks))
    points = np.empty((num_frames, NUM_LANDMARKS, 2), np.float32)
    for axis, content in enumerate(encoded):
        dictionary, page = _decompress(content, num_rows)
        begin = compiled(_find_indices)(page, len(page) - SLACK, num_rows)
        _need(begin > 0)
        _need(compiled(_look_up)(dictionary, page, begin, NUM_ROWS, _USED, points[..., axis]) == 1)
    return points


def _decompress(chunk: memoryview, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Dictionary float64 [k] and data page uint8 [size + SLACK] of a column, in the scratch memory."""
    header = _match(_DICTIONARY_PAGE, chunk, 0)
    size, compressed, count = map(_int, header.groups())
    _need(size == 8 * count and 0 < count <= num_rows)
    dictionary = _scratch.dictionary[:count]
    page_end = header.end() + compressed
    _need(cramjam.snappy.decompress_raw_into(chunk[header.end() : page_end], dictionary.view(np.uint8).data) == size)

    header = _match(_DATA_PAGE, chunk, page_end)
    size, compressed, count = map(_int, header.groups())
    _need(header.end() + compressed < len(chunk) and count == num_rows and 4 < size <= MAX_BYTES - SLACK)
    page = _scratch.page[: size + SLACK]
    _need(cramjam.snappy.decompress_raw_into(chunk[-compressed:], page.data) == size)
    return dictionary, page


def _find_indices(page: np.ndarray, size: int, num_rows: int) -> int:
    """Where the indices begin in the first ``size`` bytes of a data page of so many rows, or 0 if it is not as follows.

    The size of the levels in four bytes; the levels, in runs, each a length as a varint shifted left by one and then a
    byte, 1 for values or 0 for nulls; the bits of an index in a byte; the indices of the rows that hold a value, in
    runs of RUN, each after a byte 0x7f, and a shorter last one. Compiled, as the next: plain loops.
    """
    levels_end: int = 4 + page[0] + (page[1] << 8) + (page[2] << 16) + (page[3] << 24)
    if levels_end >= size:
        return 0
    at, rows, nulls = 4, 0, 0
    while at < levels_end:
        length = shift = 0
        while page[at] >= 0x80 and shift < 28:
            length |= (page[at] & 0x7F) << shift
            shift += 7
            at += 1
        length |= page[at] << shift
        if length & 1 or page[at + 1] > 1:  # not a run of equal levels
            return 0
        rows += length >> 1
        nulls += 0 if page[at + 1] else length >> 1
        at += 2
    bits, begin, num_values = int(page[levels_end]), levels_end + 1, rows - nulls
    last = begin + (num_values - 1) // RUN * (1 + RUN * bits // 8)
    if at != levels_end or rows != num_rows or num_values < 1 or not 0 < bits <= MAX_BITS or last >= size:
        return 0
    for header in range(begin, last, 1 + RUN * bits // 8):
        if page[header] != 0x7F:
            return 0
    groups = page[last] >> 1
    if page[last] & 0x81 != 1 or 8 * groups <= (num_values - 1) % RUN or last + 1 + groups * bits > size:
        return 0
    return begin


def _look_up(
    dictionary: np.ndarray, page: np.ndarray, begin: int, num_rows: int, used: np.ndarray, values: np.ndarray
) -> bool:
    """Fill float32 values [n, u] from a page whose indices begin there: rows ``used`` of every ``num_rows``.

    Nulls become NaN. False if an index is beyond the dictionary, or a value infinite.
    """
    bits = int(page[begin - 1])
    mask = (1 << bits) - 1
    at, run_end, nulls, is_value = 4, 0, 0, False  # rows up to the end of the run of levels, nulls among them
    for frame in range(len(values)):
        for column in range(len(used)):
            row = frame * num_rows + used[column]
            while row >= run_end:
                length = shift = 0
                while page[at] >= 0x80:
                    length |= (page[at] & 0x7F) << shift
                    shift += 7
                    at += 1
                length = (length | page[at] << shift) >> 1
                is_value = page[at + 1] == 1
                run_end += length
                nulls += 0 if is_value else length
                at += 2
            if not is_value:
                values[frame, column] = np.nan
                continue
            bit = (row - nulls) * bits + 8 * ((row - nulls) // RUN + 1)
            byte = begin + (bit >> 3)
            word = page[byte] | page[byte + 1] << 8 | page[byte + 2] << 16 | page[byte + 3] << 24
            index = word >> (bit & 7) & mask
            if index >= len(dictionary):
                return False
            value = np.float32(dictionary[index])
            if np.isinf(value):
                return False
            values[frame, column] = value
    return True


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


def _need(condition: bool) -> None:
    if not condition:
        raise _OtherLayout
