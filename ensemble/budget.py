"""Costs of models and budgets for them: "5.1M,40MB,100ms" -> Budget.

COSTS is the one table of costs. A further cost is one more entry there: how it is measured, the units a limit is
given in, and how it is shown. The arrays of costs that selection works on have one column per entry, in its order.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from trainer.common.fields import shorten
from trainer.common.units import parse_limits

if TYPE_CHECKING:  # the help of ensemble.select needs a Python alone
    import numpy as np

EXAMPLE: Final = "5.1M,40MB,100ms"
CONTEST: Final = "40MB,100ms"


@dataclass(frozen=True, kw_only=True)
class BuiltFile:
    """A .tflite file of one or more models, or of none, from which costs are measured."""

    content: bytes
    parameters: int
    members: int
    milliseconds: float
    """Mean time a sequence on the target"""


@dataclass(frozen=True, kw_only=True)
class CostKind:
    """One kind of cost: something that members of an ensemble add up to and that a budget may limit."""

    measure: Callable[[BuiltFile], float]
    units: Mapping[str, float]
    """Units a limit may be given in, in small letters, with their sizes"""
    show: Callable[[float], str]
    """Writes an amount so that a budget can be read from it, to six digits"""
    brief: Callable[[float], str] | None = None
    """Writes an amount for a column of a table; None if the cost has no column of its own"""


COSTS: Final[dict[str, CostKind]] = {
    "parameters": CostKind(
        measure=lambda file: file.parameters,
        units={"k": 1e3, "m": 1e6},
        show=lambda amount: f"{amount / 1e6:.6g}M" if amount >= 1e6 else f"{amount / 1e3:.6g}K",
        brief=lambda amount: f"{amount / 1e6:.2f}M",
    ),
    "size": CostKind(  # bytes; decimal units are the stricter reading of the contest's 40 MB
        measure=lambda file: len(file.content),
        units={"kb": 1e3, "mb": 1e6},
        show=lambda amount: f"{amount / 1e6:.6g}MB" if amount >= 1e6 else f"{amount / 1e3:.6g}KB",
        brief=lambda amount: f"{amount / 1e6:.2f}MB",
    ),
    "latency": CostKind(  # mean milliseconds a sequence, as the contest counts it
        measure=lambda file: file.milliseconds,
        units={"ms": 1.0},
        show=lambda amount: f"{amount:.6g}ms",
        brief=lambda amount: f"{amount:.2f}ms",
    ),
    "members": CostKind(
        measure=lambda file: file.members,
        units={"model": 1.0, "models": 1.0},
        show=lambda amount: f"{amount:.6g}model{'s' if amount != 1 else ''}",
    ),
}


def columns() -> dict[str, Callable[[float], str]]:
    """The costs that have a column in tables, with how an amount is written there."""
    return {name: kind.brief for name, kind in COSTS.items() if kind.brief is not None}


class Amounts(Mapping[str, float]):
    """An amount for each entry of COSTS, by its name."""

    _otherwise: ClassVar[float]

    def __init__(self, **amounts: float) -> None:
        """Raises TypeError for a name that is no cost."""
        if unknown := amounts.keys() - COSTS.keys():
            raise TypeError(f"no such cost: {', '.join(sorted(unknown))}; there are {', '.join(COSTS)}")
        self._amounts = {name: amounts.get(name, self._otherwise) for name in COSTS}

    @classmethod
    def from_array(cls, amounts: "np.ndarray") -> Self:
        """Inverse of ``to_array``."""
        return cls(**dict(zip(COSTS, amounts.tolist(), strict=True)))

    def to_array(self) -> "np.ndarray":
        """float64 [len(COSTS)], in the order of COSTS."""
        import numpy as np

        return np.array(list(self._amounts.values()), dtype=np.float64)

    def replace(self, **amounts: float) -> Self:
        """The same but for some amounts."""
        return type(self)(**{**self._amounts, **amounts})

    def brief(self) -> list[str]:
        """A text for each column of a table; "-" where there is no limit."""
        return ["-" if math.isinf(self[name]) else show(self[name]) for name, show in columns().items()]

    def __getitem__(self, name: str) -> float:
        return self._amounts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._amounts)

    def __len__(self) -> int:
        return len(self._amounts)

    def __hash__(self) -> int:
        return hash(tuple(self._amounts.items()))

    def __repr__(self) -> str:
        amounts = ", ".join(f"{name}={amount:g}" for name, amount in self.items() if amount != self._otherwise)
        return f"{type(self).__name__}({amounts})"


class Cost(Amounts):
    """What a candidate or an ensemble costs.

    >>> Cost(parameters=1.7e6, size=3.5e6, latency=1.2, members=1)["size"]
    3500000.0
    """

    _otherwise = 0.0

    @classmethod
    def of(cls, file: BuiltFile) -> Self:
        """Measure a file."""
        return cls(**{name: float(kind.measure(file)) for name, kind in COSTS.items()})


class Budget(Amounts):
    """Hard limits on costs; infinity where there is no limit.

    >>> str(Budget.parse("40MB,100ms"))
    '40MB,100ms'
    """

    _otherwise = math.inf

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a budget such as "5.1M,40MB,100ms,3models", each limit at most once. Raises ValueError with an example.

        M and K are parameters, MB and KB the size of the .tflite file, ms the mean latency of a sequence, models the
        number of members.
        """
        units = {unit: (name, size) for name, kind in COSTS.items() for unit, size in kind.units.items()}
        limits = parse_limits(text, units, EXAMPLE)
        if not limits.get("members", 1.0).is_integer():
            raise ValueError(f"{shorten(text)!r} limits models to a part of one; write for example {EXAMPLE}")
        return cls(**limits)

    def __str__(self) -> str:
        """As ``parse`` reads it, but for digits beyond the sixth; empty without limits."""
        return ",".join(COSTS[name].show(limit) for name, limit in self.items() if limit < math.inf)

    def exceeded(self, cost: Cost) -> list[str]:
        """Each limit that the cost breaks, such as "size 41.2MB over 40MB"; empty if it fits."""
        shows = {name: kind.show for name, kind in COSTS.items()}
        return [
            f"{name} {shows[name](cost[name])} over {shows[name](limit)}"
            for name, limit in self.items()
            if cost[name] > limit
        ]
