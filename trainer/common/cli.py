"""What every command shares: one console, errors without a traceback, progress bars, locked folders."""

import argparse
import contextlib
import fcntl
import math
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final, NoReturn, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Item = TypeVar("Item")
LOCK = ".lock"
PLAIN_SECONDS = 10.0  # between progress lines when the output is not a terminal
PIPE_WIDTH: Final = 4000  # of tables there: nothing is cut or wrapped

console = Console(highlight=False, emoji=False)
_AMOUNT: Final = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-z]+)")


class UserError(Exception):
    """Something the user can mend. The message names the file or option, the field, and what to do."""


class Parser(argparse.ArgumentParser):
    """Options whose errors end a command in one line, as all others do, without the usage before it.

    An argument such as -5MB is a value, not an option: no option begins with a digit.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._negative_number_matcher = re.compile(r"-\.?\d.*")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message.removeprefix('argument ')} ({self.prog} --help lists the options)")


def for_tables() -> Console:
    """What to print tables on: where there is no terminal, as wide as they take."""
    return console if console.is_terminal else Console(width=PIPE_WIDTH, highlight=False, emoji=False)


def require_writable(option: str, folder: Path) -> None:
    """Raises UserError naming the option if a folder cannot be written to, or made; leaves nothing there."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {folder}: {existing} cannot be written to ({error.strerror}); name another folder"
        ) from error


def run(main: Callable[[], None]) -> NoReturn:
    """Run a command: no traceback for what users can mend (exit status 2) or for an interrupt (130).

    That is a UserError, and what the system says of a file or disk that cannot be used.
    """
    try:
        main()
    except (UserError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        text = Text.assemble(("error:", "bold red"), f" {message}")
        Console(stderr=True, highlight=False, emoji=False).print(text, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        sys.exit(130)
    sys.exit(0)


def parse_amount(text: str, units: Mapping[str, float]) -> tuple[float, str]:
    """Read a number with a unit, such as "5.1M": the number times what ``units`` says of the unit, and the unit.

    Raises ValueError if it is none; small and capital letters are alike.
    """
    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None or match[2] not in units:
        raise ValueError(f"{text.strip()!r} is not a number with a unit ({', '.join(units)})")
    return round(float(match[1]) * units[match[2]], 6), match[2]  # 32.767M is 32767000, not 4e-9 more


def parse_limits(text: str, units: Mapping[str, tuple[str, float]], example: str) -> dict[str, float]:
    """Read a budget such as "5.1M,40MB": the limits by their names; ``units`` says what each limits, and times what.

    Raises ValueError, with the example, for what is no limit, one given twice, or none left.
    """
    factors = {unit: factor for unit, (_, factor) in units.items()}
    limits: dict[str, float] = {}
    for part in text.split(","):
        try:
            amount, unit = parse_amount(part, factors)
        except ValueError as error:
            raise ValueError(f"{error}; write for example {example}") from error
        name, _ = units[unit]
        if name in limits:
            raise ValueError(f"{text!r} limits {name} twice; write for example {example}")
        if amount == 0:
            raise ValueError(f"{part.strip()!r} leaves room for nothing; write for example {example}")
        limits[name] = amount
    return limits


def number(text: str) -> float:
    """Read a number; NaN if it is none, which is in no range that an option is held to."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive(text: str) -> int:
    """Read an option's whole number of at least 1. Raises ArgumentTypeError."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return value


def follow_parent() -> None:
    """Start a worker process of a pool: it leaves interrupts to its parent, and ends with it even if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextlib.contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """Keep a folder to this process, by its file LOCK. Raises UserError with the message ``busy`` if another has it.

    The lock goes with the process, however it ends; whether the file stays is up to the caller.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: {busy}") from error
        yield


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="dim")


def track(items: Iterable[Item], total: int, what: str) -> Generator[Item, None, None]:
    """Yield ``items``, showing progress, rate and time left: a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        yield from _track_plainly(items, total, what)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total)


def _track_plainly(items: Iterable[Item], total: int, what: str) -> Generator[Item, None, None]:
    began = last = monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = monotonic()
        if now - last >= PLAIN_SECONDS or count == total:
            rate = count / max(now - began, 1e-9)
            left = (total - count) / rate
            console.print(f"{what}: {count:,}/{total:,}, {rate:,.1f}/s, {left:,.0f} s left")
            last = now
