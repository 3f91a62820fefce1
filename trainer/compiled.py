"""Plain loops over arrays, compiled: for reading and centring landmarks, where numpy passes over memory too often."""

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers and arrays, by numba, kept on disk for the next process.

    numba is imported at the first call: that takes half a second, and training does without it.
    """
    import numba

    machine_code: Callable[..., Any] = numba.njit(cache=True)(function)
    return machine_code
