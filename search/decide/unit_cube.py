"""Values of a range as shares of it, from 0 to 1, for samplers that work in the unit cube.

Even in the logarithm where the range says so; a choice or a step has a cell.
"""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def at(distribution: BaseDistribution, share: float) -> Any:
    """The value at a share of a range."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[_cell(share, len(choices))]
        case IntDistribution(low=low, high=high, log=True):
            return min(max(round((low - 0.5) * ((high + 0.5) / (low - 0.5)) ** share), low), high)
        case IntDistribution(low=low, high=high, step=step):
            return low + step * _cell(share, (high - low) // step + 1)
        case FloatDistribution(low=low, high=high, log=True):
            return min(max(low * (high / low) ** share, low), high)
        case FloatDistribution(low=low, high=high, step=None):
            return low + share * (high - low)
        case FloatDistribution(low=low, high=high, step=float(step)):
            return min(low + step * _cell(share, round((high - low) / step) + 1), high)
    raise TypeError(f"no such distribution: {distribution}")


def _cell(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


def share_of(distribution: BaseDistribution, value: Any) -> float:
    """The share of a range at which a value lies; of a choice or a step, the middle of its cell."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return float((choices.index(value) + 0.5) / len(choices))
        case IntDistribution(low=low, high=high, log=True):
            return math.log(value / (low - 0.5)) / math.log((high + 0.5) / (low - 0.5))
        case IntDistribution(low=low, high=high, step=step):
            return float(((value - low) // step + 0.5) / ((high - low) // step + 1))
        case FloatDistribution(low=low, high=high) if low == high:
            return 0.5
        case FloatDistribution(low=low, high=high, log=True):
            return math.log(value / low) / math.log(high / low)
        case FloatDistribution(low=low, high=high, step=None):
            return float((value - low) / (high - low))
        case FloatDistribution(low=low, high=high, step=float(step)):
            return float((round((value - low) / step) + 0.5) / (round((high - low) / step) + 1))
    raise TypeError(f"no such distribution: {distribution}")
