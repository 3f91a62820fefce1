"""A TCP proxy before a server, which stalls, errs and vanishes when told to."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final, Literal

Mood = Literal["pass", "stall", "err", "vanish"]
ERROR: Final = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Listens on this machine and passes on what it gets, as long as its mood is "pass".

    "stall" takes in connections and bytes and answers nothing; "err" answers every request with 503; "vanish" ends
    every connection at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._mood: Mood = "pass"
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._is_closed = False
        self.answered = 0
        """Bytes that the server sent"""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def mood(self) -> Mood:
        return self._mood

    @mood.setter
    def mood(self, mood: Mood) -> None:
        with self._changed:
            self._mood = mood
            self._changed.notify_all()
        if mood in ("err", "vanish"):
            for connection in list(self._open):
                self._drop(connection)

    def close(self) -> None:
        self._is_closed = True
        self.mood = "vanish"
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._open.add(client)
        if self._mood == "vanish":
            self._drop(client)
            return
        if self._mood == "err":
            with contextlib.suppress(OSError):
                client.recv(65536)
                client.sendall(ERROR)
            self._drop(client)
            return
        try:
            server = socket.create_connection(self._target)
        except OSError:
            self._drop(client)
            return
        self._open.add(server)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink, client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with self._changed:
                    self._changed.wait_for(lambda: self._mood != "stall")
                if source is not client:
                    self.answered += len(data)
                sink.sendall(data)
        self._drop(source)
        self._drop(sink)

    def _drop(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


@contextlib.contextmanager
def before(host: str, port: int) -> Iterator[Proxy]:
    """A proxy for the duration of a block."""
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
