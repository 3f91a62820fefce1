"""A terminal that became narrower breaks lines in two; none of them is left behind."""

import io

from rich.console import Console
from rich.text import Text

from search.show.steady_live import NOTES, SteadyLive

CLEAR = "\x1b[2J\x1b[H"
UP = "\x1b[1A"


class _Screen:
    """A live display of three lines on a terminal of 40 columns."""

    def __init__(self) -> None:
        self._out = io.StringIO()
        terminal = {"force_terminal": True, "force_interactive": True, "color_system": None}
        self.console = Console(file=self._out, width=40, height=20, **terminal)  # type: ignore[arg-type]
        self.live = SteadyLive(Text("first\nsecond\nthird"), self.console, refresh_per_second=0.001)
        self.live.start(refresh=True)
        self.written()

    def written(self) -> str:
        """Since the last time."""
        text = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return text

    def refreshed(self, width: int) -> str:
        self.console.width = width
        self.live.refresh()
        return self.written()


def test_a_narrower_terminal_is_cleared_once() -> None:
    screen = _Screen()
    narrower = screen.refreshed(30)
    assert narrower.startswith(CLEAR)
    assert UP not in narrower
    assert narrower.endswith("first\nsecond\nthird")
    again = screen.refreshed(30)
    assert CLEAR not in again
    assert again.count(UP) == 2  # from the last line to the first
    screen.live.stop()


def test_no_other_change_clears_it() -> None:
    screen = _Screen()
    assert CLEAR not in screen.refreshed(60)
    assert CLEAR not in screen.refreshed(60)
    screen.live.stop()
    assert CLEAR not in screen.written()


def test_the_last_lines_above_it_are_printed_again() -> None:
    screen = _Screen()
    for number in range(NOTES + 1):
        screen.console.print(f"note {number}")
    screen.written()
    lines = screen.refreshed(30).removeprefix(CLEAR).splitlines()
    assert lines == [*(f"note {number}" for number in range(1, NOTES + 1)), "first", "second", "third"]
    screen.live.stop()
