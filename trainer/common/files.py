"""Files that appear whole or not at all (written beside their final name, synced, renamed), and folder locks."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from trainer.common.errors import UserError, first_line
from trainer.common.fields import to_place
from trainer.common.patience import patiently

LOCK: Final = ".lock"
LOOK_SECONDS: Final = 1.0  # that a folder may be looked at by others before its lock is said to be taken


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it to ``path``.

    If the block raises, the temporary file is removed and whatever stood at ``path`` is untouched. An OSError of the
    writing itself then has the name of ``path``. Raises UserError if a device, a pipe or a socket stands there: the
    rename would put a file in its place.
    """
    _require_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):  # such as a full disk
            reason = error.strerror or first_line(error)
            raise OSError(error.errno or errno.EIO, reason, str(path)) from error
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def to_path(value: Any, field: str) -> Path:
    """A path on this machine as Python's users give one.

    Raises UserError with ``field`` for what is none, such as a number, nothing but spaces, or a URI.
    """
    place = to_place(value, field)
    if "://" in place:
        raise UserError("must be a path on this machine, not a URI", field=field)
    return Path(place)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all. NaN and infinity are refused."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_array(path: Path, array: Any) -> None:
    """Write a NumPy array as an .npy file, whole or not at all."""
    import numpy as np  # which little else here needs

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content, read in pieces. Raises OSError for what is no file."""
    if wrong := special(path):
        raise OSError(errno.EINVAL, wrong, str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(folder: Path, busy: str | None = None) -> Iterator[None]:
    """Keep a folder to this process, by its file LOCK.

    If another process has it, raises UserError with the message ``busy``, or waits where there is no message. The lock
    goes with the process, however it ends; whether the file stays is up to the caller.
    """
    with (folder / LOCK).open("w") as file:
        if busy is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            try:  # again for a moment: is_locked takes it that long, to look
                patiently(lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), _is_taken, LOOK_SECONDS)
            except BlockingIOError as error:
                raise UserError(f"{folder}: {busy}") from error
        yield


def _is_taken(error: Exception) -> bool:
    return isinstance(error, BlockingIOError)


def is_locked(folder: Path) -> bool:
    """Whether some process has a folder ``locked``; this one too."""
    try:
        with (folder / LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is not for us
        return False
    return False


def require_working_folder() -> None:
    """Raise UserError if the folder that this process works in was removed: libraries end without a word there."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the working folder was removed; change to another one") from error


def special(path: Path) -> str:
    """What stands at ``path``, in words, if it is neither a file nor a folder; else nothing.

    A pipe is waited for without end, a device may never end, and both are lost where a file takes their place.
    """
    found = mistaken(path, "file")
    return "" if found.startswith(("is a folder", "is a link")) else found


def mistaken(path: Path, wanted: Literal["file", "folder"]) -> str:
    """What stands at ``path``, in words such as "is a pipe, not a folder"; empty if what is wanted, or nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # nothing stands there; or the opening says why not
        return f"is a link to nothing, not a {wanted}" if path.is_symlink() else ""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return "" if kind == f"a {wanted}" else f"is {kind}, not a {wanted}"


def _require_file(path: Path, field: str | None = None) -> None:
    """Raises UserError with ``field`` if no file may take the place of what stands at ``path``."""
    if wrong := special(path):
        raise UserError(f"{path}: {wrong}; name another file", field=field)


def require_writable_file(field: str, path: Path, example: str) -> None:
    """Raises UserError with ``field`` if no file can be written to ``path``; leaves nothing there.

    ``example`` is the name of a file that the error proposes where ``path`` is a folder.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it, such as {path / example}", field=field)
    _require_file(path, field)
    require_writable(field, path.parent)


def require_folder(folder: Path, field: str | None = None) -> None:
    """Raises UserError with ``field`` if something else stands where a folder is, or is to be made."""
    for path in (folder, *folder.absolute().parents):
        if wrong := mistaken(path, "folder"):
            raise UserError(f"{path}: {wrong}; name another folder", field=field)


def require_writable(field: str, folder: Path) -> None:
    """Raises UserError with ``field`` if a folder cannot be written to, or made; leaves nothing there."""
    require_folder(folder, field)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: {existing} cannot be written to ({error.strerror}); name another folder", field=field
        ) from error
