"""The proxy before a storage server, in all its moods."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.faults.proxy import Proxy, before


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def link() -> Iterator[Proxy]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with before("127.0.0.1", server.server_port) as proxy:
        yield proxy
    server.shutdown()
    server.server_close()


def _get(proxy: Proxy, patience: float = 20.0) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/", timeout=patience) as response:
        content: bytes = response.read()
        return content


def test_it_passes_on_what_the_server_says_also_after_each_other_mood(link: Proxy) -> None:
    assert _get(link) == b"ok"
    link.mood = "err"
    with pytest.raises(urllib.error.HTTPError, match="503"):
        _get(link)
    link.mood = "vanish"
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        _get(link)
    link.mood = "stall"
    with pytest.raises((TimeoutError, urllib.error.URLError)):
        _get(link, patience=0.3)
    link.mood = "pass"
    assert _get(link) == b"ok"


def test_what_stalled_is_answered_once_it_passes_again(link: Proxy) -> None:
    link.mood = "stall"
    threading.Timer(0.3, lambda: setattr(link, "mood", "pass")).start()
    assert _get(link) == b"ok"
