"""Decorators that compile loops over arrays. Importing this module takes half a second, numba's.

What is compiled is kept on disk for the next process.
"""

from collections.abc import Callable
from typing import Any

import numba


def _compiler(*liberties: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that compiles a function, LLVM being free to take these liberties with its arithmetic."""
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": set(liberties)}

    def compile_(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no folder can be written that it could be kept in
            compiled = numba.njit(**options)(function)
        return compiled

    return compile_


njit = _compiler("contract")
njit_sums = _compiler("contract", "reassoc")
"""for sums over a row, in any order"""
