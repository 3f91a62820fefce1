"""What the program, its version and its commands are called."""

import re
import sys
from typing import Final

PROGRAM: Final = "sign-ensemble"
"""The console script"""
COMMANDS: Final = {
    "synthesize": "trainer.synthesize",
    "pack": "trainer.pack",
    "train": "trainer.train",
    "search": "search.run",
    "table": "search.table",
    "report": "search.report",
    "refit": "search.refit",
    "select": "ensemble.select",
    "check": "ensemble.check",
    "predict": "ensemble.predict",
    "ablate": "trainer.ablate",
}
"""Modules by subcommand, in the order in which they are used"""


def version() -> str:
    """The version of this package."""
    from importlib import metadata  # 30 ms that only few commands need

    return metadata.version("sign-ensemble-search")


def as_called(text: str) -> str:
    """A text in which commands are called as this one was: by the console script, or as they stand there.

    >>> as_called("go on with: python -m search.run --resume")
    'go on with: python -m search.run --resume'
    """
    if not sys.argv[0].startswith(f"{PROGRAM} "):
        return text
    names = {module: name for name, module in COMMANDS.items()}
    return re.sub(
        r"python -m (\w+\.\w+)", lambda found: f"{PROGRAM} {names[found[1]]}" if found[1] in names else found[0], text
    )
