"""What is left to do where a signal ended Ray together with this process's search: say how to go on, and leave.

Containers, systemd and batch systems may signal all processes of a job at once. This process's main thread then waits
for a server of Ray's that has gone, in Ray's own code, where no handler of Python's runs and no exception can come.
The study is on disk as of the last thing that it was told, so nothing is lost by leaving from another thread.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final

from ray._private import worker

from trainer.common.signals import STOPPING, exit_status

GRACE_SECONDS: Final = 8.0  # from the signal to the end of a search that Ray has left alone
LOOK_SECONDS: Final = 0.5


@contextlib.contextmanager
def leaving(say: Callable[[], None]) -> Iterator[None]:
    """While this lasts, the process ends GRACE_SECONDS after a signal that also ended the Ray started here.

    ``say`` is called before, in another thread. Outside the main thread, which alone may handle signals, nothing is
    done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to even while no handler can run
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(reader, ended, say), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


def _watch(reader: int, ended: threading.Event, say: Callable[[], None]) -> None:
    while (signum := os.read(reader, 1)) and signum[0] not in STOPPING:
        pass
    if not signum:  # the pipe was closed: nothing came
        return
    until = monotonic() + GRACE_SECONDS
    while not ended.wait(LOOK_SECONDS):
        if monotonic() >= until and is_ray_gone():
            say()
            os._exit(exit_status(signum[0]))


def is_ray_gone() -> bool:
    """Whether the Ray that this process started has lost one of its servers."""
    node: Any = worker._global_node
    return node is not None and bool(node.dead_processes())
