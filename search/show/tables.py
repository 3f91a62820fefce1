"""The table of a study's trials on a terminal, or wherever output goes."""

from collections.abc import Iterable
from typing import Any, Final

from optuna.trial import TrialState
from rich.console import Console, Group
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from search.record.trials import Row, param_names
from search.show.progress import STATE_STYLES, describe
from trainer.common.console import PIPE_WIDTH, for_tables
from trainer.common.fields import printable


def render(rows: list[Row], heading: str, console: Console) -> Group:
    """The table as it fits the console, and the reasons of failures below it.

    Searched parameters have a column each, or where that is too wide share one, on several lines.
    """
    table = _table(rows, heading, param_names(rows))
    if Measurement.get(console, console.options.update(width=PIPE_WIDTH), table).maximum > console.width:
        table = _table(rows, heading, None)
    failed = [row for row in rows if row.state == TrialState.FAIL.name and row.reason]
    failures = [Text(printable(f"trial {row.number} failed: {row.reason}")) for row in failed]
    legend = [Text("* on the Pareto front: no trial is as good in both and better in one")]
    return Group(table, *(legend if any(row.on_front for row in rows) else ()), *failures)


def _table(rows: list[Row], heading: str, param_names: list[str] | None) -> Table:
    """With a column for each of the named parameters, or one for all of them.

    With a column for each, all trials stand in one row of Rich's, line by line: a row takes it 2 ms.
    """
    table = Table(title=escape(heading), title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    names = ["parameters"] if param_names is None else param_names
    has_latency = any(row.latency is not None for row in rows)
    has_origin = any(row.origin is not None for row in rows)
    costs = ("million\nweights", "MB", *(["about\nms"] if has_latency else []))
    origin = ["from"] if has_origin else []
    for name in ("trial", "state", *origin, *names, "accuracy", "log_loss", *costs, "epochs", "seconds"):
        is_text = name in ("state", "parameters", "from")
        table.add_column(name.replace("_", "\n"), justify="left" if is_text else "right", no_wrap=name != "parameters")
    lines = []
    for row in rows:
        params = [describe(row.params)] if param_names is None else [cell(row.params.get(name)) for name in names]
        cells = (
            f"{row.number}{'*' if row.on_front else ''}",
            (row.state, STATE_STYLES.get(row.state, "dim")),
            *([printable(row.origin or "")] if has_origin else []),
            *params,
            *(cell(row.val_accuracy, ".4f"), cell(row.val_log_loss, ".4f")),
            *(
                cell(row.num_parameters and row.num_parameters / 1e6, ".2f"),
                cell(row.bytes and row.bytes / 1e6, ".1f"),
            ),
            *([cell(row.latency, ".2f")] if has_latency else []),
            *(str(row.epochs), cell(row.seconds, ".0f")),
        )
        lines.append([Text(item) if isinstance(item, str) else Text(*item) for item in cells])
    if lines and param_names is not None:
        lines = [[_below(column) for column in zip(*lines, strict=True)]]
    for line in lines:
        table.add_row(*line)
    return table


def _below(cells: Iterable[Text]) -> Text:
    """One cell of several lines."""
    return Text("\n").join(cells)


def cell(value: Any, form: str = "") -> str:
    """A value as tables show it; nothing for None."""
    if value is None:
        return ""
    return format(value, form or (".3g" if isinstance(value, float) else ""))


ON_THE_TRAINED: Final = "These accuracies are of people that the trials were trained on."


def title(study: str, rows: list[Row]) -> str:
    """Which study it is, and how many trials are its own."""
    others = sum(row.origin is not None for row in rows)
    return f"{study}: {len(rows) - others} trials" + (f", and {others} of other studies" if others else "")


def show(rows: list[Row], heading: str) -> None:
    """Print the table; where there is no terminal, as wide as it takes."""
    console = for_tables()
    console.print(render(rows, heading, console))
