"""One rule for all doors: a command ends with a right result, or refuses its input in one line that names it.

``run`` runs a command as a user would, in this process. ``judge`` holds what it did against the rule.
"""

import contextlib
import importlib
import io
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainer.common import cli

MOST_SECONDS: Final = 10.0
"""CPU time, that of a refusal or of a command whose work is small"""
OURS: Final = ("trainer", "search", "ensemble")


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    command: str
    status: int | None
    """None for an exception that it did not catch"""
    stdout: str
    stderr: str
    seconds: float
    """CPU time"""
    where: str = ""
    """Of the exception: its type and the place in our code that it came from"""


@dataclass(frozen=True)
class Verdict:
    """What became of an input."""

    outcome: str
    """accepted, refused or skipped; else the rule that was broken: see BROKEN"""
    words: str = ""
    """What was seen"""
    kind: str = ""
    """Tells failures of one cause from others"""

    @property
    def is_failure(self) -> bool:
        return self.outcome in BROKEN


BROKEN: Final = ("traceback", "hang", "crash", "wrong success", "bad message", "other status")


def run(module: str, *arguments: object) -> Ran:
    """Run the command that ``python -m module`` runs, in the working folder."""
    words = [str(argument) for argument in arguments]
    began = time.process_time()
    where, status = "", None
    out = io.StringIO()
    with _stderr() as errors, contextlib.redirect_stdout(out), _argv(module, words):
        try:
            cli.run(importlib.import_module(module).main)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Exception as error:
            where = _origin(error)
            traceback.print_exc()
    seconds = time.process_time() - began
    shown = " ".join(word if len(word) < 60 else f"{word[:40]}..." for word in [module, *words])
    return Ran(shown, status, out.getvalue(), errors(), seconds, where)


@contextlib.contextmanager
def _argv(module: str, words: list[str]) -> Iterator[None]:
    before = sys.argv
    sys.argv = [module, *words]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _stderr() -> Iterator[Callable[[], str]]:
    """All that is written to standard error meanwhile, by native libraries too."""
    text = ""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: text
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text = file.read().decode(errors="replace")


def _origin(error: BaseException) -> str:
    """The exception's type and the last line of ours that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame.filename)]
    frame = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).stem}.{frame.name}"


def _is_ours(filename: str) -> bool:
    root = Path(__file__).parents[2]
    return any(Path(filename).is_relative_to(root / package) for package in OURS)


def judge(
    ran: Ran, right: Callable[[], str], *, names: Collection[str], files: Collection[str], most: float = MOST_SECONDS
) -> Verdict:
    """Hold what a command did against the rule.

    ``right`` says what is wrong with its result, or nothing. ``names`` are what a refusal may call the fault by: the
    changed files, and folders that hold one. ``files`` are all files that it could blame.
    """
    last = ran.stderr.strip().splitlines()[-1:] or [""]
    if ran.status is None:
        return Verdict("traceback", f"{ran.command}: {ran.where}: {last[0][:300]}", f"traceback {ran.where}")
    if ran.status == 0:
        if ran.seconds > most:
            return Verdict("hang", f"{ran.command}: took {ran.seconds:.0f} s of CPU time", "slow")
        complaint = right()
        if complaint:
            return Verdict("wrong success", f"{ran.command}: {complaint}", f"wrong success {_shape(complaint)}")
        return Verdict("accepted")
    if ran.status != 2:
        return Verdict("other status", f"{ran.command}: exit {ran.status}: {last[0][:300]}", f"status {ran.status}")
    if ran.seconds > MOST_SECONDS:
        return Verdict("hang", f"{ran.command}: refused after {ran.seconds:.0f} s of CPU time", "slow refusal")
    complaint = fault_of(ran.stderr, names, files)
    if complaint:
        return Verdict("bad message", f"{ran.command}: {complaint}", f"message {_shape(complaint)}")
    return Verdict("refused")


def fault_of(stderr: str, names: Collection[str], files: Collection[str]) -> str:
    """What is wrong with a refusal, or nothing."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("  ")]  # a list may follow
    shown = " | ".join(line[:300] for line in lines[:3])
    if len(lines) != 1:
        return f"{len(lines)} lines, not one: {shown}"
    line = " ".join(stderr.split())
    if not line.startswith("error: "):
        return f"is no error message: {shown}"
    if len(line) > 2000:
        return f"a line of {len(line):,} characters: {shown}"
    named = [name for name in names if name in line]
    if not named:
        return f"names none of {', '.join(sorted(names))}: {shown}"
    blamed = [file for file in files if file in line]
    if blamed and not any(name in files for name in named):
        return f"blames {', '.join(blamed)} in place of {', '.join(sorted(set(names) & set(files)))}: {shown}"
    return ""


def _shape(text: str) -> str:
    """A complaint without the numbers and names that differ between inputs of one cause."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"|/\S+|\d[\d.,e+-]*", "_", text)
    return text[:120]


def worst(verdicts: list[Verdict]) -> Verdict:
    """Of the commands that one input went through: the first failure, else a refusal, else acceptance."""
    for verdict in verdicts:
        if verdict.is_failure:
            return verdict
    return next((verdict for verdict in verdicts if verdict.outcome == "refused"), verdicts[0])
