"""Doors: the ways by which input comes in, each with what can be changed about it and with what is right."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.fuzz.attempt import Verdict

TRIALS = ("0000", "0001", "0002", "0003", "0004")


class Step(NamedTuple):
    """One mutation."""

    file: str
    """Path below the input's folder, or the command whose options are changed"""
    how: str
    """Name of the mutation"""
    where: int
    what: int


@dataclass
class Try:
    """One input, laid out in the working folder and mutated."""

    valid: Path
    """Folder of the valid inputs"""
    changed: list[str]
    """Files that were mutated, or options"""
    steps: list[Step] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)
    """What the door remembers from input to input, such as the result of the valid one"""

    @property
    def names(self) -> list[str]:
        """What a refusal may call the fault by."""
        found = []
        for path in map(Path, self.changed):
            found.append(path.name)
            if path.name == "study.json":
                found += ["there is no study here", "--data"]
            if path.parent.name in (*TRIALS, "packed"):
                found.append(path.parent.name)
        return found


@dataclass(frozen=True)
class Door:
    """A way by which input comes in."""

    name: str
    share: int
    """Of all inputs, relative to other doors'"""
    files: Mapping[str, tuple[str, ...]]
    """Files that may be mutated, with the formats of their mutations; or commands, with their kind of options"""
    lay: Callable[[Path], None]
    """Puts a valid input, found in the folder given, into the working folder"""
    attempt: Callable[[Try], list[Verdict]]
    """Runs the commands; without any mutation all must accept"""
    fast_share: int | None = None
    """In place of ``share`` where only few inputs are tried, for doors that take seconds"""

    @property
    def blameable(self) -> list[str]:
        """Names of the files that a message could blame."""
        return sorted({Path(name).name for name in self.files})


def link_tree(source: Path, target: Path) -> None:
    """A copy of a folder whose files are the same ones: what is changed must be copied before."""
    shutil.copytree(source, target, copy_function=os.link)


def own(path: Path) -> None:
    """Make a file of such a copy one of its own."""
    if path.is_file():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
