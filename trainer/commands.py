"""All commands under one name: ``sign-ensemble search --trials 64`` is ``python -m search.run --trials 64``.

    sign-ensemble --help

Nothing but the command that was asked for is imported.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from trainer.common import cli
from trainer.common.errors import UserError
from trainer.common.fields import suggestion
from trainer.common.program import COMMANDS, PROGRAM, version


def summary(module: str) -> str:
    """The first sentence of a command's help, read from the docstring of its module.

    >>> summary("trainer.train")
    'Train one model on a packed dataset.'
    """
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def page() -> str:
    """What ``sign-ensemble --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {summary(module)}" for name, module in COMMANDS.items()]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [options]",
            "",
            "Searches hyperparameters of small sign-language classifiers, and builds the ensemble that fits a size and",
            "latency budget.",
            "",
            "commands:",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help explains a command; {PROGRAM} --version shows the version.",
            "",
            "examples:",
            f"  {PROGRAM} pack asl-signs results/data/asl-signs",
            f"  {PROGRAM} search --trials 64 --data results/data/asl-signs --name asl",
            f"  {PROGRAM} select --budget 40MB,100ms --results results/asl",
        ]
    )


def dispatch(words: Sequence[str]) -> None:
    """Run the command that the first word names, with the others. Raises UserError if there is no such command."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(page())
        return
    name, *rest = words
    if name == "--version":
        print(f"sign-ensemble-search {version()}")
        return
    if name not in COMMANDS:
        near = suggestion(name, COMMANDS)
        raise UserError(f"{name}: there is no such command{near} ({PROGRAM} --help lists the commands)")
    sys.argv = [f"{PROGRAM} {name}", *rest]
    importlib.import_module(COMMANDS[name]).main()


def main() -> NoReturn:
    cli.run(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
