"""Keep a study behind a URI to one search at a time: an object there that the search renews while it is at work.

Object storage has no locks. S3 and others can write an object only where there is none (If-None-Match), but pyarrow.fs,
through which this program reaches all of them, does not offer it as of version 26. So each search writes an object of
its own under STUDY/.lock, and then looks for others. Of two searches that begin at once, at least the one that wrote
later sees the other's object and gives way; both may. An object that is not renewed while it is watched was left by a
search that was killed. No clocks are compared. A search that was out of reach for longer than that finds its object
gone, and stops.
"""

import contextlib
import dataclasses
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

from trainer.common.console import console
from trainer.common.errors import StorageError, UserError
from trainer.common.files import LOCK
from trainer.common.storage import Remote

BEAT_SECONDS: Final = 5.0  # between renewals
STALE_SECONDS: Final = 30.0  # without one


@contextlib.contextmanager
def held(remote: Remote, folder: Path) -> Iterator[None]:
    """Keep others from the study at ``remote``; ``folder``, its local one, is locked already.

    Waits, if the storage has the object of another search, until that is renewed or STALE_SECONDS have passed. Raises
    UserError if it was renewed, or, at the end, if another search took the study over meanwhile.
    """
    locks, own = (
        dataclasses.replace(remote.child(LOCK), patience=0.0),
        f"{platform.node()}-{os.getpid()}-{uuid4().hex[:8]}",
    )
    busy = UserError(f"{remote.uri}: another search is at work on this study; let it end, or stop it")
    for name in _left_behind(locks, busy):
        locks.remove(name)
    locks.upload(folder / LOCK, own)
    ended, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(StorageError):  # the study's own files say so too
                if not locks.has(own):
                    lost.set()
                    os.kill(os.getpid(), signal.SIGINT)  # stops the search as Ctrl-C does
                    return
                locks.upload(folder / LOCK, own)

    thread = threading.Thread(target=renew, daemon=True)
    try:
        if any(not name.startswith(own) for name in locks.files()):
            raise busy
        thread.start()
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        with contextlib.suppress(StorageError):  # must not hide what ended the search; it goes stale
            locks.remove(own)
    if lost.is_set():
        raise UserError(
            f"{remote.uri}: another search took this study over while its storage was out of this one's reach"
        )


def _left_behind(locks: Remote, busy: UserError) -> list[str]:
    """Names of objects that nobody renews. Raises ``busy`` if somebody does."""
    seen = locks.files()
    if seen:
        console.print(
            f"a search has this study, or was killed; watching for {STALE_SECONDS:.0f} s which it is", soft_wrap=True
        )
    end = time.monotonic() + STALE_SECONDS
    while seen and time.monotonic() < end:
        time.sleep(1)
        now = locks.files()
        if any(seen.get(name) != about for name, about in now.items()):
            raise busy
        seen = now
    return list(seen)
