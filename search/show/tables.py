"""The table of trials on a terminal, or wherever output goes."""

import io
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import pyarrow.csv
from optuna.trial import TrialState
from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from search.record.trials import Row, param_names, to_table
from search.show.progress import STATE_STYLES
from search.show.repeated import CAPTION, Configuration, configurations
from trainer.common.console import for_tables
from trainer.common.errors import UserError
from trainer.common.fields import printable, suggestion

STATES: Final = {"RUNNING": "running", "WAITING": "queued"}
"""How tables call Optuna's states of trials that have not ended"""
COLUMNS: Final = {
    **{name: name for name in ("study", "number", "state", "reason", "origin", "val_accuracy", "val_log_loss")},
    **{
        name: name
        for name in ("num_parameters", "bytes", "latency", "on_front", "epochs", "seconds", "by_hand", "note")
    },
    **{"trial": "number", "from": "origin", "accuracy": "val_accuracy", "log_loss": "val_log_loss"},
    **{"weights": "num_parameters", "MB": "bytes", "ms": "latency"},
}
"""Fields of a row by what the user may call them: as trials.parquet does, or as the table is headed"""
_LARGEST_FIRST: Final = ("val_accuracy", "on_front", "epochs", "by_hand")


def ordered(rows: Sequence[Row], column: str, reverse: bool = False) -> list[Row]:
    """The rows by a column or searched parameter: the most accurate or longest trained first, else the smallest first.

    Rows of the same value stay as they were; those without one come last. Raises UserError for no such column.
    """
    params = param_names(list(rows))
    column = column.replace(" ", "_")  # as heads are broken
    if column not in params and column not in COLUMNS:
        known = [*params, *{field: name for name, field in COLUMNS.items()}.values()]  # each once, as it is headed
        near = suggestion(column, [*params, *COLUMNS])
        raise UserError(f"there is no column {printable(column)}{near}; there are {', '.join(known)}", field="sort")

    def value(row: Row) -> Any:
        return row.params.get(column) if column in params else getattr(row, COLUMNS[column])

    known_rows = [row for row in rows if value(row) is not None]
    if rows and not known_rows:
        raise UserError(f"{column} is not known of any trial; sort by another column", field="sort")
    largest_first = (column not in params and COLUMNS[column] in _LARGEST_FIRST) != reverse
    known_rows.sort(key=lambda row: (isinstance(value(row), str), value(row)), reverse=largest_first)
    return known_rows + [row for row in rows if value(row) is None]


class _Column(NamedTuple):
    head: str
    """Broken at underscores"""
    cells: list[Text]
    """One a trial"""
    is_text: bool

    @property
    def width(self) -> int:
        """Columns of the terminal, with the space behind it."""
        widest_head = max(map(cell_len, self.head.split("\n")))
        return max([widest_head, *(item.cell_len for item in self.cells)]) + 1


def render(rows: list[Row], heading: str, console: Console, of: Sequence[Row] | None = None) -> Group:
    """The table as it fits the console, and below it means of repeated configurations, reasons of failures, and notes.

    The rows are all, or some ``of`` these, over which means are taken.
    A table that is too wide is broken into several, one below the other, each with the numbers of the trials.
    """
    groups = _broken(_columns(rows), 1 + any(row.study for row in rows), console.width)
    tables: list[Table | Text] = [Text(heading, "table.title"), _table(groups[0])]
    for columns in groups[1:]:
        tables += [Text(), _table(columns)]
    if together := configurations(rows if of is None else of):
        tables += [Text(), Text(CAPTION, "table.caption")]
        for columns in _broken(_configuration_columns(together), 1 + any(row.study for row in rows), console.width):
            tables += [_table(columns), Text()]
    failed = [row for row in rows if row.state == TrialState.FAIL.name and row.reason]
    failures = [Text(printable(f"trial {named(row)} failed: {row.reason}")) for row in failed]
    notes = [Text(printable(f"trial {named(row)}: {row.note}")) for row in rows if row.note]
    legend = [Text("* on the Pareto front: no trial is as good in both and better in one")]
    return Group(*tables, *(legend if any(row.on_front for row in rows) else ()), *failures, *notes)


def _columns(rows: list[Row]) -> list[_Column]:
    """All columns: those that tell trials apart, states, searched parameters, what trials came to."""
    found = [
        _column("trial", [f"{row.number}{'*' if row.on_front else ''}" for row in rows]),
        _Column("state", [_state(row) for row in rows], True),
        *(_column(name.replace("_", "\n"), [cell(row.params.get(name)) for row in rows]) for name in param_names(rows)),
        _column("accuracy", [cell(row.val_accuracy, ".4f") for row in rows]),
        _column("log\nloss", [cell(row.val_log_loss, ".4f") for row in rows]),
        _column("million\nweights", [cell(row.num_parameters and row.num_parameters / 1e6, ".2f") for row in rows]),
        _column("MB", [cell(row.bytes and row.bytes / 1e6, ".1f") for row in rows]),
        _column("epochs", [str(row.epochs) for row in rows]),
        _column("seconds", [cell(row.seconds, ".0f") for row in rows]),
    ]
    if any(row.latency is not None for row in rows):
        found.insert(-2, _column("about\nms", [cell(row.latency, ".2f") for row in rows]))
    if any(row.origin is not None or row.by_hand for row in rows):
        origins = [printable(row.origin or ("yours" if row.by_hand else "")) for row in rows]
        found.insert(2, _column("from", origins, is_text=True))
    if any(row.study for row in rows):
        found.insert(0, _column("study", [printable(row.study or "") for row in rows], is_text=True))
    return found


def of_configurations(found: list[Configuration]) -> dict[str, list[str]]:
    """What trials came to, of each configuration that several of them have: cells by the head of their column."""
    names = dict.fromkeys(name for its in found for name in its.params)
    return {
        "trials": [", ".join(map(str, its.trials)) for its in found],
        **{name: [cell(its.params.get(name)) for its in found] for name in names},
        "mean accuracy": [cell(its.val_accuracy, ".4f") for its in found],
        "lowest": [cell(its.lowest, ".4f") for its in found],
        "highest": [cell(its.highest, ".4f") for its in found],
        "mean log loss": [cell(its.val_log_loss, ".4f") for its in found],
    }


def _configuration_columns(found: list[Configuration]) -> list[_Column]:
    columns = [
        _column(head.replace("_", "\n").replace("mean ", "mean\n"), cells)
        for head, cells in of_configurations(found).items()
    ]
    if any(its.study for its in found):
        columns.insert(0, _column("study", [printable(its.study or "") for its in found], is_text=True))
    return columns


def _column(head: str, cells: Iterable[str], is_text: bool = False) -> _Column:
    return _Column(head, list(map(Text, cells)), is_text)


def _state(row: Row) -> Text:
    return Text(STATES.get(row.state, row.state), STATE_STYLES.get(row.state, "dim"))


def _broken(columns: list[_Column], num_keys: int, width: int) -> list[list[_Column]]:
    """The columns in groups that fit a width, each after the first ``num_keys`` of them."""
    keys = columns[:num_keys]
    groups: list[list[_Column]] = [[]]
    for column in columns[num_keys:]:
        if groups[-1] and sum(item.width for item in (*keys, *groups[-1], column)) - 1 > width:
            groups.append([])
        groups[-1].append(column)
    return [[*keys, *group] for group in groups]


def _table(columns: list[_Column]) -> Table:
    """All trials stand in one row of Rich's, line by line: a row takes it 2 ms."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.head, justify="left" if column.is_text else "right", overflow="fold")
    if columns[0].cells:
        table.add_row(*(Text("\n").join(column.cells) for column in columns))
    return table


def named(row: Row) -> str:
    """A trial as the user knows it: 7, or where there are several studies asl/7."""
    return str(row.number) if row.study is None else f"{row.study}/{row.number}"


def cell(value: Any, form: str = "") -> str:
    """A value as tables show it; nothing for None."""
    if value is None:
        return ""
    return format(value, form or (".3g" if isinstance(value, float) else ""))


ON_THE_TRAINED: Final = "These accuracies are of people that the trials were trained on."


def title(study: str, rows: Collection[Row]) -> str:
    """Which study it is, and how many trials are its own."""
    others = sum(row.origin is not None for row in rows)
    return f"{study}: {len(rows) - others} trials" + (f", and {others} of other studies" if others else "")


def to_csv(rows: list[Row]) -> str:
    """The columns of trials.parquet as CSV, with a line of their names."""
    written = io.BytesIO()
    pyarrow.csv.write_csv(to_table(rows), written)
    return written.getvalue().decode()


def to_json(rows: list[Row]) -> str:
    """The columns of trials.parquet as a JSON list, a trial an object; null for what is not a finite number."""
    objects = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in to_table(rows).to_pylist()
    ]
    return json.dumps(objects, indent=2) + "\n"


def show(rows: list[Row], heading: str, of: Sequence[Row] | None = None) -> None:
    """Print the table; where there is no terminal, as wide as it takes. The rows are all, or some ``of`` these."""
    console = for_tables()
    console.print(render(rows, heading, console, of))
