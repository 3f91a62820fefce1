"""What malloc keeps, and gives back, in a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
from trainer.learning.allocator import give_freed_memory_back, keep_freed_memory

def held() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 >> 20

keep_freed_memory()
before = held()
arrays = [np.ones(10 << 17) for _ in range(30)]  # 10 MB each
del arrays
kept = held()
give_freed_memory_back()
print(kept - before, held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere malloc is left as it is")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, left = map(int, result.stdout.split())
    assert kept > 250
    assert left < 50
