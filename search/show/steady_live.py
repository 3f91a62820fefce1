"""Rich's live display, without the lines that it leaves behind where the terminal becomes narrower."""

from collections import deque
from typing import Any, Final

from rich.console import Console, ConsoleRenderable
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType

NOTES: Final = 5


class SteadyLive(Live):
    """A transient live display that clears a terminal's screen when that has become narrower.

    The terminal then breaks lines in two, before or after it tells of its new width, so that nobody knows how many
    there are to erase. Most terminals let what is cleared be scrolled back to. The last lines printed above the
    display are printed again.
    """

    def __init__(self, renderable: Any, console: Console, refresh_per_second: float = 4.0) -> None:
        super().__init__(
            renderable,
            console=console,
            refresh_per_second=refresh_per_second,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._width = console.width
        self._notes: deque[ConsoleRenderable] = deque(maxlen=NOTES)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        width, before = self.console.width, self._width
        self._width = width
        self._notes.extend(item for item in renderables if not isinstance(item, Control))
        if width >= before or not self.console.is_interactive:
            return super().process_renderables(renderables)
        self._live_render._shape = None  # nothing is left to erase
        return [Control(ControlType.CLEAR, ControlType.HOME), *super().process_renderables([*self._notes])]
