"""One thread for algebra of a few hundred rows: more gain nothing, and lose much where workers use all cores."""

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


@functools.cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  # brings a BLAS of its own, beside NumPy's

    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """For the duration of a block NumPy and SciPy compute with one thread."""
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited
