"""Workers that Ray ends because a node runs out of memory: their trials fail, the search goes on."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

OUT_OF_MEMORY: Final = "out of memory: "  # begins the error of such a trial


class WorkerOutOfMemory(RayActorError):
    """A worker was ended for its node's memory."""


@contextlib.contextmanager
def memory_kills_end_one_trial() -> Iterator[None]:
    """Have Ray Tune take such a worker as one that died; Ray 2.60's ends the whole search with a RuntimeError."""
    take_in = RayActorManager._actor_task_failed

    def take_in_kills_too(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            words = str(exception).partition("\n")[0]
            exception = WorkerOutOfMemory(error_msg=f"{OUT_OF_MEMORY}{words}")
        take_in(manager, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = take_in_kills_too  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = take_in  # type: ignore[method-assign]
