"""A trial that takes more memory than there is fails, and no other."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.record.trials import read_rows, read_trials
from tests.nodes import without_ray


@pytest.mark.slow
def test_a_trial_that_exceeds_memory_fails_alone(tmp_path: Path, packed: Path) -> None:
    command = [sys.executable, "-m", "tests.search.exhaust", str(tmp_path), str(packed)]
    subprocess.run(command, cwd=Path(__file__).parents[3], env=without_ray(), check=True, timeout=120)

    rows = sorted(read_rows(tmp_path), key=lambda row: row.number)
    assert [row.state for row in rows] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "COMPLETE"]
    assert "memory" in (rows[1].reason or "")
    assert [row.reason for row in rows[3:5]] == ["the loss became nan in epoch 2", "RuntimeError: no such kernel"]
    found = [trial.intermediate_values for trial in read_trials(tmp_path)]
    good = {epoch: 0.3 + 0.05 * epoch for epoch in range(1, 10)}
    expected = [good, {1: 0.35, 2: 0.4}, {1: 0.05}, {1: 0.35}, {}, good]
    assert found == [pytest.approx(values) for values in expected]
