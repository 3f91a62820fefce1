"""Files appear whole or not at all."""

import fcntl
import hashlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from trainer.common.errors import UserError
from trainer.common.files import (
    LOCK,
    atomic_path,
    is_locked,
    locked,
    mistaken,
    require_folder,
    require_writable,
    require_writable_file,
    sha256,
    special,
    to_path,
    write_bytes,
    write_json,
)


def test_nothing_stands_at_the_name_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename is atomic only within one folder"
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_stood_there(failure: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"before")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"after")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_back_and_nan_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    content = {"names": ["a", "ü"], "number": 0.1, "none": None}
    write_json(path, content)
    assert json.loads(path.read_text()) == content
    assert path.read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text()) == content


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_sha256(size: int, tmp_path: Path) -> None:
    content = bytes(index % 251 for index in range(size))
    write_bytes(tmp_path / "file", content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_folder_that_another_has_is_refused_with_the_message(tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="somebody writes to it"), locked(tmp_path, "somebody writes to it"):
            pass
    with locked(tmp_path, "somebody writes to it"):
        pass


def test_without_a_message_the_lock_is_waited_for(tmp_path: Path) -> None:
    held = (tmp_path / LOCK).open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.3, held.close).start()
    began = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - began >= 0.25


def test_a_folder_that_cannot_be_made_is_refused_with_the_field(tmp_path: Path) -> None:
    require_writable("out", tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^out: .*file: is a file, not a folder; name another folder"):
        require_writable("out", tmp_path / "file" / "folder")


def test_a_pipe_or_a_socket_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    pipe, link, bound = tmp_path / "pipe", tmp_path / "link", tmp_path / "socket"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(bound))  # a short name: such names have at most 107 bytes
        for path, kind in ((pipe, "pipe"), (link, "pipe"), (bound, "socket")):
            with pytest.raises(UserError, match=f"^{path}: is a {kind}, not a file; name another file"):
                write_bytes(path, b"content")
            with pytest.raises(UserError, match=f"^out: {path}: is a {kind}, not a file"):
                require_writable_file("out", path, "page.html")
    assert (pipe.is_fifo(), link.is_symlink(), bound.is_socket()) == (True, True, True)
    assert sorted(tmp_path.iterdir()) == [link, pipe, bound]


def test_what_a_file_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "new", tmp_path / "a" / "b"):
        require_writable_file("out", path, "page.html")
    with pytest.raises(UserError, match=f"^out: {tmp_path}: is a folder; name a file in it, such as .*/page.html"):
        require_writable_file("out", tmp_path, "page.html")
    assert special(Path("/dev/null")) == "is a device, not a file"
    assert special(tmp_path / "none") == special(tmp_path / "file") == special(tmp_path) == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("8 requested and 4 written")])
def test_an_error_of_the_disk_has_the_name_of_the_file(error: OSError, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with pytest.raises(OSError, match=rf"({error.strerror or 'requested'}).*file\.bin") as failure, atomic_path(path):
        raise error
    assert failure.value.filename == str(path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [5, None, "", " ", b"x", "a\0b", Path("\0"), []])
def test_what_is_no_path_is_named_by_its_field(value: object) -> None:
    with pytest.raises(UserError, match=r"^out: must be a path, not "):
        to_path(value, "out")
    with pytest.raises(UserError, match=r"^out: must be a path on this machine, not a URI"):
        to_path("s3://bucket/asl", "out")
    with pytest.raises(UserError, match=r"^out: has a name of 256 bytes, longer than the 255 that file systems allow"):
        to_path(f"a/{'ü' * 128}/b", "out")
    assert to_path(f"a/{'ü' * 127}", "out").name == "ü" * 127
    assert to_path("a/b", "out") == Path("a/b")


def test_what_stands_in_place_of_a_file_or_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    assert (
        mistaken(tmp_path, "folder") == mistaken(tmp_path / "file", "file") == mistaken(tmp_path / "none", "file") == ""
    )
    assert mistaken(tmp_path, "file") == "is a folder, not a file"
    for name, kind in {"file": "a file", "pipe": "a pipe", "link": "a link to nothing"}.items():
        assert mistaken(tmp_path / name, "folder") == f"is {kind}, not a folder"
        for folder in (tmp_path / name, tmp_path / name / "in" / "it"):
            with pytest.raises(UserError, match=f"^out: {tmp_path / name}: is {kind}, not a folder; name another"):
                require_folder(folder, "out")


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_who_only_looks_keeps_nobody_from_taking_a_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (tmp_path / LOCK).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as is_locked does
        threading.Timer(0.2, looking.close).start()
        with locked(tmp_path, "somebody has it"):
            assert is_locked(tmp_path)
            with pytest.raises(UserError, match="somebody has it"), locked(tmp_path, "somebody has it"):
                pass
