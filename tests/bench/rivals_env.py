"""A virtual environment of the rivals' own, for tests.bench.select: AutoGluon wants an older pandas than we have.

    python -m tests.bench.rivals_env

Made once, in results/rivals-env, of the pinned packages of tests/bench/rivals.txt.
"""

import subprocess
import venv
from pathlib import Path
from typing import Final

from trainer.common import cli
from trainer.common.console import console

FOLDER: Final = Path("results/rivals-env")
PACKAGES: Final = Path(__file__).with_name("rivals.txt")


def make() -> Path:
    """The environment's interpreter; makes the environment if it is not there, or of other packages."""
    python, ready = FOLDER / "bin" / "python", FOLDER / "ready"
    if not ready.exists() or ready.read_text() != PACKAGES.read_text():
        console.print(f"making {FOLDER} of {PACKAGES.name}", soft_wrap=True)
        venv.create(FOLDER, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", PACKAGES], check=True)
        ready.write_text(PACKAGES.read_text())
    return python


def main() -> None:
    code = "from importlib.metadata import version as v; print('autogluon.core', v('autogluon.core'), end=', ')"
    subprocess.run([make(), "-c", f"{code}; print('deephyper', v('deephyper'))"], check=True)


if __name__ == "__main__":
    cli.run(main)
