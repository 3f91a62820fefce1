"""Why Ray gave a trial up, told from what Ray keeps of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.execute.dispatch import _error_of

HEAD = "Failure # 1 (occurred at 2026-01-01_00-00-00)\n"


@pytest.mark.parametrize(
    ("text", "is_pickled", "reason", "lost_worker"),
    [
        ("The actor died unexpectedly\n  on node 1", True, "The actor died unexpectedly on node 1", True),
        ("out of memory: a node has none left", True, "out of memory: a node has none left", False),
        ("\x1b[36mray::ImplicitFunc.train()\x1b[39m\nKeyError: 1", True, "KeyError: 1", False),
        ("no such runtime environment", False, "no such runtime environment", False),
        (None, False, "Ray gave it up and did not say why", False),
    ],
)
def test_a_dead_worker_is_told_from_an_exception(
    text: str | None, is_pickled: bool, reason: str, lost_worker: bool, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "error.txt").write_text(HEAD + text)
    about = SimpleNamespace(pickled_error_filename="error.pkl" if is_pickled else None)
    trial: Any = SimpleNamespace(error_file=text and str(tmp_path / "error.txt"), run_metadata=about)
    found, lost = _error_of(trial)
    assert found.endswith(reason)
    assert lost == lost_worker
