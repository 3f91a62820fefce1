"""One search at a time on a study behind a URI."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import search.run
from search.record import remote_lock
from tests.search.record.conftest import BUCKET
from trainer.common.errors import UserError
from trainer.common.files import LOCK
from trainer.common.storage import Remote
from trainer.studydir import Folder


@pytest.fixture
def place(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Where a study may lie, with nothing there, before and after."""
    monkeypatch.setattr(remote_lock, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(remote_lock, "STALE_SECONDS", 4.0)  # this server tells whole seconds
    (tmp_path / LOCK).touch()
    assert s3
    remote = Remote.open(f"s3://{BUCKET}/places/{tmp_path.name}")
    yield remote
    assert not remote.files()


def test_a_study_that_is_searched_is_refused_until_that_ends(place: Remote, tmp_path: Path) -> None:
    with remote_lock.held(place, tmp_path):
        assert not list(Folder.open(place.uri).path.rglob("*"))
        for _ in range(2):
            with (
                pytest.raises(UserError, match=rf"{place.uri}: another search is at work"),
                remote_lock.held(place, tmp_path),
            ):
                pytest.fail("two searches have it")
        assert len(place.files()) == 1
    before = time.monotonic()
    with remote_lock.held(place, tmp_path):
        assert time.monotonic() - before < remote_lock.STALE_SECONDS


def test_the_command_is_refused_before_it_touches_the_study(
    place: Remote, tmp_path: Path, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, _, name = place.uri.rpartition("/")
    argv = ["search.run", "--trials", "1", "--data", str(packed), "--results", results, "--name", name]
    monkeypatch.setattr(sys, "argv", argv)
    with remote_lock.held(place, tmp_path):
        before = set(place.files())
        with pytest.raises(UserError, match=rf"{place.uri}: another search is at work"):
            search.run.main()
        assert set(place.files()) == before


def test_what_a_killed_search_left_is_removed(
    place: Remote, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.upload(tmp_path / LOCK, f"{LOCK}/killed")
    before = time.monotonic()
    with remote_lock.held(place, tmp_path):
        assert time.monotonic() - before >= remote_lock.STALE_SECONDS
        assert f"{LOCK}/killed" not in place.files()
    assert "a search has this study, or was killed" in capsys.readouterr().out


def test_of_those_that_come_at_once_one_at_most_has_it(place: Remote, tmp_path: Path) -> None:
    at_once, having, most = threading.Barrier(4), [], []

    def come() -> None:
        at_once.wait()
        try:
            with remote_lock.held(place, tmp_path):
                having.append(1)
                most.append(len(having))
                time.sleep(1)
                having.pop()
        except UserError as error:
            assert "another search is at work" in str(error)  # noqa: PT017

    comers = [threading.Thread(target=come) for _ in range(4)]
    for comer in comers:
        comer.start()
    for comer in comers:
        comer.join()
    assert max(most, default=0) <= 1


def test_a_search_that_was_taken_over_stops(place: Remote, tmp_path: Path) -> None:
    stopped = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        held = remote_lock.held(place, tmp_path)
        held.__enter__()
        (name,) = place.files()
        place.remove(name)
        assert stopped.wait(10)
        with pytest.raises(UserError, match="another search took this study over"):
            held.__exit__(None, None, None)
    finally:
        signal.signal(signal.SIGINT, before)
