"""Several trials in one process: as if each had been alone, and none the worse for another's end."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from search.execute import host
from search.execute.training import Failure, Message, Order, carry_out
from tests.nodes import ROOT
from trainer.config import TrainConfig
from trainer.rundir import EpochMetrics, Result, RunDir


class Stop(Exception):
    """What ends a trial here."""


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a search whose hosts are ended afterwards."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield "test"
    kill_hosts(tmp_path)


def hosts(folder: Path) -> list[int]:
    """Process ids of those at work below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            words = path.read_bytes().rstrip(b"\0").split(b"\0")
            if b"search.execute.host" in words and words[-1].startswith(bytes(folder)):
                found.append(int(path.parent.name))
    return found


def kill_hosts(folder: Path) -> None:
    for process in hosts(folder):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.kill(process, signal.SIGKILL)
    wait_for_end(folder, 60)


def wait_for_end(folder: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while hosts(folder):
        assert time.monotonic() < end, "a host goes on"
        time.sleep(0.05)


def order(run: Path, packed: Path, name: str | None, **fields: Any) -> Order:
    config = TrainConfig(epochs=3, precision="float32").replace(num_heads=1, num_layers=1, num_signs=4, **fields)
    return Order(
        number=int(run.name),
        config=config.to_json(),
        run=str(run),
        data=str(packed),
        last_epoch=0,
        threads=1,
        device="cpu",
        host=name,
    )


def follow(given: Order, until: Callable[[Message], bool] = lambda _: False) -> list[Message]:
    """Messages of a trial, which is ended at the first that ``until`` holds for."""
    found: list[Message] = []

    def send(message: Message) -> None:
        found.append(message)
        if until(message):
            raise Stop

    with contextlib.suppress(Stop):
        host.carry_out(given, send)
    return found


def weights(run: Path) -> bytes:
    return (run / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def alone(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials 0 to 2, which differ in their seeds, each trained alone in this process."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in range(3):
        carry_out(order(folder / str(seed), packed, None, seed=seed), lambda _: None)
    return folder


def test_trials_of_one_process_end_as_each_would_alone(name: str, alone: Path, packed: Path, tmp_path: Path) -> None:
    orders = [order(tmp_path / str(seed), packed, name, seed=seed) for seed in range(3)]
    together = threading.Barrier(3)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda given: follow(given, lambda _: together.wait(60) < 0), orders))
    for seed, messages in enumerate(found):
        assert [type(message) for message in messages] == [EpochMetrics] * 3 + [Result]
        assert weights(tmp_path / str(seed)) == weights(alone / str(seed))
    assert len(hosts(tmp_path)) == 1


def test_a_trial_that_is_stopped_or_fails_leaves_the_others_alone(
    name: str, alone: Path, packed: Path, tmp_path: Path
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait(message: Message) -> bool:
        if isinstance(message, EpochMetrics) and message.epoch == 1:
            begun.set()
            assert ended.wait(60)
        return False

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(follow, order(tmp_path / "0", packed, name, seed=0), wait)
        assert begun.wait(60)
        stopped = order(tmp_path / "1", packed, name, seed=1)
        assert len(follow(stopped, lambda message: message == message)) == 1
        assert not RunDir(tmp_path / "1").is_done
        failed = follow(order(tmp_path / "7", packed, name, learning_rate=1e30))
        ended.set()
        assert isinstance(other.result()[-1], Result)
    assert isinstance(failed[-1], Failure)
    assert "nan" in failed[-1].reason or "inf" in failed[-1].reason
    assert weights(tmp_path / "0") == weights(alone / "0")

    rest = follow(dataclasses.replace(stopped, last_epoch=1))
    assert [message.epoch for message in rest if isinstance(message, EpochMetrics)] == [1, 2, 3]
    assert weights(tmp_path / "1") == weights(alone / "1")
    assert len(hosts(tmp_path)) == 1


def test_a_trial_whose_worker_is_killed_goes_on_elsewhere(name: str, alone: Path, packed: Path, tmp_path: Path) -> None:
    given = order(tmp_path / "0", packed, name, seed=0)
    code = (
        "import sys, json, tempfile, time; tempfile.tempdir = sys.argv[1]\n"
        "from search.execute import host; from search.execute.training import Order\n"
        "host.carry_out(Order(**json.loads(sys.argv[2])), lambda m: print('told', flush=True) or time.sleep(60))"
    )
    words = [sys.executable, "-c", code, str(tmp_path), json.dumps(vars(given))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"told\n"
        worker.kill()
    assert [type(message) for message in follow(given)] == [EpochMetrics] * 3 + [Result]
    assert weights(tmp_path / "0") == weights(alone / "0")
    assert len(hosts(tmp_path)) == 1


def test_a_worker_ends_with_its_host(name: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", end)

    def kill(_: Message) -> bool:
        kill_hosts(tmp_path)
        return False

    given = order(tmp_path / "0", packed, name, seed=0)
    with pytest.raises(Ended, match=str(host.LOST)):
        follow(given, kill)
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert isinstance(follow(given)[-1], Result), "another host goes on"


def test_a_host_that_is_ending_is_followed_by_another(name: str, alone: Path, packed: Path, tmp_path: Path) -> None:
    given = order(tmp_path / "0", packed, name, seed=0)
    folder = host.folder_of(given)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as ending, ThreadPoolExecutor(1) as threads:
        ending.bind(str(folder / host.SOCKET))
        ending.listen()
        found = threads.submit(follow, given)
        ending.accept()[0].close()
        ending.close()
        assert isinstance(found.result()[-1], Result)
    assert weights(tmp_path / "0") == weights(alone / "0")


def test_a_host_ends_and_leaves_nothing_behind(name: str, packed: Path, tmp_path: Path) -> None:
    follow(order(tmp_path / "0", packed, name), lambda _: True)
    assert host.folder_of(order(tmp_path / "0", packed, name)).exists()
    wait_for_end(tmp_path, host.IDLE_SECONDS + 30)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_host_that_cannot_begin_says_why(
    name: str, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="no reason given"):
        follow(order(tmp_path / "0", packed, name))
    assert time.monotonic() - began < 30


def test_each_card_has_its_own_host(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dataclasses.replace(order(tmp_path / "0", packed, "s"), device="cuda")
    folders = [host.folder_of(order(tmp_path / "0", packed, "s"))]
    for cards in ("0", "1", "GPU-8f3a,MIG-2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
        folders.append(host.folder_of(given))
        assert host.folder_of(given) == folders[-1]
        assert host.folder_of(dataclasses.replace(given, host="t")) != folders[-1]
    assert len(set(folders)) == 4


def test_a_deep_folder_for_temporary_files_is_no_place_for_a_socket(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = order(tmp_path / "0", packed, "s")
    monkeypatch.setattr("tempfile.tempdir", f"/tmp/{'deep/' * 20}")
    assert host.folder_of(given).parent == Path("/tmp")
