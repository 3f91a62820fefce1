"""Budgets: "5.1M,40MB,100ms" -> Budget, and costs checked against it.

A budget names any of four limits, each at most once: parameters (K or M: thousands, millions), size of the .tflite
file (KB or MB, decimal: 40MB is 40,000,000 bytes, the stricter reading of the contest's rule), latency (ms a
sequence on average, as the contest counts it) and members (3models).
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Final, Self

import numpy as np

from trainer.common.units import parse_limits

EXAMPLE: Final = "5.1M,40MB,100ms"
CONTEST: Final = "40MB,100ms"

_UNITS: Final = {
    "k": ("parameters", 1e3),
    "m": ("parameters", 1e6),
    "kb": ("size", 1e3),
    "mb": ("size", 1e6),
    "ms": ("latency", 1.0),
    "model": ("members", 1.0),
    "models": ("members", 1.0),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a candidate or an ensemble takes."""

    parameters: float
    size: float
    """Bytes of the .tflite file"""
    latency: float
    """Milliseconds a sequence, mean over the validation set's lengths"""
    members: float = 1

    def to_array(self) -> np.ndarray:
        """float64 [4]: parameters, size, latency, members"""
        return np.array(astuple(self), dtype=np.float64)

    @classmethod
    def from_array(cls, amounts: np.ndarray) -> Self:
        """Inverse of ``to_array``."""
        return cls(**dict(zip(FORMATS, amounts.tolist(), strict=True)))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Hard limits, in the units of ``Cost``; infinity where none was asked for."""

    parameters: float = math.inf
    size: float = math.inf
    latency: float = math.inf
    members: float = math.inf

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a budget such as "5.1M,40MB,100ms". Raises ValueError with an example."""
        return cls(**parse_limits(text, _UNITS, EXAMPLE))

    def to_array(self) -> np.ndarray:
        """float64 [4]: parameters, size, latency, members"""
        return np.array(astuple(self), dtype=np.float64)

    def __str__(self) -> str:
        """As ``parse`` reads it, but for digits beyond the sixth."""
        limits = zip(FORMATS.values(), astuple(self), strict=True)
        return ",".join(show(limit) for show, limit in limits if limit < math.inf)

    def exceeded(self, cost: Cost) -> list[str]:
        """For each limit that the cost breaks, how, such as "size 41.2MB over 40MB"; empty if it fits."""
        rows = zip(FORMATS.items(), astuple(cost), astuple(self), strict=True)
        return [f"{name} {show(value)} over {show(limit)}" for (name, show), value, limit in rows if value > limit]


FORMATS: Final[dict[str, Callable[[float], str]]] = {
    "parameters": lambda value: f"{value / 1e6:.6g}M" if value >= 1e6 else f"{value / 1e3:.6g}K",
    "size": lambda value: f"{value / 1e6:.6g}MB" if value >= 1e6 else f"{value / 1e3:.6g}KB",
    "latency": lambda value: f"{value:.6g}ms",
    "members": lambda value: f"{value:.6g}model{'s' if value != 1 else ''}",
}
"""How each limit or cost is written, in the order of the fields of Budget and Cost"""


def brief(amounts: np.ndarray) -> list[str]:
    """Parameters, size and latency in one unit each, for a table's columns; "-" where there is no limit."""
    parameters, size, latency, _ = amounts
    texts = (f"{parameters / 1e6:.2f}M", f"{size / 1e6:.2f}MB", f"{latency:.2f}ms")
    return ["-" if text.startswith("inf") else text for text in texts]
