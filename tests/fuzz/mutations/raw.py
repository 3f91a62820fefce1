"""Mutations of any file, which know nothing of its format."""

import os
import shutil
from pathlib import Path

from tests.fuzz.mutations import DoesNotApply, Mutations, pick

RAW = Mutations("bytes")
PIECES = (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b'"', b"[" * 5000, b"\0" * 4096, bytes(range(256)))


def _place(content: bytes | bytearray, where: int) -> int:
    if not content:
        raise DoesNotApply
    return where * 7919 % len(content)


@RAW.add
def bit_flipped(path: Path, where: int, what: int) -> str:
    content = bytearray(path.read_bytes())
    place = _place(content, where)
    content[place] ^= 1 << what % 8
    path.write_bytes(content)
    return f"bit {what % 8} of byte {place} flipped"


@RAW.add
def truncated(path: Path, where: int, _: int) -> str:
    content = path.read_bytes()
    place = _place(content, where)
    path.write_bytes(content[:place])
    return f"cut off after {place} of {len(content)} bytes"


@RAW.add
def piece_twice(path: Path, where: int, what: int) -> str:
    content = path.read_bytes()
    place, size = _place(content, where), 1 + what % 1000
    path.write_bytes(content[: place + size] + content[place:])
    return f"{size} bytes at {place} twice"


@RAW.add
def piece_removed(path: Path, where: int, what: int) -> str:
    content = path.read_bytes()
    place, size = _place(content, where), 1 + what % 1000
    path.write_bytes(content[:place] + content[place + size :])
    return f"{size} bytes at {place} removed"


@RAW.add
def piece_inserted(path: Path, where: int, what: int) -> str:
    content, piece = path.read_bytes(), pick(PIECES, what)
    place = pick((0, len(content), _place(content, where)), where)
    path.write_bytes(content[:place] + piece + content[place:])
    return f"{len(piece)} bytes {piece[:4]!r}... inserted at {place} of {len(content)}"


@RAW.add
def piece_zeroed(path: Path, where: int, what: int) -> str:
    content = path.read_bytes()
    place, size = _place(content, where), 1 + what % 1000
    path.write_bytes(content[:place] + bytes(len(content[place : place + size])) + content[place + size :])
    return f"{size} bytes at {place} set to 0"


@RAW.add
def emptied(path: Path, _: int, __: int) -> str:
    path.write_bytes(b"")
    return "empty"


@RAW.add
def removed(path: Path, _: int, __: int) -> str:
    path.unlink()
    return "removed"


@RAW.add
def folder_instead(path: Path, _: int, __: int) -> str:
    path.unlink()
    path.mkdir()
    return "a folder in its place"


@RAW.add
def dangling_link(path: Path, _: int, __: int) -> str:
    path.unlink()
    path.symlink_to("nowhere")
    return "a link to nowhere in its place"


@RAW.add
def pipe_instead(path: Path, _: int, __: int) -> str:
    """Which whoever reads it waits for."""
    path.unlink()
    os.mkfifo(path)
    return "a pipe in its place"


@RAW.add
def neighbours_content(path: Path, where: int, _: int) -> str:
    """Another file of the same folder under this one's name."""
    other = pick(sorted(file for file in path.parent.iterdir() if file.is_file() and file != path), where)
    shutil.copyfile(other, path)
    return f"with the content of {other.name}"


@RAW.add
def of_another_trial(path: Path, where: int, _: int) -> str:
    """The same file of a neighbouring folder, such as another trial's."""
    others = sorted(file for file in path.parent.parent.glob(f"*/{path.name}") if file.parent != path.parent)
    other = pick(others, where)
    shutil.copyfile(other, path)
    return f"with the content of {other.parent.name}/{other.name}"
