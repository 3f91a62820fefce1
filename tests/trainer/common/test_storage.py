"""Folders by path or URI: their names, and what is copied between them. (tests.search.test_remote does S3.)"""

from pathlib import Path

import pytest

from trainer.common.errors import StorageError
from trainer.common.storage import Remote, base_name, cache_folder, copy_folder, is_uri, join, parent


@pytest.mark.parametrize(
    ("where", "joined", "last", "above"),
    [
        ("results/asl", "results/asl/x", "asl", "results"),
        ("results/asl/", "results/asl/x", "asl", "results"),
        ("asl", "asl/x", "asl", "."),
        ("s3://bucket/asl", "s3://bucket/asl/x", "asl", "s3://bucket"),
        ("s3://b/asl?region=eu", "s3://b/asl/x?region=eu", "asl", "s3://b?region=eu"),
    ],
)
def test_names_of_paths_and_uris(where: str, joined: str, last: str, above: str) -> None:
    assert (join(where, "x"), base_name(where), parent(where)) == (joined, last, above)
    assert is_uri(where) == ("s3" in where)


def test_copies_lie_in_the_cache_and_differ_by_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("data").is_relative_to(tmp_path)
    assert copy_folder("copies", "s3://a/asl") != copy_folder("copies", "s3://b/asl")
    assert copy_folder("copies", "s3://a/asl").name == "asl"


def test_a_copy_holds_the_wanted_files_and_none_that_changed_and_reads_none_twice(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "a").write_text("a")
    (there / "b").write_text("b")
    here.mkdir()
    (here / "stale").touch()
    remote = Remote.open(there.as_uri())
    remote.copy_to(here, lambda name: name != "b")
    assert [path.name for path in here.rglob("*") if path.is_file()] == ["a"]
    assert (here / "deep" / "a").stat().st_mtime_ns == (there / "deep" / "a").stat().st_mtime_ns
    inode = (here / "deep" / "a").stat().st_ino
    remote.copy_to(here)
    assert (here / "deep" / "a").stat().st_ino == inode
    assert (here / "b").read_text() == "b"
    remote.copy_to(here, lambda name: name != "b")  # as it still is what it is there, it need not be fetched again
    assert (here / "b").exists()
    (there / "b").write_text("changed")
    remote.copy_to(here, lambda name: name != "b")
    assert not (here / "b").exists()


def test_files_are_put_there_found_and_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    remote = Remote.open((tmp_path / "there").as_uri()).child("deep")
    assert remote.files() == {}
    remote.upload_present(tmp_path, "absent", "file")
    assert remote.has("file")
    assert list(remote.files()) == ["file"]
    remote.remove("file")
    remote.remove("file")
    assert not remote.has("file")
    remote.check_writable(tmp_path / "probe")
    assert not list((tmp_path / "probe").iterdir())


def test_what_storage_refuses_names_the_uri_in_one_line() -> None:
    with pytest.raises(StorageError, match=r"^foo://x: cannot be used \(") as refusal:
        Remote.open("foo://x")
    assert "\n" not in str(refusal.value)


def test_storage_out_of_reach_is_tried_again_while_there_is_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    patient, hasty = (Remote.open(tmp_path.as_uri(), patience) for patience in (5.0, 0.0))
    answers = ["NETWORK_CONNECTION", "HTTP status 503", "NETWORK_CONNECTION", ""]

    def act() -> str:
        if code := answers.pop(0):
            raise OSError(f"AWS Error {code} during PutObject operation")
        return "done"

    assert patient.child("deep")._do("written", act) == "done"
    assert pauses == [0.5, 1.0, 2.0]
    for remote, code in ((hasty, "NETWORK_CONNECTION"), (patient, "ACCESS_DENIED")):
        answers[:] = [code, ""]
        with pytest.raises(StorageError, match=f"cannot be written .*{code}"):
            remote._do("written", act)
    assert len(pauses) == 3
