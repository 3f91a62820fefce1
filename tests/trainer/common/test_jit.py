"""Compiled loops where nothing can be kept: an installation that its user may only read."""

import os
import subprocess
import sys
from typing import Any

from trainer.model import loops


def test_loops_compile_where_no_folder_can_be_written() -> None:
    """Then numba finds no place for what it compiles, and refuses to keep it."""
    script = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from trainer.model import loops\n"
        "out = np.empty((1, 1), np.float32)\n"
        "loops.swiglu(np.ones((1, 2), np.float32), out)\n"
        "print(out[0, 0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert abs(float(done.stdout) - 0.7310586) < 1e-6
    compiled: Any = loops.swiglu
    assert compiled.stats.cache_path, "elsewhere it is kept"
