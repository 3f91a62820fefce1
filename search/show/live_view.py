"""The live view of a search, drawn anew several times a second: a standing in, lines that fit the terminal out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from search.show.live_trial import LiveTrial
from search.show.sparkline import sparkline

NARROW: Final = 60  # columns, without curves
WIDE: Final = 120
CURVES: Final = (20, 10)  # characters of a curve, wide and otherwise
MARGIN: Final = 3  # columns left free, where a terminal shows ^C
WAITING_LINES: Final = 2
LESS: Final = ((True, True), (False, True), (False, False))
"""What is shown of parameters, of the best trials and of running ones: less where there are too few lines"""


def shown(value: Any) -> str:
    """A parameter's value."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def named(params: dict[str, Any]) -> list[str]:
    """Parameters with their values."""
    return [f"{name} {shown(value)}" for name, value in params.items()]


def fold(parts: Sequence[str], width: int) -> list[str]:
    """Lines of parts with commas between; a part that is too long for one line is broken between its words."""
    lines: list[str] = []
    for index, part in enumerate(parts):
        whole = part if index == len(parts) - 1 else f"{part},"
        for word in [whole] if len(whole) <= width else whole.split(" "):
            if lines and len(lines[-1]) + 1 + len(word) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    return lines


@dataclass(frozen=True)
class Standing:
    """Where a search stands."""

    now: float
    head: list[str]
    counts: str
    """How many trials ended in which way, in rich's markup"""
    num_ended: int
    num_trials: int
    best: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """In words, and parameters"""
    running: list[LiveTrial] = field(default_factory=list)
    waiting: list[LiveTrial] = field(default_factory=list)


def draw(standing: Standing, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
    """Lines of segments, fewer than the terminal has, and narrower."""
    options = options.update(max_width=max(options.max_width - MARGIN, 1), height=None)
    height = console.height - 1
    lines: list[list[Segment]] = []
    for best_params, running_params in LESS:
        above = [*_above(standing, options), *_best(standing, options, best_params), *_waiting(standing, options)]
        top = console.render_lines(Group(*above), options, pad=False)
        running = standing.running
        lines = top + _rows(running, standing.now, console, options, with_params=running_params)
        if len(lines) <= height:
            return lines
    most = max(height - len(top) - 2, 1)  # below the header, with a last line that says how many more there are
    more = Text(f"and {len(standing.running) - most} more", style="dim")
    rows = _rows(running[:most], standing.now, console, options, with_params=False)
    return [*top, *rows, *console.render_lines(more, options, pad=False)][:height]


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _above(standing: Standing, options: ConsoleOptions) -> list[RenderableType]:
    head = list(map(_line, fold(standing.head, options.max_width)))
    bar = ProgressBar(total=standing.num_trials, completed=standing.num_ended, width=min(20, options.max_width))
    grid = Table.grid(padding=(0, 1))
    for row in ((bar,), (standing.counts,)) if options.max_width < NARROW else ((bar, standing.counts),):
        grid.add_row(*row)
    return [*head, grid]


def _best(standing: Standing, options: ConsoleOptions, with_params: bool) -> list[RenderableType]:
    """A line each, with the parameters behind it or, where that is too long, below it."""
    lines: list[RenderableType] = []
    for words, params in standing.best:
        one_line = f"{words}: {', '.join(named(params))}"
        if not with_params or not params:
            lines += map(_line, fold([words], options.max_width))
        elif len(one_line) <= options.max_width:
            lines.append(_line(one_line))
        else:
            lines += map(_line, fold([f"{words}:"], options.max_width))
            lines += [_line(f"  {line}") for line in fold(named(params), options.max_width - 2)]
    return lines


def _waiting(standing: Standing, options: ConsoleOptions) -> list[RenderableType]:
    """Those that wait, best first, and for what: what other trials come to at the same epoch."""
    by_epoch: defaultdict[int, list[LiveTrial]] = defaultdict(list)
    for trial in standing.waiting:
        by_epoch[trial.epoch].append(trial)
    lines: list[RenderableType] = []
    for epoch, trials in sorted(by_epoch.items()):
        trials.sort(key=lambda trial: (-(trial.val_accuracy or 0.0), trial.number))
        who = f"{len(trials)} trials wait" if len(trials) > 1 else "1 trial waits"
        parts = [f"trial {trial.number} ({trial.val_accuracy or 0:.4f})" for trial in trials]
        parts[0] = f"{who} for other trials' results at epoch {epoch}: {parts[0]}"
        folded = fold(parts, options.max_width)
        if len(folded) > WAITING_LINES:
            folded = [*folded[: WAITING_LINES - 1], f"{folded[WAITING_LINES - 1].rstrip(',')} ..."]
        lines += [_line(line, style="dim") for line in folded]
    return lines


def _rows(
    running: Sequence[LiveTrial], now: float, console: Console, options: ConsoleOptions, *, with_params: bool
) -> list[list[Segment]]:
    """A column for each parameter; where that is too wide one for all, on several lines, or none."""
    if not running:
        return []
    width = options.max_width
    curve = min(CURVES[width < WIDE], max(trial.epochs for trial in running))
    if width < NARROW or options.ascii_only:
        curve = 0
    names = list(dict.fromkeys(name for trial in running for name in trial.params)) if with_params else []

    def width_of(table: Table) -> int:
        return Measurement.get(console, options.update(max_width=10 * width), table).maximum

    table = _table(running, now, curve, names, 0)
    if width_of(table) > width:
        table = _table(running, now, curve, [], 0)
        left = width - width_of(table) - 2
        if left > max(map(len, names), default=0):
            table = _table(running, now, curve, names, left)
    return console.render_lines(table, options, pad=False)


def _table(running: Sequence[LiveTrial], now: float, curve: int, names: list[str], folded: int) -> Table:
    """With a column for each of the named parameters, or one of so many columns where ``folded`` is not 0.

    All trials stand in one row of Rich's, line by line: a row takes it 2 ms.
    """
    own = ["trial", "epoch", "accuracy", *(["curve"] if curve else [])]
    columns: dict[str, list[str]] = {name: [] for name in [*own, *(["parameters"] if folded and names else names)]}
    values = [value for trial in running for value in list(trial.curve.values())]
    low, high, most = min(values, default=0.0), max(values, default=0.0), max(trial.epochs for trial in running)
    for trial in running:
        accuracy, done = trial.val_accuracy, trial.fraction(now)
        cells = {
            "trial": str(trial.number),
            "epoch": f"{trial.epoch}/{trial.epochs}" + ("" if done is None else f" +{int(100 * done)}%"),
            "accuracy": "" if accuracy is None else f"{accuracy:.4f}",
        }
        if curve:
            cells["curve"] = sparkline([trial.curve[epoch] for epoch in sorted(trial.curve)], curve, low, high)
        lines = fold(named(trial.params), folded) if folded and names else [""]
        for name, column in columns.items():
            if name == "parameters":
                column.extend(lines)
            else:
                value = cells[name] if name in cells else shown(trial.params.get(name, ""))
                column.extend([value, *[""] * (len(lines) - 1)])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in columns:
        width = {"epoch": 2 * len(str(most)) + 6, "accuracy": 8, "curve": curve}.get(name, 0)
        is_text = name in ("curve", "parameters")
        table.add_column(name.replace("_", "\n"), justify="left" if is_text else "right", min_width=width, no_wrap=True)
    table.add_row(*(Text("\n".join(column)) for column in columns.values()))
    return table
