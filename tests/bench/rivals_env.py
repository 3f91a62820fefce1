"""Virtual environments of the rivals' own: each wants other versions of packages than we have.

    python -m tests.bench.rivals_env [select syne-tune neps dehb]

Each is made once, in results/rivals-env/, of the pinned packages of tests/bench/environments/NAME.txt: select for
tests.bench.select, the others for tests.bench.search.
"""

import argparse
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Final

from trainer.common import cli
from trainer.common.console import console

FOLDER: Final = Path("results/rivals-env")
PACKAGES: Final = {path.stem: path for path in Path(__file__).with_name("environments").glob("*.txt")}
WITH_OURS: Final = {"neps"}  # torch is large, and its dependencies differ between machines


def make(name: str) -> Path:
    """The interpreter of an environment; makes the environment if it is not there, or of other packages."""
    folder, packages = FOLDER / name, PACKAGES[name]
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists() or ready.read_text() != packages.read_text():
        console.print(f"making {folder} of {packages.name}", soft_wrap=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", packages], check=True)
        if name in WITH_OURS:
            (own,) = folder.glob("lib/python*/site-packages")
            (own / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n")
        ready.write_text(packages.read_text())
    return python


def version(name: str) -> str:
    """Of an environment's rival, which is the first package of its list, such as "syne-tune 0.14.2"."""
    packages = [line for line in PACKAGES[name].read_text().splitlines() if not line.startswith("#")]
    return packages[0].replace("==", " ")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rivals_env")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(sorted(PACKAGES))} (default: all)")
    for name in parser.parse_args().names or sorted(PACKAGES):
        subprocess.run([make(name), "-c", f"print({version(name)!r})"], check=True)


if __name__ == "__main__":
    cli.run(main)
