"""What a command says before it has anything to show: a spinner on a terminal, plain lines anywhere else."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.spinner import Spinner

from search.show.steady_live import SteadyLive
from trainer.common.console import console as usual

LOADING: Final = "loading torch, Ray and Optuna"


class Starting:
    """Says what is being waited for. Whatever prints anything itself stops it before."""

    def __init__(self, console: Console = usual) -> None:
        self._console = console
        self._live: SteadyLive | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()

    def say(self, text: str) -> None:
        """Say what is done now, in place of what was."""
        self.stop()
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True, markup=False)
            self._console.file.flush()
            return
        spinner = Spinner("line" if self._console.options.ascii_only else "dots", text)
        self._live = SteadyLive(spinner, self._console, refresh_per_second=8)
        self._live.start(refresh=True)

    def stop(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None
