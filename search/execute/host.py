"""One process that trains several trials at a time, each in a thread.

Processes that share a GPU take turns on it, and each has its own copy of the data there. Threads of one process put
their kernels on streams of their own. So trials that share a card hand their orders to one process of their node, its
host, and pass on what that answers: for Ray Tune they are trials as others are, of which one can stop, fail or lose its
worker without the others.

    python -m search.execute.host FOLDER

Trials find it at a socket in FOLDER. They send an order, and are sent a message after the other, to each of which they
answer whether it goes on; a line of JSON each. It ends when it had no order for some seconds, or when all who gave one
are gone. If it is lost, so are its trials, as with a node: they go on from their last epochs.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Final

from search.execute import training
from search.execute.training import Message, Order, Send, read, written
from trainer.common.credentials import keep, kept
from trainer.common.files import locked
from trainer.rundir import EpochMetrics

SOCKET, LOG = "socket", "log"
IDLE_SECONDS: Final = 5.0
"""Without an order, after which a host ends"""
ATTEMPTS: Final = 3
"""To hand in an order: a host that is ending still takes connections for a moment"""
LOST: Final = 70
"""Exit status of a worker whose host was lost"""
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_MOST_BYTES: Final = 100  # of a socket's path; systems take 103 or more


class _Lost(Exception):
    """The host of a trial was lost on the way."""


class Gone(BaseException):
    """Whoever gave an order wants no more of it, or is no more. Nothing that a training may take for its own error."""


def carry_out(order: Order, send: Send) -> None:
    """What ``training.carry_out`` does, done by this node's host, which is begun if there is none.

    When it returns or raises, the host has let go of the trial's files. Ends this process if the host is lost.
    """
    with contextlib.suppress(_Lost):
        for _ in range(ATTEMPTS):
            if _follow(order, send):
                return
    print(f"the process that trained this trial was lost: see {folder_of(order) / LOG}", file=sys.stderr, flush=True)
    os._exit(LOST)


def _follow(order: Order, send: Send) -> bool:
    """Hand the order in, and pass on what is answered. False if the host was lost before it answered: it was ending."""
    with contextlib.closing(_Channel(_connected(folder_of(order)))) as channel:
        channel.write({"order": vars(order), "keys": kept()})
        answered = False
        while (line := channel.read()) is not None:
            answered, goes_on = True, False
            message = read(line)
            try:
                send(message)
                goes_on = isinstance(message, EpochMetrics)
            finally:
                channel.write({"goes_on": goes_on})
                if not goes_on:
                    channel.read()  # its end
            if not goes_on:
                return True
    if answered:
        raise _Lost
    return False


def folder_of(order: Order) -> Path:
    """Of the host for a trial, given the GPUs that this process sees."""
    cards = os.environ.get(_VISIBLE, "all") if order.device != "cpu" else ""
    name = f"signs-{order.host}-{sha256(cards.encode()).hexdigest()[:8]}"
    folder = Path(tempfile.gettempdir()) / name
    return folder if len(bytes(folder / SOCKET)) <= _MOST_BYTES else Path("/tmp") / name


class _Channel:
    """Lines of JSON, both ways."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rw")
        self._connection = connection

    @property
    def is_closed(self) -> bool:
        """Whether the other side has gone."""
        try:
            return self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Say that nothing comes any more."""
        with contextlib.suppress(OSError):  # what was not sent any more
            self._file.close()
        self._connection.close()

    def write(self, content: dict[str, Any]) -> None:
        """Nothing happens if nobody is there any more."""
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(content) + "\n")
            self._file.flush()

    def read(self) -> dict[str, Any] | None:
        """None if nobody is there any more."""
        with contextlib.suppress(OSError):
            if (line := self._file.readline()).endswith("\n"):
                content: dict[str, Any] = json.loads(line)
                return content
        return None


def _connected(folder: Path) -> socket.socket:
    """To the host in ``folder``, which is begun if there is none. Raises RuntimeError if it cannot begin."""
    for _ in range(2):
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), locked(folder):  # another host takes the folder with it at its end
            if (connection := _dial(folder)) is not None:
                return connection
            _begin(folder)
            if (connection := _dial(folder)) is not None:
                return connection
    words = (folder / LOG).read_text(errors="replace").strip().splitlines()
    raise RuntimeError(f"the process for several trials did not start: {words[-1] if words else 'no reason given'}")


def _dial(folder: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(folder / SOCKET))
    except OSError:
        connection.close()
        return None
    return connection


def _begin(folder: Path) -> None:
    """Start a host, and wait until it listens or has ended."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "search.execute.host", str(folder)]
    with (folder / LOG).open("ab") as log:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment, check=False
        )


class _Host:
    """Who is at work here, and for what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._channels: set[_Channel] = set()
        self._since = monotonic()

    @property
    def idle_seconds(self) -> float:
        """Since the last order was carried out; 0 while one is."""
        with self._lock:
            return 0.0 if self._channels else monotonic() - self._since

    @property
    def is_abandoned(self) -> bool:
        """Whether all who gave the orders that are carried out are no more, as when a search was killed."""
        with self._lock:
            return bool(self._channels) and all(channel.is_closed for channel in self._channels)

    def begin(self, connection: socket.socket) -> None:
        """Carry out what is ordered there, in a thread."""
        channel = _Channel(connection)
        with self._lock:
            self._channels.add(channel)
        threading.Thread(target=self._work, args=(channel,), daemon=True).start()

    def _work(self, channel: _Channel) -> None:
        try:
            if (asked := channel.read()) is not None:
                keep(asked["keys"])
                self._carry_out(Order(**asked["order"]), channel)
        finally:
            with self._lock:
                self._channels.remove(channel)
                self._since = monotonic()
            channel.close()

    def _carry_out(self, order: Order, channel: _Channel) -> None:
        def send(message: Message) -> None:
            channel.write(written(message))
            if not (channel.read() or {}).get("goes_on"):
                raise Gone

        with self._lock:
            files = self._files[order.run]
        with files, contextlib.suppress(Gone):  # one whose worker was lost may not know yet
            training.carry_out(order, send)


def serve(folder: Path) -> None:
    """Be the host in ``folder``, until there was no order for IDLE_SECONDS."""
    host = _Host()
    (folder / SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen(socket.SOMAXCONN)
        listener.settimeout(1.0)
        os.dup2(2, 1)  # closes what it was, which tells whoever waits for it; what is printed goes into the log
        while True:
            for connection in _accepted(listener):
                host.begin(connection)
            if host.is_abandoned:  # what is killed must not train on, beside a search that was resumed
                shutil.rmtree(folder, ignore_errors=True)
                return
            if host.idle_seconds >= IDLE_SECONDS:
                with locked(folder):  # nobody connects now
                    late = list(_accepted(listener))
                    if not late:
                        shutil.rmtree(folder)
                        return
                for connection in late:
                    host.begin(connection)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    with contextlib.suppress(TimeoutError):
        yield listener.accept()[0]


def main() -> None:
    if os.fork():  # a child of its own: Ray ends the children of a worker with it
        os._exit(0)
    os.setsid()
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    serve(Path(sys.argv[1]))
    os._exit(0)  # no thread of a library is waited for


if __name__ == "__main__":
    main()
