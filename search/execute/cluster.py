"""Ray: started on this machine or joined by address; what fits on it; whether every node can reach the files."""

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final, Self

import ray
from ray import _raylet
from ray._common.utils import get_default_ray_temp_dir, get_system_memory
from ray._private import services, utils
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._raylet import GcsClient, getproctitle, setproctitle  # type: ignore[attr-defined]  # compiled
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import search
import trainer
from search.options import RunOptions
from trainer.common.credentials import Kept, hide, keep, kept
from trainer.common.errors import UserError, in_one_line
from trainer.common.processes import silent_stderr
from trainer.common.storage import Remote, cache_folder, is_uri
from trainer.data.dataset import PackedDataset

OBJECT_STORE_BYTES: Final = 80 * 2**20  # Ray's least; nothing large travels through it
CAPACITY_SECONDS: Final = 5.0  # between looks at a cluster that may grow
CHECK_SECONDS: Final = 120.0
SLOWEST: Final = 100e6  # bytes a second that shared storage gives at least
CONNECT_SECONDS: Final = 10.0
LOST_SECONDS: Final = 15.0  # to see that a node on which nothing could be run is gone
SHORT_FOLDER: Final = "/tmp"
SOCKET_BYTES: Final = 107 if sys.platform.startswith("linux") else 103
SET_ABORT_HANDLER: Final = "_ZN3ray6RayLog27InstallFailureSignalHandlerEPKcb"  # ray::RayLog's, in C++
TOKEN_ADVICE: Final = "put its own (ray get-auth-token, on its head) into RAY_AUTH_TOKEN or ~/.ray/auth_token"

_SILENCE: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_TUNE_SETTINGS: Final = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # search.execute.driver has its own
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Ray's own state is of no use: study.db is the truth
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # for a stopped trial to leave its worker, then used again
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(frozen=True)
class Resources:
    """What one trial occupies."""

    cpus: int = 1
    gpus: float = 0.0

    @classmethod
    def of(cls, options: RunOptions) -> Self:
        """What the options give a trial; one that only passes on what another process trains needs no CPU."""
        if options.trials_per_gpu is not None:
            return cls(0, 1 / options.trials_per_gpu)
        return cls(options.cpus_per_trial, options.gpus_per_trial)

    def to_ray(self) -> dict[str, float]:
        return {"cpu": self.cpus, "gpu": self.gpus}

    def fit_on(self, node: dict[str, Any]) -> int:
        """How many trials fit on a node as ``ray.nodes()`` describes it."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return min(int(node["Resources"].get(name, 0) / each + 1e-6) for name, each in wanted.items() if each > 0)


@contextlib.contextmanager
def connect(address: str | None, resources: Resources, workers: int | None = None) -> Iterator[None]:
    """Ray for the duration of a block: joined at ``address``, or else started here, for this process alone.

    A Ray started here asks every process that would join it for a random token that only its own processes are
    given. One that is joined and asks for a token is shown this process's (RAY_AUTH_TOKEN, or ~/.ray/auth_token), and
    one that does not ask is shown none. ``workers`` is the number of trials that a Ray started here has room for;
    default: as many as the CPUs have.
    Raises UserError if there is no cluster at the address, or if not one trial fits.
    """
    _silence()
    os.environ.update(_TUNE_SETTINGS)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        make_room_for_sockets()
        options |= {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        if workers is not None and resources.cpus > 0:
            options["num_cpus"] = workers * resources.cpus
    else:
        packages = [str(Path(package.__path__[0])) for package in (search, trainer)]
        options |= {"address": find_cluster(address), "runtime_env": {"py_modules": packages}}
    try:
        with _own_signals():
            ray.init(**options)
    except Exception as error:  # a node that does not come up in time is an Exception of no kind
        words = f"cannot start or join Ray: {in_one_line(error)}"
        raise UserError(f"{address or 'local'}: {words}", field="address") from error
    try:
        _check_room(resources)
        yield
    finally:
        with _own_signals():
            ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Have SIGTERM do what it did before, while Ray starts or ends and after that.

    Ray sets handlers of its own. Those in Python would leave without a word. The one in C++ prints a stack trace and
    aborts; Ray sets it from within ``ray.init``, where nothing can come between, unless it was set before. Ray's own
    processes form groups of their own, so that a signal to this one's group does not end them before it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, set_handler = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL, utils.set_sigterm_handler
    set_abort_handler = getattr(ctypes.CDLL(_raylet.__file__), SET_ABORT_HANDLER)
    set_abort_handler(None, False)
    signal.signal(signal.SIGTERM, before)
    utils.set_sigterm_handler = lambda _: None
    popen = services.ConsolePopen
    services.ConsolePopen = functools.partial(popen, process_group=0)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        utils.set_sigterm_handler, services.ConsolePopen = set_handler, popen  # type: ignore[misc]
        signal.signal(signal.SIGTERM, before)


def make_room_for_sockets() -> None:
    """Have a Ray that is started here keep its sockets in a short folder, where that for temporary files is deep.

    The system takes no path of a socket that is longer than SOCKET_BYTES, and Ray adds some 65 to TMPDIR, which on a
    cluster may be a job's own folder. The short one is removed when this process ends. Raises UserError if it cannot be
    made.
    """
    usual = get_default_ray_temp_dir()  # type: ignore[no-untyped-call]
    longest = f"{usual}/session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}/sockets/plasma_store"
    if len(os.fsencode(longest)) <= SOCKET_BYTES:
        return
    try:
        folder = tempfile.mkdtemp(prefix="ray-", dir=SHORT_FOLDER)
    except OSError as error:
        raise UserError(
            f"{usual}: is too deep a folder for Ray's sockets, and {SHORT_FOLDER} cannot be written to "
            f"({error.strerror}); set RAY_TMPDIR to a folder of at most 40 characters"
        ) from error
    os.environ["RAY_TMPDIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _silence() -> None:
    """Keep out of the output what Ray says of itself, and out of Ray, which keeps a job's command, what is secret."""
    if (title := hide(getproctitle())) != getproctitle():
        setproctitle(title)
    os.environ.update(_SILENCE)
    logging.getLogger("ray").setLevel(logging.CRITICAL)


def find_cluster(address: str) -> str:
    """Host and port of a cluster, with whose demand for a token, or its lack, this process then complies.

    With a token shown to a cluster that asks for none, the driver would ask its workers for one that they do not have.
    Raises UserError if there is no cluster, or no right token.
    """
    _silence()
    try:
        found: str = services.canonicalize_bootstrap_address_or_die(address)
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{address}: no Ray cluster answers there ({error}); give the host:port that ray start printed",
            field="address",
        ) from error
    try:
        if _asks_for_token(found):
            if not maybe_enable_token_auth_if_token_available(warn_if_disabled=False):
                raise UserError(f"{address}: the cluster asks for a token; {TOKEN_ADVICE}", field="address")
            if _asks_for_token(found):
                raise UserError(f"{address}: the cluster has another token; {TOKEN_ADVICE}", field="address")
    except ray.exceptions.RpcError as error:
        raise UserError(f"{address}: what answers there is no Ray cluster of this version", field="address") from error
    return found


def _asks_for_token(address: str) -> bool:
    """Whether a cluster refuses this process for want of a token, or for a wrong one."""
    try:
        with silent_stderr():  # Ray's core writes there that it was refused
            GcsClient(address=address)
    except ray.exceptions.AuthenticationError:
        return True
    return False


def _check_room(resources: Resources) -> None:
    if _fitting(resources) > 0:
        return
    nodes = ", ".join(
        f"{node['Resources'].get('CPU', 0):g} CPUs and {node['Resources'].get('GPU', 0):g} GPUs" for node in _nodes()
    )
    if resources.cpus == 0:
        raise UserError(f"needs a node with a GPU, but the nodes have {nodes}", field="trials_per_gpu")
    raise UserError(
        f"a trial needs {resources.cpus} CPUs and {resources.gpus:g} GPUs on one node, but the nodes have {nodes}",
        field="cpus_per_trial" if resources.gpus == 0 else "gpus_per_trial",
    )


def memory() -> tuple[float, float]:
    """Bytes in use, and that there are, on this machine or in the container that it is."""
    used: float = utils.get_used_memory()  # type: ignore[no-untyped-call]
    return used, get_system_memory()


def _nodes() -> list[dict[str, Any]]:
    nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    return [node for node in nodes() if node["Alive"]]


def _fitting(resources: Resources) -> int:
    return sum(resources.fit_on(node) for node in _nodes())


class Room:
    """How many trials may run at a time, now: as many as fit, or ``workers``, and fewer where memory was short."""

    def __init__(self, resources: Resources, workers: int | None = None) -> None:
        self._resources, self._workers = resources, workers
        self._seen = -CAPACITY_SECONDS
        self._fitting: dict[str, int] = {}  # by the node's id, as all of this
        self._limits: dict[str, int] = {}

    def __call__(self) -> int:
        if self._workers is not None and not self._limits:
            return self._workers
        total = sum(self.by_node().values())
        return total if self._workers is None else min(self._workers, total)

    def by_node(self) -> dict[str, int]:
        """On each node, by Ray's id of it."""
        if monotonic() - self._seen >= CAPACITY_SECONDS:
            self._seen = monotonic()
            self._fitting = {node["NodeID"]: self._resources.fit_on(node) for node in _nodes()}
        most = [fitting if self._workers is None else min(fitting, self._workers) for fitting in self._fitting.values()]
        return {node: self._limits.get(node, fit) for node, fit in zip(self._fitting, most, strict=True)}

    def limit(self, node: str, count: int) -> None:
        """Let a node have so many at most."""
        self._limits[node] = count

    def lift(self, node: str) -> None:
        """Let a node have as many as fit again."""
        self._limits.pop(node, None)


def check_writable(directory: Path) -> None:
    """Raise UserError if files cannot be written into a directory."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0" * 2**16)
    except OSError as error:
        message = f"{directory}: cannot write results there ({error.strerror}); choose another folder"
        raise UserError(message, field="results") from error


def check_nodes(directory: Path, dataset: PackedDataset, uri: str | None = None) -> None:
    """Raise UserError if some node of the cluster does not see the study's directory or the very same dataset.

    Where the study lies behind a URI, every node must be able to write there. A dataset behind one is fetched. A node
    that was lost a moment ago, which Ray may not have seen yet, is none.
    """
    nodes = _nodes()
    if len(nodes) == 1 and uri is None:
        return
    reading = len(nodes) * dataset.frames.nbytes / SLOWEST  # every node hashes the dataset, of one disk at worst
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".seen-by-all-") as probe:
        look = ray.remote(num_cpus=0)(_look)
        answers = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                uri or probe.name, dataset.source, dataset.fingerprint, kept()
            )
            for node in nodes
        ]
        for node, answer in zip(nodes, answers, strict=True):
            try:
                fault = ray.get(answer, timeout=CHECK_SECONDS + reading)
            except ray.exceptions.RayError as error:
                if not isinstance(error, ray.exceptions.RayTaskError) and _is_lost(node["NodeID"]):
                    continue
                fault = f"cannot run this program ({in_one_line(error)})"
            if fault:
                raise UserError(f"node {node['NodeManagerHostname']}: {fault}")


def _is_lost(node_id: str) -> bool:
    """Whether a node on which nothing could be run leaves the cluster, now or soon."""
    until = monotonic() + LOST_SECONDS
    while is_there := any(node["NodeID"] == node_id for node in _nodes()):
        if monotonic() >= until:
            break
        sleep(0.5)
    return not is_there


def _look(probe: str, data: str, fingerprint: str, keys: Kept) -> str:
    """Runs on every node: what is wrong there, or nothing. ``probe`` is a file to see, or the study's URI."""
    keep(keys)
    if is_uri(probe):
        try:
            Remote.open(probe).check_writable(cache_folder("probes"))
        except UserError as error:
            return f"{error}; the node needs the same access as the driver"
    elif not Path(probe).exists():
        return (
            f"does not see {Path(probe).parent}; on several nodes the results must lie in a folder that all of them "
            "share, or behind a URI"
        )
    try:
        found = PackedDataset.open(data).fingerprint
    except UserError as error:
        where = (
            ""
            if is_uri(data)
            else "; on several nodes the dataset must lie at a path that each of them has, or behind a URI"
        )
        return f"{error}{where}"
    return "" if found == fingerprint else f"{data} is another dataset there; copy the driver's to it"
