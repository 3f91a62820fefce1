"""Signals that ask a process to end, which a command takes as it takes Ctrl-C.

They are SIGTERM, which clusters, containers and batch systems send first, and SIGHUP, which a closing session sends.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A signal of STOPPING came. A KeyboardInterrupt, so that whoever cleans up after Ctrl-C does so here too."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def exit_status(signum: int) -> int:
    """With which a command exits that a signal ended, as shells count.

    >>> exit_status(signal.SIGTERM), exit_status(signal.SIGINT)
    (143, 130)
    """
    return 128 + signum


def stop(signum: int, _: Any = None) -> None:
    """A handler: raise KeyboardInterrupt for SIGINT, Stopped for others."""
    raise KeyboardInterrupt if signum == signal.SIGINT else Stopped(signum)


@contextlib.contextmanager
def handled(handle: Callable[[int, Any], object], *signals: int) -> Iterator[None]:
    """Have a function called at these signals; afterwards what was done at them before is done again.

    What the process was started to ignore, as nohup has SIGHUP ignored, stays so, but for SIGINT, which shells have
    their background processes ignore. Where a terminal is gone, output goes nowhere from then on. Outside the main
    thread, which alone may handle signals, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def take(signum: int, frame: Any) -> None:
        _leave_lost(terminals)
        handle(signum, frame)

    before = {signum: signal.getsignal(signum) for signum in signals}
    chosen = [signum for signum in signals if signum == signal.SIGINT or before[signum] is not signal.SIG_IGN]
    for signum in chosen:
        signal.signal(signum, take)
    try:
        yield
    finally:
        for signum in chosen:
            signal.signal(signum, before[signum])


def _leave_lost(terminals: list[int]) -> None:
    """Direct output to a terminal that is no longer there to nowhere; writing to it would be an error."""
    for number in terminals:
        if not os.isatty(number):
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), number)
