"""What a packed dataset's manifest says of it, and whether the files are still that.

Opening a dataset trusts no file whose content is not the manifest's. Hashing 2.4 GB takes about 2 s, so the verdict on
large files is kept on this machine, beside the copies of storage, for as long as a file's size, times and inode stay.
"""

import contextlib
import fcntl
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from trainer.common.errors import DatasetChangedError, UserError, first_line
from trainer.common.files import LOCK, mistaken, sha256, write_json
from trainer.common.storage import copy_folder
from trainer.common.strict import described, parse_json, read_text
from trainer.data.contest import TRAIN_CSV, is_no_name
from trainer.landmarks import ROWS

FORMAT_VERSION: Final = 1
FRAMES, SEQUENCES, MANIFEST = "frames.npy", "sequences.parquet", "manifest.json"
REMEMBERED_FROM: Final = 2**24  # bytes; hashing less takes milliseconds
_AGAIN: Final = "pack it again with trainer.pack"


def fingerprint(manifest: dict[str, Any]) -> str:
    """Identity of a packed dataset's content: the two SHA-256 of its manifest, joined."""
    hashes = manifest["sha256"]
    return f"{hashes[FRAMES][:32]}{hashes[SEQUENCES][:32]}"


def read_manifest(folder: Path, shown: str = "") -> dict[str, Any]:
    """The manifest of a packed dataset, its fields checked. ``shown`` is what messages call the folder.

    Raises UserError if there is none, if it is of another format, or if a field is absent or of another type.
    """
    where = shown or str(folder)
    if wrong := mistaken(folder, "folder"):
        raise UserError(f"{where}: {wrong}; give a packed dataset's, made with trainer.pack")
    try:
        manifest = parse_json(read_text(folder / MANIFEST))
    except (FileNotFoundError, NotADirectoryError) as error:
        missing = f"no {MANIFEST}" if folder.exists() else "there is no such folder"
        is_new = not folder.exists() or not any(folder.iterdir())
        what, places = f"not a packed dataset ({missing})", f"SOURCE {where if is_new else 'NEW-FOLDER'}"
        if (folder / TRAIN_CSV).is_file():
            what, places = f"is a folder to pack (it has {TRAIN_CSV}), {what}", f"{where} {where}-packed"
        raise UserError(f"{where}: {what}; make one with: python -m trainer.pack {places}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {MANIFEST} cannot be read ({first_line(error)}); {_AGAIN}") from error
    if fault := _fault(manifest):
        raise UserError(f"{where}: {fault}; {_AGAIN}")
    return dict(manifest)


def _fault(manifest: Any) -> str:
    """What is wrong with a manifest's content; empty if nothing is."""
    if not isinstance(manifest, dict):
        return f"{MANIFEST} must hold an object, not a {type(manifest).__name__}"
    if manifest.get("format_version") != FORMAT_VERSION or manifest.get("landmark_ids") != list(ROWS):
        return "packed in another format"
    for name in ("num_frames", "num_sequences"):
        if type(manifest.get(name)) is not int:
            return f"{MANIFEST} lacks {name}, a number"
    names = manifest.get("label_names")
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or not names or len(set(names)) != len(names):
        return f"{MANIFEST} lacks label_names, the names of the signs, each once"
    if unusable := next(filter(is_no_name, names), None):
        return f"{MANIFEST}: label_names: {described(unusable)} has a character that ends a line"
    hashes = manifest.get("sha256")
    for name in (FRAMES, SEQUENCES):
        digest = hashes.get(name) if isinstance(hashes, dict) else None
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            return f"{MANIFEST} lacks the SHA-256 of {name}, by which a change is noticed"
    return ""


def verify(folder: Path) -> None:
    """Hash both files of a packed dataset, whatever was found before.

    Raises DatasetChangedError, naming the file, if one is not what the manifest says, and UserError if there is no
    dataset.
    """
    _hash(folder, read_manifest(folder))


def verify_once(folder: Path) -> None:
    """As ``verify``, but large files that were found right on this machine, and not touched since, are not read again.

    Processes that ask at the same time wait for the first to hash. Where the cache cannot be written to, each hashes.
    """
    manifest = read_manifest(folder)
    if _size(folder) < REMEMBERED_FROM:
        _hash(folder, manifest)
    elif not _is_remembered(folder, manifest):
        with _hashing_alone(folder):
            if not _is_remembered(folder, manifest):
                _hash(folder, manifest)


def remember(folder: Path) -> None:
    """Note that both files were just found, or written, as the manifest has them."""
    _note(folder, _state(folder, read_manifest(folder)))


def _hash(folder: Path, manifest: dict[str, Any]) -> None:
    before = _state(folder, manifest)
    for name in (FRAMES, SEQUENCES):
        try:
            digest = sha256(folder / name)
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be read ({error.strerror or error}); {_AGAIN}") from error
        if digest != manifest["sha256"][name]:
            raise DatasetChangedError(
                f"{folder / name}: changed since it was packed (not the SHA-256 in {MANIFEST}); {_AGAIN}"
            )
    _note(folder, before)


def _note(folder: Path, state: dict[str, list[Any]]) -> None:
    """Keep the verdict that files in this state are right, if they are large and the cache can be written to."""
    if _size(folder) >= REMEMBERED_FROM:
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home folder
            write_json(_verdict(folder), state)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / FRAMES, folder / SEQUENCES) if path.is_file())


def _state(folder: Path, manifest: dict[str, Any]) -> dict[str, list[Any]]:
    """What changes when a file does: for each file its size, times and inode, and the hash that it should have."""
    state: dict[str, list[Any]] = {}
    for name in (FRAMES, SEQUENCES):
        with contextlib.suppress(OSError):  # an absent file is named by what reads it
            about = (folder / name).stat()
            numbers = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, str(about.st_ino)]  # may be over 2**63
            state[name] = [*numbers, manifest["sha256"][name]]
    return state


def _verdict(folder: Path) -> Path:
    """A file of this machine's own: a home folder may be shared, and another machine's folder of this name another."""
    return copy_folder("verified", f"{platform.node()}:{folder.resolve()}") / "state.json"


def _is_remembered(folder: Path, manifest: dict[str, Any]) -> bool:
    try:
        known = parse_json(read_text(_verdict(folder)))
    except (OSError, ValueError, RuntimeError):
        return False
    return bool(known == _state(folder, manifest))


@contextlib.contextmanager
def _hashing_alone(folder: Path) -> Iterator[None]:
    """Have one process of this machine at a time hash a dataset; where no lock can be had, let each of them."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, RuntimeError):
            place = _verdict(folder).parent
            place.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context((place / LOCK).open("w")), fcntl.LOCK_EX)
        yield
