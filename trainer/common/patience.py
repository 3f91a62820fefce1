"""How long a program waits for a server that is out of reach, and how often it tries again."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

PATIENCE: Final = 60.0  # seconds in which a search waits for a server to come back
FIRST_PAUSE: Final = 0.5  # seconds before a second attempt; each pause is twice the one before

Outcome = TypeVar("Outcome")


def patiently(act: Callable[[], Outcome], may_pass: Callable[[Exception], bool], seconds: float = PATIENCE) -> Outcome:
    """Act, and again for so many seconds while it raises what may pass by itself; then raise that."""
    end, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return act()
        except Exception as error:
            if time.monotonic() + pause > end or not may_pass(error):
                raise
        time.sleep(pause)
        pause *= 2
