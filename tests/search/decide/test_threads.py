"""Algebra on one thread."""

import numpy as np
from threadpoolctl import threadpool_info

from search.decide.threads import one_thread


def _threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_blas_has_one_thread_in_the_block_and_as_many_as_before_after_it() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    before = _threads()
    with one_thread():
        assert set(_threads()) == {1}
    assert _threads() == before
