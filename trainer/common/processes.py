"""Processes: workers of a pool that end with their parent, and native code that is kept quiet."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path


@contextlib.contextmanager
def pool(workers: int, context: BaseContext) -> Iterator[ProcessPoolExecutor]:
    """A pool of worker processes that end with this one, and at once where the block is left by an exception."""
    others = set(multiprocessing.active_children())
    if context.get_start_method() == "forkserver":
        with silent_stderr():  # all workers have the server's: one that is cut off while it begins prints a traceback
            forkserver.ensure_running()
    with ProcessPoolExecutor(workers, context, follow_parent) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise


def follow_parent() -> None:
    """Start a worker process of a pool: it leaves interrupts to its parent, and ends with it even if that is killed."""
    for signum in (signal.SIGINT, signal.SIGHUP):  # a terminal sends these to both
        signal.signal(signum, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class _Silence:
    """What is known of standard error while it is thrown away."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0  # threads
        self.kept = -1  # descriptor of what it was before the first of them


_silence = _Silence()


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Throw away what this process writes to standard error meanwhile, native libraries included.

    Threads may be in it at once: the last one that leaves brings it back.
    """
    with _silence.lock:
        _silence.inside += 1
        if _silence.inside == 1:
            _silence.kept = os.dup(2)
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        with _silence.lock:
            _silence.inside -= 1
            if not _silence.inside:
                os.dup2(_silence.kept, 2)
                os.close(_silence.kept)
