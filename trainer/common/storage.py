"""Folders on storage that every machine reaches by a URI (s3://..., through pyarrow.fs), and their local copies.

Credentials and endpoints are found where that storage's own tools look for them: for s3://, AWS_ACCESS_KEY_ID and its
kin, ~/.aws, the machine's role, AWS_ENDPOINT_URL; or in the URI, as in s3://bucket/folder?region=eu-west-1. Keys in a
URI stay in this process's memory (trainer.common.credentials). Copies on this machine lie under
~/.cache/sign-ensemble-search, or $XDG_CACHE_HOME. Files appear whole or not at all.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
from pyarrow import fs

from trainer.common.credentials import hide, how_to_give_keys, restored
from trainer.common.errors import StorageError, in_one_line
from trainer.common.fields import without_keys
from trainer.common.files import LOCK, atomic_path
from trainer.common.patience import patiently

AT_A_TIME: Final = 16  # files that are fetched
_DENIED: Final = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "403")
_OUT_OF_REACH: Final = (
    "NETWORK_CONNECTION",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "INTERNAL_FAILURE",
    "HTTP status 5",
    "curlCode",
)


def is_uri(where: str) -> bool:
    return "://" in where


def join(where: str, name: str) -> str:
    """A folder's path or URI -> that of what is in it."""
    base, question, query = where.partition("?") if is_uri(where) else (where, "", "")
    return f"{base.rstrip('/') or '/'}/{name}{question}{query}"


def base_name(where: str) -> str:
    """The last part of a path or URI."""
    return (where.partition("?")[0] if is_uri(where) else where).rstrip("/").rpartition("/")[2]


def parent(where: str) -> str:
    """The path or URI of the folder that one is in."""
    base, question, query = where.partition("?") if is_uri(where) else (where, "", "")
    return f"{base.rstrip('/').rpartition('/')[0] or '.'}{question}{query}"


def cache_folder(*parts: str) -> Path:
    """Where copies of one kind lie on this machine."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "sign-ensemble-search", *parts)


def copy_folder(kind: str, where: str) -> Path:
    """Where this machine's copy of a URI lies: its last two names are those of the URI's folder."""
    return cache_folder(kind, sha256_of(where.encode()).hexdigest()[:16], base_name(where))


@dataclass(frozen=True)
class Remote:
    """A folder on storage. All methods raise StorageError, naming the URI, for what the storage refuses."""

    uri: str
    _filesystem: Any
    _root: str
    patience: float = 0.0
    """Seconds in which storage that is out of reach is tried again"""

    @classmethod
    def open(cls, uri: str, patience: float = 0.0) -> Self:
        """Raises StorageError if the URI is none that pyarrow knows; whether the storage answers is not asked."""
        uri = without_keys(uri)
        with _explained(uri, "used"):
            filesystem, root = fs.FileSystem.from_uri(restored(uri))
            return cls(uri, filesystem, root.rstrip("/"), patience)

    def child(self, name: str) -> "Remote":
        return Remote(join(self.uri, name), self._filesystem, f"{self._root}/{name}", self.patience)

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change, in nanoseconds, of every file below, by its name from here; empty if none."""
        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        found = self._do("read", lambda: self._filesystem.get_file_info(selector))
        start = len(self._root.lstrip("/")) + 1
        return {
            info.path.lstrip("/")[start:]: (info.size, info.mtime_ns or 0)
            for info in found
            if info.type == fs.FileType.File
        }

    def has(self, name: str) -> bool:
        found = self._do("read", lambda: self._filesystem.get_file_info(f"{self._root}/{name}"))
        return bool(found.type == fs.FileType.File)

    def upload(self, local: Path, name: str) -> None:
        """Replace a file by a local one."""
        target = f"{self._root}/{name}"

        def act() -> None:
            if self._filesystem.type_name in ("s3", "gcs", "abfs"):  # where a file shows when all of it is there
                fs.copy_files(str(local), target, destination_filesystem=self._filesystem)
                return
            self._filesystem.create_dir(target.rpartition("/")[0])
            fs.copy_files(str(local), f"{target}.part", destination_filesystem=self._filesystem)
            self._filesystem.move(f"{target}.part", target)

        self._do("written", act)

    def download(self, name: str, local: Path) -> None:
        """Copy a file to here."""
        with atomic_path(local) as temporary:
            place = f"{self._root}/{name}"
            self._do("read", lambda: fs.copy_files(place, str(temporary), source_filesystem=self._filesystem))

    def upload_present(self, folder: Path, *names: str) -> None:
        """Copy files of a local folder here, in this order, those that it has."""
        for name in names:
            if (folder / name).exists():
                self.upload(folder / name, name)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.has(name):
            with contextlib.suppress(FileNotFoundError):  # a first attempt may have been heard, but not its answer
                self._do("written", lambda: self._filesystem.delete_file(f"{self._root}/{name}"))

    def _do(self, what: str, act: Callable[[], Any]) -> Any:
        """Act on the storage, and again while it is out of reach, for as long as there is patience."""

        def attempt() -> Any:
            with _explained(self.uri, what):
                return act()

        return patiently(attempt, _may_pass, self.patience)

    def copy_to(self, folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Make a local folder hold the wanted files of this one, and no other that is not as it is here.

        Those that the folder has already are not read again.
        """
        there = self.files()
        here = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        same = {name for name, path in here.items() if there.get(name) == _about(path)}
        for name, path in here.items():
            if name not in same and path.name != LOCK:
                path.unlink()

        def fetch(name: str) -> None:
            self.download(name, folder / name)
            _, changed = there[name]
            os.utime(folder / name, ns=(changed, changed))

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(fetch, [name for name in there if name not in same and wanted(name)]))

    def check_writable(self, folder: Path) -> None:
        """Write a small file and remove it; ``folder`` is a local one for that file."""
        probe = folder / f".probe-{os.getpid()}"
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 2**10)
        try:
            self.upload(probe, probe.name)
            self.remove(probe.name)
        finally:
            probe.unlink()


def _about(path: Path) -> tuple[int, int]:
    """Size and time of change, in nanoseconds, of a local file."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _may_pass(error: Exception) -> bool:
    return isinstance(error, StorageError) and any(code in error.message for code in _OUT_OF_REACH)


@contextlib.contextmanager
def _explained(uri: str, what: str) -> Iterator[None]:
    """Turn what pyarrow says of a storage into a StorageError of one line."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        if isinstance(error, OSError) and error.filename is not None:  # of a local file
            raise
        words = in_one_line(error)
        advice = f"; {how_to_give_keys(uri)}" if any(code in words for code in _DENIED) else ""
        raise StorageError(f"{uri}: cannot be {what} ({words}){advice}") from (error if hide(words) == words else None)
