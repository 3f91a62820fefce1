"""Numbers with units, as options and budgets have them: "5.1M", "40MB", "8h"."""

import math
import re
from collections.abc import Mapping
from typing import Final

from trainer.common.fields import shorten

_AMOUNT: Final = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-z]+)", re.ASCII)


def parse_amount(text: str, units: Mapping[str, float]) -> tuple[float, str]:
    """Read a number with a unit, such as "5.1M": the number times what ``units`` says of the unit, and the unit.

    Raises ValueError if it is none; small and capital letters are alike.
    """
    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None or match[2] not in units:
        raise ValueError(f"{shorten(text.strip())!r} is not a number with a unit ({', '.join(units)})")
    amount = round(float(match[1]) * units[match[2]], 6)  # 32.767M is 32767000, not 4e-9 more
    if not math.isfinite(amount):
        raise ValueError(f"{shorten(text.strip())!r} is too large")
    return amount, match[2]


def parse_limits(text: str, units: Mapping[str, tuple[str, float]], example: str) -> dict[str, float]:
    """Read a budget such as "5.1M,40MB": the limits by their names; ``units`` says what each limits, and times what.

    Raises ValueError, with the example, for what is no limit, one given twice, or none left.
    """
    factors = {unit: factor for unit, (_, factor) in units.items()}
    limits: dict[str, float] = {}
    for part in text.split(","):
        try:
            amount, unit = parse_amount(part, factors)
        except ValueError as error:
            raise ValueError(f"{error}; write for example {example}") from error
        name, _ = units[unit]
        if name in limits:
            raise ValueError(f"{shorten(text)!r} limits {name} twice; write for example {example}")
        if amount == 0:
            raise ValueError(f"{shorten(part.strip())!r} leaves room for nothing; write for example {example}")
        limits[name] = amount
    return limits


def number(text: str) -> float:
    """Read a number; NaN if it is none, which is in no range that an option is held to."""
    try:
        return float(text)
    except ValueError:
        return math.nan
