"""What commands print on: one console, tables as wide as they need, progress bars."""

import os
from collections.abc import Generator, Iterable
from time import monotonic
from typing import Final, TypeVar

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
PLAIN_SECONDS: Final = 10.0  # between progress lines when the output is not a terminal
PIPE_WIDTH: Final = 4000  # of tables there: nothing is cut or wrapped


class LastingConsole(Console):
    """A console whose reader, such as head, may leave: the command goes on with its work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # also for what is flushed at the end


console: Final[Console] = LastingConsole(highlight=False, emoji=False)


def for_tables() -> Console:
    """What to print tables on: where there is no terminal, as wide as they take."""
    return console if console.is_terminal else LastingConsole(width=PIPE_WIDTH, highlight=False, emoji=False)


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
