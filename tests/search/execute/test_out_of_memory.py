"""A trial whose worker is ended for memory goes on; one that takes more than there is fails, and no other."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.execute.out_of_memory import MemoryKill
from search.record.trials import read_rows, read_trials
from tests.nodes import without_ray

NODE = "955890bccba7e147fd1475c9d30d374a0aa164bece284029c14f8b20"
RAYS_WORDS = f"""2 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, \
ID: {NODE}) was 4.73GB used / 23.54GB limit (0.200822)
OOM kill reason: Memory usage 5067571200B exceeded threshold of 5012332032B (19.8% of 25276510208B limit)
Considered workers: [
Selected to kill: (Actor(1dbd2d80): job ID=01000000, task name=ImplicitFunc.__init__, required resources={{CPU_0: \
1, bundle_group_0: 0.001}}, pid=30514, actual memory used=1.50GB, worker ID=00a6)
Selected to kill: (Actor(5dbd2d80): job ID=01000000, task name=ImplicitFunc.__init__, required resources={{CPU_1: \
1, bundle_group_1: 0.001}}, pid=30515, actual memory used=2.86GB, worker ID=00a7)
]
"""


def test_what_ray_says_of_one_of_two_workers_is_told_in_a_line_and_read_again() -> None:
    kill = MemoryKill.of(RAYS_WORDS, "5dbd2d80")
    own = "its worker, which used 2.86 GB, was ended when node 192.0.2.2 had 4.73 of 23.54 GB in use"
    assert (kill.node, kill.words) == (NODE, own)
    assert MemoryKill.read(str(kill)) == kill
    without_own = MemoryKill.of(RAYS_WORDS, "77777777")
    assert without_own.words == own.replace(", which used 2.86 GB,", "")


def test_words_that_are_not_known_are_kept_and_other_errors_are_none() -> None:
    kill = MemoryKill.of("the node\tis full\nand more", "5dbd2d80")
    assert MemoryKill.read(str(kill)) == kill == MemoryKill("", "the node is full")
    assert MemoryKill.read("The actor died unexpectedly [1]") is None


@pytest.mark.slow
def test_a_trial_that_exceeds_memory_fails_alone(tmp_path: Path, packed: Path) -> None:
    """And one that was running when another process took the memory is finished."""
    command = [sys.executable, "-m", "tests.search.exhaust", str(tmp_path), str(packed)]
    ran = subprocess.run(
        command,
        cwd=Path(__file__).parents[3],
        env=without_ray(),
        check=True,
        timeout=300,
        stdout=subprocess.PIPE,
        text=True,
    )

    rows = sorted(read_rows(tmp_path), key=lambda row: row.number)
    assert [row.state for row in rows] == ["COMPLETE", "FAIL", "PRUNED", "FAIL", "FAIL", "COMPLETE"]
    for number in (0, 1):
        assert f"trial {number} lost its worker and will go on from its last epoch: out of memory: its" in ran.stdout
    assert "out of memory twice in a row, alone on its node the second time: its worker, which used " in (
        rows[1].reason or ""
    )
    assert (rows[1].reason or "").endswith("or, for more than one trial there, fewer workers")
    assert [row.reason for row in rows[3:5]] == ["the loss became nan in epoch 2", "RuntimeError: no such kernel"]
    found = [trial.intermediate_values for trial in read_trials(tmp_path)]
    good = {epoch: 0.3 + 0.05 * epoch for epoch in range(1, 10)}
    expected = [good, {1: 0.35, 2: 0.4}, {1: 0.05}, {1: 0.35}, {}, good]
    assert found == [pytest.approx(values) for values in expected]
