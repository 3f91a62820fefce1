"""The pages of a parquet column as the contest's files have them, decoded by compiled loops.

A column chunk is a dictionary page of doubles, then one data page of definition levels and bit-packed indices into the
dictionary, both compressed by Snappy. Decompressing the dictionaries takes most of a file's time, and libraries for any
data need a third more. What a compressor makes of doubles that were float32 is always alike: for each a literal of a
few bytes and a copy of the others, which repeat an earlier value's. Such a pair is one step here, without branches;
whatever else may come is decoded byte by byte.

The formats: github.com/apache/parquet-format, and format_description.txt of github.com/google/snappy. Nothing is
believed: a column that is laid out otherwise, or broken, is refused, and no byte outside the given arrays is touched.
Importing this module takes half a second, numba's.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from trainer.common.jit import njit

RUN: Final = 504  # bit-packed indices come in runs of 63 groups of 8, each after a byte 0x7f; the last is shorter
MAX_BITS: Final = 24  # of an index
MARGIN: Final = 8  # bytes after a page, so that its last index too can be had as a word
_OTHERWISE: Final = -1  # where the layout is another

U: Final[Any] = np.uint64  # of everything in Snappy's loops: numba makes floats of signed and unsigned mixed


def _load_word(_: Any, array: Any, at: Any) -> Any:
    """The eight bytes from ``at`` in a uint8 array as a word, wherever they stand."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(array, at), generate


def _store_word(_: Any, array: Any, at: Any, word: Any) -> Any:
    """Write a word into the eight bytes from ``at`` of a uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        builder.store(arguments[2], place, align=1)
        return context.get_dummy_value()

    return types.void(array, at, word), generate


_load: Any = intrinsic(_load_word)
_store: Any = intrinsic(_store_word)


@njit
def read_column(
    chunk: np.ndarray, num_rows: int, stride: int, used: np.ndarray, scratch: np.ndarray, values: np.ndarray
) -> bool:
    """Fill float32 values [n, u] with the rows ``used`` of every ``stride`` of a column's bytes uint8 [k].

    ``used`` int64 [u] ascends; nulls become NaN. The scratch uint8 [2, m] takes the decompressed pages. False, and
    some of the values written, if the column is laid out otherwise, its pages do not fit, or a value is infinite.
    """
    size, compressed, count, at = _page_header(chunk, 0, 2, 0x4C)
    if at == _OTHERWISE or at + 5 > len(chunk) or size != 8 * count or not 0 < count <= num_rows:
        return False
    if chunk[at] != 0 and chunk[at] != 4:  # the encoding
        return False
    at += 1
    if chunk[at] == 0x11 or chunk[at] == 0x12:  # whether it is sorted
        at += 1
    if chunk[at] != 0 or chunk[at + 1] != 0:
        return False
    at += 2
    page_end = at + compressed
    if page_end > len(chunk) or not decompress(chunk[at:page_end], scratch[0], size):
        return False
    dictionary = scratch[0, :size].view(np.float64)

    size, compressed, count, at = _page_header(chunk, page_end, 0, 0x2C)
    if at == _OTHERWISE or at + max(compressed, 3) >= len(chunk) or count != num_rows or size <= 4:
        return False
    if (chunk[at] != 4 and chunk[at] != 16) or chunk[at + 1] != 0x15 or chunk[at + 2] != 6:  # encodings
        return False
    if not decompress(chunk[len(chunk) - compressed :], scratch[1, : scratch.shape[1] - MARGIN], size):
        return False
    begin = find_indices(scratch[1], size, num_rows)
    return begin > 0 and bool(look_up(dictionary, scratch[1], begin, stride, used, values))


@njit
def _page_header(chunk: np.ndarray, at: int, kind: int, header: int) -> tuple[int, int, int, int]:
    """Sizes in bytes, uncompressed and compressed, and number of values of a page, and where the encoding follows."""
    if at + 5 > len(chunk) or chunk[at] != 0x15 or chunk[at + 1] != 2 * kind or chunk[at + 2] != 0x15:
        return 0, 0, 0, _OTHERWISE
    size, at = _varint(chunk, at + 3)
    if at + 2 > len(chunk) or chunk[at] != 0x15:
        return 0, 0, 0, _OTHERWISE
    compressed, at = _varint(chunk, at + 1)
    if at + 3 > len(chunk) or chunk[at] != header or chunk[at + 1] != 0x15:
        return 0, 0, 0, _OTHERWISE
    count, at = _varint(chunk, at + 2)
    if at + 1 > len(chunk) or chunk[at] != 0x15 or (size | compressed | count) & 1:  # Thrift's sign is the last bit
        return 0, 0, 0, _OTHERWISE
    return size >> 1, compressed >> 1, count >> 1, at + 1


@njit
def _varint(source: np.ndarray, at: int) -> tuple[int, int]:
    """A varint of at most 28 bits, whose last byte alone is under 0x80, and where it ends."""
    value = shift = 0
    while at < len(source) and source[at] >= 0x80 and shift < 21:
        value |= (source[at] & 0x7F) << shift
        shift += 7
        at += 1
    if at < len(source):
        value |= (source[at] & 0xFF) << shift
    return value, at + 1


@njit
def decompress(source: np.ndarray, out: np.ndarray, size: int) -> bool:
    """Decompress Snappy's raw format, uint8 [k], into the first ``size`` bytes of ``out``. False if it is not that."""
    stated, begin = _varint(source, 0)
    if stated != size or not 0 < size <= len(out) or begin > len(source):
        return False
    at, end = U(begin), U(len(source))
    done, all_done = U(0), U(size)
    pairs_end = end - U(min(7, len(source)))  # the last places to take a word from
    while at < end:
        while at < pairs_end and done + U(16) <= all_done:
            word = _load(source, at)
            tag = word & U(0xFF)
            length = (tag >> U(2)) + U(1)  # of the literal, 1 to 4
            copy = word >> ((U(8) * length + U(8)) & U(63))  # from its tag on
            far = (copy >> U(1)) & U(1)  # whether its offset takes two bytes, or one and three bits
            if_far = U(0) - far
            copied = (((copy >> U(2) & U(7)) + U(4)) & ~if_far) | (((copy >> U(2) & U(63)) + U(1)) & if_far)
            offset = (((copy & U(0xE0)) << U(3) | (copy >> U(8) & U(0xFF))) & ~if_far) | (
                copy >> U(8) & if_far & U(0xFFFF)
            )
            is_pair = (tag & ~U(12)) == U(0) and (copy & U(1)) != far
            if not is_pair or offset < U(8) or offset > done or length + copied > U(16):
                break
            literal = (U(1) << U(8) * length) - U(1)
            # the copy's first bytes stand in the earlier word where they go in this one: one load, and one store that
            # a later copy can be served from before it has reached memory
            _store(out, done, (word >> U(8) & literal) | (_load(out, done - offset) & ~literal))
            _store(out, done + U(8), _load(out, done + U(8) - offset))
            at += length + far + U(3)
            done += length + copied
        at, done = _element(source, at, end, out, done, all_done)
    return bool(at == end and done == all_done)


@njit
def _element(source: np.ndarray, at: int, end: int, out: np.ndarray, done: int, all_done: int) -> tuple[int, int]:
    """Decode a literal or a copy: where the next is in the source and in ``out``, or beyond the end if it is broken."""
    tag = U(source[at])
    at += U(1)
    length = (tag >> U(2)) + U(1)
    kind = tag & U(3)
    broken = end + U(1), done
    if kind == U(0):
        if length > U(60):
            width = length - U(60)
            if at + width > end:
                return broken
            length = U(1)
            for byte in range(width):
                length += U(source[at + U(byte)]) << U(8) * U(byte)
            at += width
        if length > end - at or length > all_done - done:
            return broken
        for byte in range(length):
            out[done + U(byte)] = source[at + U(byte)]
        return at + length, done + length
    if kind == U(3) or at + kind > end:
        return broken
    offset = U(source[at])
    if kind == U(1):
        length = (tag >> U(2) & U(7)) + U(4)
        offset |= (tag & U(0xE0)) << U(3)
    else:
        offset |= U(source[at + U(1)]) << U(8)
    if offset == U(0) or offset > done or length > all_done - done:
        return broken
    for byte in range(length):
        out[done + U(byte)] = out[done + U(byte) - offset]
    return at + kind, done + length


@njit
def find_indices(page: np.ndarray, size: int, num_rows: int) -> int:
    """Where the indices begin in the first ``size`` bytes of a data page of so many rows, or 0 if it is not as follows.

    The size of the levels in four bytes; the levels, in runs, each a length as a varint shifted left by one and then a
    byte, 1 for values or 0 for nulls; the bits of an index in a byte; the indices of the rows that hold a value, in
    runs of RUN, each after a byte 0x7f, and a shorter last one.
    """
    levels_end: int = 4 + page[0] + (page[1] << 8) + (page[2] << 16) + (page[3] << 24)
    if levels_end >= size:
        return 0
    at, rows, nulls = 4, 0, 0
    while at < levels_end:
        length, at = _varint(page[:levels_end], at)
        if at >= levels_end or length & 1 or page[at] > 1:  # not a run of equal levels
            return 0
        rows += length >> 1
        nulls += 0 if page[at] else length >> 1
        at += 1
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


@njit
def look_up(
    dictionary: np.ndarray, page: np.ndarray, begin: int, stride: int, used: np.ndarray, values: np.ndarray
) -> bool:
    """Fill float32 values [n, u] from a page whose indices begin there: rows ``used`` of every ``stride``.

    The page has MARGIN bytes more. False if an index is beyond the dictionary float64 [k], or a value infinite.
    """
    bits = int(page[begin - 1])
    mask = U((1 << bits) - 1)
    at, run_end, nulls, is_value = 4, 0, 0, False  # rows up to the end of the run of levels, nulls among them
    for frame in range(len(values)):
        for column in range(len(used)):
            row = frame * stride + used[column]
            while row >= run_end:
                length, at = _varint(page, at)
                is_value = page[at] == 1
                run_end += length >> 1
                nulls += 0 if is_value else length >> 1
                at += 1
            if not is_value:
                values[frame, column] = np.nan
                continue
            bit = (row - nulls) * bits + 8 * ((row - nulls) // RUN + 1)
            index = _load(page, begin + (bit >> 3)) >> U(bit & 7) & mask
            if index >= U(len(dictionary)):
                return False
            value = np.float32(dictionary[index])
            if np.isinf(value):
                return False
            values[frame, column] = value
    return True
