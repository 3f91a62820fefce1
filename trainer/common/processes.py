"""Worker processes of a pool."""

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Start a worker process of a pool: it leaves interrupts to its parent, and ends with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
