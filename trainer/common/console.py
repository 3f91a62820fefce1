"""What commands print on: one console, tables as wide as they need, progress bars."""

import contextlib
import os
import shlex
from collections.abc import Generator, Iterable, Iterator
from datetime import timedelta
from time import monotonic
from typing import Final, TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from trainer.common.program import as_called

Item = TypeVar("Item")
PLAIN_SECONDS: Final = 10.0  # between progress lines when the output is not a terminal
SETTLED: Final = 3.0  # seconds that items come for before a rate is told of them
PIPE_WIDTH: Final = 4000  # of tables there: nothing is cut or wrapped


class LastingConsole(Console):
    """A console whose reader, such as head, may leave: the command goes on with its work."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())  # also for what is flushed at the end


console: Final[Console] = LastingConsole(highlight=False, emoji=False)


def prose(text: str, style: str = "") -> None:
    """Print a sentence: a terminal breaks it between words, anywhere else it stays one line."""
    console.print(Text(text, style), soft_wrap=not console.is_terminal)


def print_line(text: str, to: Console = console) -> None:
    """A text whose lines are not wrapped, so that commands in it can be copied; they are called as this one was."""
    to.print(as_called(text), soft_wrap=True, markup=False)


def print_next(*words: str) -> None:
    """The command to run next, of these words."""
    print_line(f"next: {shlex.join(words)}")


def for_tables() -> Console:
    """What to print tables on: where there is no terminal, as wide as they take."""
    if console.is_terminal:
        return console
    return LastingConsole(width=PIPE_WIDTH, stderr=console.stderr, highlight=False, emoji=False)


def left_table(title: str) -> Table:
    """A table without columns yet, as narrow as it can be, with its title at the left."""
    return Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )


@contextlib.contextmanager
def on_stderr() -> Iterator[None]:
    """Print on stderr whatever commands print, for one whose stdout is for another program."""
    before, console.stderr = console.stderr, True
    try:
        yield
    finally:
        console.stderr = before


class Pace:
    """How fast items come, once enough have: what passes before the first one, such as the start of worker processes,
    says nothing of the others."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._began = self._first = self._last = monotonic()
        self._count = 0

    def step(self) -> None:
        """One more is done."""
        self._last = monotonic()
        self._first = self._first if self._count else self._last
        self._count += 1

    @property
    def rate(self) -> float | None:
        """Items a second; None until they came for SETTLED seconds or are all done."""
        if self._count == self._total:
            return self._count / max(self._last - self._began, 1e-9)
        since = self._last - self._first
        return (self._count - 1) / since if since >= SETTLED else None

    @property
    def left(self) -> timedelta | None:
        """The time that the others will take; None where there is no rate, or none are left."""
        if self.rate is None or self._count == self._total:
            return None
        seconds = (self._total - self._count) / self.rate - (monotonic() - self._last)
        return timedelta(seconds=max(0, round(seconds)))

    def __str__(self) -> str:
        rate, left = self.rate, self.left
        if rate is None:
            return ""
        return (f"{rate:,.1f}/s" if rate >= 1 else f"{rate:.2g}/s") + ("" if left is None else f", {left} left")


class _PaceColumn(ProgressColumn):
    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        super().__init__()

    def render(self, task: Task) -> Text:  # noqa: ARG002  # there is one task
        return Text(str(self._pace), style="cyan")


def track(items: Iterable[Item], total: int, what: str) -> Generator[Item, None, None]:
    """Yield ``items``, showing progress, rate and time left: a bar on a terminal, else a line now and then."""
    pace = Pace(total)
    if not console.is_terminal:
        yield from _track_plainly(items, total, what, pace)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _PaceColumn(pace))
    with Progress(*columns, console=console) as progress:
        for item in progress.track(items, total=total):
            yield item
            pace.step()


def _track_plainly(items: Iterable[Item], total: int, what: str, pace: Pace) -> Generator[Item, None, None]:
    last = monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        pace.step()
        now = monotonic()
        if now - last >= PLAIN_SECONDS or count == total:
            console.print(", ".join(filter(None, (f"{what}: {count:,}/{total:,}", str(pace)))))
            last = now
