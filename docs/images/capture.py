"""A command's output, or its screen after a while, as an SVG picture.

    python docs/images/capture.py docs/images/trials.svg 110x30 "python -m search.table results/demo"
    python docs/images/capture.py search.svg 126x30 "python -m search.run --trials 16" --after 60

Runs it in tmux, a real terminal, and draws the screen with rich.
"""

import argparse
import io
import subprocess
import sys
import time
import uuid
from pathlib import Path

from rich.console import Console
from rich.text import Text


def screen_of(command: str, columns: int, rows: int, after: float) -> str:
    """The terminal's screen with its colours: when the command has ended, or after so many seconds."""
    name = f"capture-{uuid.uuid4().hex[:8]}"
    size = ["-x", str(columns), "-y", str(rows)]
    done = Path(f"/tmp/{name}")
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    path = f"PATH={Path(sys.executable).parent}:$PATH TERM=xterm-256color COLORTERM=truecolor"
    line = f"{path} sh -c 'clear; {command}; touch {done}; sleep 1000'"
    subprocess.run([*tmux, "new-session", "-d", *size, "-s", name, line], check=True)
    end = time.monotonic() + after
    while time.monotonic() < end and not done.exists():
        time.sleep(0.2)
    time.sleep(0.5)
    shown = subprocess.run([*tmux, "capture-pane", "-e", "-p", "-t", name], capture_output=True, text=True, check=True)
    subprocess.run([*tmux, "kill-server"], check=False)
    done.unlink(missing_ok=True)
    return shown.stdout.rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("size", help="columns x rows")
    parser.add_argument("command")
    parser.add_argument("--after", type=float, default=600, help="seconds")
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    text = screen_of(options.command, columns, rows, options.after)
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(text), soft_wrap=True)
    console.save_svg(str(options.picture), title=f"$ {options.command}")


if __name__ == "__main__":
    main()
