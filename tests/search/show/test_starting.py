"""What is said while there is nothing to show."""

import io

from rich.console import Console

from search.show.starting import Starting


def test_without_a_terminal_each_step_is_one_line() -> None:
    out = io.StringIO()
    with Starting(Console(file=out, width=20)) as starting:
        starting.say("loading torch, Ray and Optuna")
        starting.say("starting Ray")
    assert out.getvalue() == "loading torch, Ray and Optuna\nstarting Ray\n"


def test_a_terminal_is_left_as_it_was() -> None:
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=True, force_interactive=True, color_system=None)
    with Starting(console) as starting:
        starting.say("loading")
        assert "loading" in out.getvalue()
        starting.stop()
        console.print("in between")
        starting.say("starting Ray")
    shown = out.getvalue()
    assert shown.index("in between") < shown.index("starting Ray")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2  # the cursor, hidden and shown again
    assert shown.endswith("\x1b[1A\x1b[2K")  # the last line, erased
