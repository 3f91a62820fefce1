"""A curve in one line of block characters."""

from collections.abc import Sequence
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, low: float, high: float) -> str:
    """One character a value; of more than ``width`` values the last of each part. ``low`` and ``high`` span the blocks.

    >>> sparkline([0.0, 0.5, 0.75, 1.0], 8, 0.0, 1.0)
    '▁▅▆█'
    """
    if len(values) > width:
        values = [values[(part + 1) * len(values) // width - 1] for part in range(width)]
    if high <= low:
        return BLOCKS[len(BLOCKS) // 2 - 1] * len(values)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[min(max(round((value - low) / (high - low) * top), 0), top)] for value in values)
