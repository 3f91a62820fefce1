"""A Ray cluster of several nodes on this machine, in a process of its own.

    python -m tests.nodes WORKERS [CPUS]

A head without CPUs, and as many nodes as asked for, of one CPU each or more. Prints the address when all are there, and
ends with its standard input. Whether tokens are asked for is said by RAY_AUTH_MODE and RAY_AUTH_TOKEN.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OBJECT_STORE_BYTES = 80 * 2**20
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Nodes:
    """A cluster, while it stands."""

    address: str
    process: int
    """That all of its processes descend from"""

    def kill_node_of(self, worker: int) -> None:
        """SIGKILL a worker's node: its raylet, and every process that this one started."""
        parents, _ = processes()
        raylet = parents[worker]
        for process in [raylet, *(child for child, parent in parents.items() if parent == raylet)]:
            os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def nodes(workers: int, cpus: int = 1, **environment: str) -> Iterator[Nodes]:
    """A cluster for the duration of a block; ``environment`` is added to this process's, less all of Ray's."""
    command = [sys.executable, "-m", "tests.nodes", str(workers), str(cpus)]
    with subprocess.Popen(
        command, cwd=ROOT, env=without_ray() | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the cluster did not start"
        try:
            yield Nodes(address, process.pid)
        finally:
            process.stdin.close()


def without_ray() -> dict[str, str]:
    """This process's environment without what a Ray of its own put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


def processes() -> tuple[dict[int, int], dict[int, str]]:
    """Of this machine, by process: the parent, and the command line."""
    parents, titles = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended while we looked
            parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            titles[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
    return parents, titles


def host_of(mark: str) -> int:
    """The one process that trains for several trials of a search which has ``mark`` in its environment."""
    _, titles = processes()
    found = []
    for process, title in titles.items():
        if "search.execute.host" in title.split("\0"):
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{process}/environ").read_bytes().decode(errors="replace")
                found += [process] * (mark in environment.split("\0"))
    (host,) = found
    return host


def worker_below(ancestor: int) -> int:
    """The process that carries out a trial, the only one among the descendants of a process."""
    (worker,) = workers_below(ancestor)
    return worker


def workers_below(ancestor: int) -> list[int]:
    """The processes that carry out trials among the descendants of a process."""
    parents, titles = processes()

    def ancestors(process: int) -> Iterator[int]:
        while process in parents:
            yield process
            process = parents[process]

    return [
        process for process, title in titles.items() if "ray::ImplicitFunc" in title and ancestor in ancestors(process)
    ]


@contextlib.contextmanager
def workers_stopped(ancestor: int) -> Iterator[None]:
    """For the duration of a block the search among the descendants of a process makes no progress."""
    stopped = workers_below(ancestor)
    assert stopped
    for worker in stopped:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in stopped:
            os.kill(worker, signal.SIGCONT)


def main() -> None:
    from ray.cluster_utils import Cluster

    workers, cpus = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    common: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **common})
    for _ in range(workers):
        cluster.add_node(num_cpus=cpus, **common)
    print(cluster.address, flush=True)
    sys.stdin.read()
    for node in (*cluster.worker_nodes, cluster.head_node):
        node.kill_all_processes(check_alive=False, allow_graceful=False)


if __name__ == "__main__":
    main()
