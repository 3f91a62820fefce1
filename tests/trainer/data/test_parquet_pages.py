"""The decoders of pages: Snappy against cramjam's, and levels and indices put together by hand."""

import cramjam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.parquet_pages import MARGIN, decompress, find_indices, look_up
from trainer.landmarks import ROWS

GUARD = 0xA5


def decompressed(compressed: bytes, size: int) -> bytes | None:
    """By our decoder, which must leave what lies after its output as it is."""
    out = np.full(size + 64, GUARD, np.uint8)
    done = decompress(np.frombuffer(compressed, np.uint8), out[:size], size)
    assert (out[size:] == GUARD).all()
    return out[:size].tobytes() if done else None


def by_cramjam(compressed: bytes, size: int) -> bytes | None:
    out = bytearray(size)
    try:
        return bytes(out) if cramjam.snappy.decompress_raw_into(compressed, out) == size else None
    except cramjam.DecompressionError:
        return None


doubles = st.builds(
    lambda seed, count, step: (
        (np.round(np.random.default_rng(seed).normal(0.5, 0.2, count) / step) * step)
        .astype(np.float32)
        .astype(np.float64)
        .tobytes()
    ),
    st.integers(0, 2**32),
    st.integers(1, 20_000),
    st.sampled_from([1e-9, 1e-3, 0.05]),
)
repeats = st.builds(lambda parts, times: b"".join(parts) * times, st.lists(st.binary(max_size=90)), st.integers(1, 40))


@settings(max_examples=300)
@given(st.one_of(doubles, repeats, st.binary(max_size=300)).filter(len))
def test_snappy_is_decompressed(content: bytes) -> None:
    compressed = bytes(cramjam.snappy.compress_raw(content))
    assert decompressed(compressed, len(content)) == content
    assert decompressed(compressed, len(content) + 1) is None
    assert decompressed(compressed[:-1], len(content)) is None


@settings(max_examples=500)
@given(st.one_of(doubles, repeats).filter(len), st.integers(0, 2**32))
def test_harmed_snappy_is_what_cramjam_makes_of_it_or_refused(content: bytes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    harmed = bytearray(cramjam.snappy.compress_raw(content))
    for _ in range(rng.integers(1, 4)):
        harmed[rng.integers(len(harmed))] ^= int(rng.integers(1, 256))
    assert decompressed(bytes(harmed), len(content)) == by_cramjam(bytes(harmed), len(content))


@pytest.mark.parametrize(
    "compressed",
    [
        b"",
        b"\x08",  # no element
        b"\x80\x80\x80\x80",  # a size without an end
        b"\x08\x0cabc",  # a literal that ends too early
        b"\x08\x1dabcdefgh",  # a literal longer than what is left
        b"\x08\xf0",  # no length of a long literal
        b"\x08\x0cabcd\x01",  # no offset
        b"\x08\x0cabcd\x0e\x04",  # half an offset
        b"\x08\x0cabcd\x01\x05",  # a copy from before the beginning
        b"\x08\x0cabcd\x01\x00",  # a copy of itself
        b"\x08\x0cabcd\x0f\x04\x00\x00\x00",  # an offset of four bytes: no compressor writes it for a page
    ],
)
def test_broken_snappy_is_refused(compressed: bytes) -> None:
    assert decompressed(compressed, 8) is None


# Levels and indices, on bytes put together by hand: 2 frames, every index of a byte.

LEVELS = bytes([0xFC, 0x10, 1])  # one run of 2 x 543 = 1086 values: 1086 << 1 as a varint, and the level 1
INDICES = [0x7F, *[7] * 504, 0x7F, *[8] * 504, 0x15, *[9] * 80]  # runs of 63, 63 and 10 groups of 8 indices


DICTIONARY = 100 + np.arange(256.0)


def looked_up(levels: bytes, indices: list[int], dictionary: np.ndarray = DICTIONARY) -> np.ndarray | None:
    """Values [2, 85] of a page with such levels and indices of 8 bits; None if it is refused."""
    content = len(levels).to_bytes(4, "little") + levels + bytes([8, *indices])
    page = np.frombuffer(content + bytes(MARGIN), np.uint8)
    values = np.empty((2, len(ROWS)), np.float32)
    begin = find_indices(page, len(content), 1086)
    if begin == 0 or not look_up(dictionary, page, begin, 543, np.array(ROWS), values):
        return None
    return values


def test_indices_are_looked_up_where_they_stand() -> None:
    rows = np.arange(1086).reshape(2, 543)[:, ROWS]
    expected = np.where(rows < 504, 107, np.where(rows < 1008, 108, 109))
    np.testing.assert_array_equal(looked_up(LEVELS, INDICES), expected)


def test_nulls_take_no_index() -> None:
    levels = bytes([0xF8, 0x0F, 1, 0x02, 0, 0x82, 0x01, 1])  # 1020 values, a null, 65 values
    found = looked_up(levels, INDICES)
    rows = np.arange(1086).reshape(2, 543)[:, ROWS]
    assert 1020 in rows
    place = rows - (rows > 1020)
    expected = np.where(place < 504, 107, np.where(place < 1008, 108, 109)).astype(float)
    expected[rows == 1020] = np.nan
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_values_are_refused(value: float) -> None:
    assert looked_up(LEVELS, INDICES, np.full(256, value)) is None


def test_indices_beyond_the_dictionary_are_refused() -> None:
    assert looked_up(LEVELS, INDICES, np.arange(9.0)) is None
    assert looked_up(LEVELS, INDICES, np.arange(10.0)) is not None


@pytest.mark.parametrize(
    ("levels", "indices"),
    [
        (LEVELS, [0x7F, *[7] * 504, 0x80, 0x10, *[8] * 503, 0x15, *[9] * 80]),  # a run of equal indices
        (LEVELS, [0x7D, *[7] * 504, 0x7F, *[8] * 504, 0x15, *[9] * 80]),  # 62 groups
        (LEVELS, [0x7F, *[7] * 504, 0x7F, *[8] * 504, 0x14, *[9] * 80]),  # a last run of equal indices
        (LEVELS, [0x7F, *[7] * 504, 0x7F, *[8] * 504, 0x13, *[9] * 80]),  # a last run too short
        (LEVELS, [*INDICES[:-1]]),  # the page ends too early
        (bytes([0xFD, 0x10, 1]), INDICES),  # bit-packed levels
        (bytes([0xFC, 0x10, 2]), INDICES),  # a level that is none
        (bytes([0xFC, 0x10, 1, 1]), INDICES),  # half a run more
        (bytes([0xFE, 0x10, 1]), INDICES),  # a value too many
        (bytes([0xFC, 0x10, 0]), INDICES),  # no value at all
    ],
)
def test_whatever_is_not_laid_out_so_is_refused(levels: bytes, indices: list[int]) -> None:
    assert looked_up(levels, indices) is None
