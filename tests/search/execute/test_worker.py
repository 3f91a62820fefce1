"""What a Ray worker imports."""

import subprocess
import sys

from tests.nodes import ROOT


def test_a_worker_imports_no_optuna() -> None:
    code = "import sys, search.execute.worker; assert 'optuna' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
