"""Workers that Ray ends because a node runs out of memory, whoever filled it: told from workers that died otherwise."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

_BEGINNING: Final = "out of memory: "  # of the error of such a trial
_NODE: Final = re.compile(r"\(IP: (\S+), ID: (\w+)\) was ([\d.]+)GB used / ([\d.]+)GB limit")
_OWN: Final = r"Actor\({actor}\).*?actual memory used=([\d.]+)GB"


@dataclass(frozen=True)
class MemoryKill:
    """Why and where a worker was ended."""

    node: str
    """Ray's id of the node; empty if Ray did not say in words that are known here"""
    words: str

    @classmethod
    def of(cls, message: str, actor: str) -> Self:
        """What Ray says of the worker that has this actor's id, in hexadecimal."""
        found = _NODE.search(message)
        if found is None:
            return cls("", " ".join(message.partition("\n")[0].split()))
        address, node, used, total = found.groups()
        own = re.search(_OWN.format(actor=actor), message)
        worker = f"its worker, which used {own[1]} GB," if own else "its worker"
        return cls(node, f"{worker} was ended when node {address} had {used} of {total} GB in use")

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What ``str`` wrote; None for any other error."""
        if not text.startswith(_BEGINNING):
            return None
        words, _, node = text.removeprefix(_BEGINNING).rstrip("]").rpartition(" [")
        return cls(node, words)

    def __str__(self) -> str:
        return f"{_BEGINNING}{self.words} [{self.node}]"


class WorkerOutOfMemory(RayActorError):
    """A worker was ended for its node's memory. The message is that of a MemoryKill."""


@contextlib.contextmanager
def memory_kills_end_one_trial() -> Iterator[None]:
    """Have Ray Tune take such a worker as one that died; Ray 2.60's ends the whole search with a RuntimeError.

    The same for one that is ended while it starts, which Ray's tells as any error of the trial's.
    """
    take_in, take_in_start = RayActorManager._actor_task_failed, RayActorManager._actor_start_failed

    def told(manager: RayActorManager, tracked_actor: Any, exception: Exception) -> Exception:
        if not isinstance(exception, OutOfMemoryError):
            return exception
        actor, _ = manager._live_actors_to_ray_actors_resources[tracked_actor]
        return WorkerOutOfMemory(error_msg=str(MemoryKill.of(str(exception), actor._actor_id.hex())))

    def take_in_kills_too(manager: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        take_in(manager, tracked_actor_task, told(manager, tracked_actor_task._tracked_actor, exception))

    def take_in_kills_at_the_start(manager: RayActorManager, tracked_actor: Any, exception: Exception) -> None:
        take_in_start(manager, tracked_actor, told(manager, tracked_actor, exception))

    RayActorManager._actor_task_failed = take_in_kills_too  # type: ignore[assignment, method-assign]
    RayActorManager._actor_start_failed = take_in_kills_at_the_start  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = take_in  # type: ignore[method-assign]
        RayActorManager._actor_start_failed = take_in_start  # type: ignore[method-assign]
