"""The table of a study's trials, best first, printed again at any time, also while the search runs.

    python -m search.table results/STUDY

Also writes STUDY/trials.parquet, one row a trial.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from search.decide.warm_start import ORIGIN
from search.problem.objective import front
from search.problem.space import by_field
from search.record.request import STUDY_DB, find_study
from search.record.storage import load_trials, sqlite_url
from search.show.progress import STATE_STYLES, describe
from trainer.common import cli
from trainer.common.console import PIPE_WIDTH, for_tables
from trainer.common.errors import UserError
from trainer.common.files import atomic_path
from trainer.common.storage import Folder

TRIALS_PARQUET: Final = "trials.parquet"
_ORDER: Final = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


@dataclass(frozen=True)
class Row:
    """One trial."""

    number: int
    state: str
    reason: str | None
    params: dict[str, Any]
    val_accuracy: float | None
    val_log_loss: float | None
    num_parameters: int | None
    epochs: int
    seconds: float | None
    latency: float | None = None
    """Estimated milliseconds a sequence, where the search looks for it"""
    on_front: bool = False
    """Whether a search for two values found no trial that beats this one"""
    origin: str | None = None
    """The study and number that a trial of --warm-start has there"""

    @property
    def bytes(self) -> int | None:
        """Of the weights in float32."""
        return None if self.num_parameters is None else 4 * self.num_parameters


def read_trials(directory: Path, storage: str | None = None) -> list[FrozenTrial]:
    """Trials of a study, by number. ``storage`` is the URL of its database, needed only where that has a password.

    Raises UserError if there is no study in the directory, or it is broken.
    """
    url, name = find_study(directory, storage)
    if url == sqlite_url(directory / STUDY_DB) and not (directory / STUDY_DB).is_file():
        raise UserError(f"{directory}: holds no study (no {STUDY_DB}); make one with: python -m search.run")
    return load_trials(url, name)


def read_rows(directory: Path, storage: str | None = None) -> list[Row]:
    """Trials of a study as ``to_rows`` orders them. Raises UserError as ``read_trials`` does."""
    return to_rows(read_trials(directory, storage))


def to_rows(trials: list[FrozenTrial]) -> list[Row]:
    """The trials, best first: finished, stopped early, not ended, failed; each by accuracy, then by number."""
    best = front(trials)
    ordered = sorted(trials, key=lambda trial: (_ORDER.index(trial.state), -(_accuracy(trial) or 0), trial.number))
    return [
        Row(
            number=trial.number,
            state=trial.state.name,
            reason=trial.user_attrs.get("reason"),
            params=by_field(trial.params),
            val_accuracy=_accuracy(trial),
            val_log_loss=trial.user_attrs.get("val_log_loss"),
            num_parameters=trial.user_attrs.get("num_parameters"),
            epochs=trial.last_step or 0,
            seconds=trial.user_attrs.get("seconds"),
            latency=trial.user_attrs.get("latency"),
            on_front=trial.number in best,
            origin=trial.user_attrs.get(ORIGIN),
        )
        for trial in ordered
    ]


def _accuracy(trial: FrozenTrial) -> float | None:
    """At the end, or so far."""
    if trial.last_step is not None:
        return trial.intermediate_values[trial.last_step]
    return trial.values[0] if trial.values else None


def write_parquet(rows: list[Row], path: Path) -> None:
    """One row a trial, by number, each searched parameter in a column of its own."""
    rows = sorted(rows, key=lambda row: row.number)
    columns: dict[str, Any] = {
        "number": pa.array([row.number for row in rows], pa.int64()),
        "state": pa.array([row.state for row in rows], pa.string()),
        "reason": pa.array([row.reason for row in rows], pa.string()),
        "origin": pa.array([row.origin for row in rows], pa.string()),
        **{name: pa.array([row.params.get(name) for row in rows]) for name in param_names(rows)},
        "val_accuracy": pa.array([row.val_accuracy for row in rows], pa.float64()),
        "val_log_loss": pa.array([row.val_log_loss for row in rows], pa.float64()),
        "num_parameters": pa.array([row.num_parameters for row in rows], pa.int64()),
        "bytes": pa.array([row.bytes for row in rows], pa.int64()),
        "latency": pa.array([row.latency for row in rows], pa.float64()),
        "on_front": pa.array([row.on_front for row in rows], pa.bool_()),
        "epochs": pa.array([row.epochs for row in rows], pa.int64()),
        "seconds": pa.array([row.seconds for row in rows], pa.float64()),
    }
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def param_names(rows: list[Row]) -> list[str]:
    """Searched parameters, in the order in which trials have them."""
    return list(dict.fromkeys(name for row in rows for name in row.params))


def render(rows: list[Row], heading: str, console: Console) -> Group:
    """The table as it fits the console, and the reasons of failures below it.

    Searched parameters have a column each, or where that is too wide share one, on several lines.
    """
    table = _table(rows, heading, param_names(rows))
    if Measurement.get(console, console.options.update(width=PIPE_WIDTH), table).maximum > console.width:
        table = _table(rows, heading, None)
    failures = [Text(f"trial {row.number} failed: {row.reason}") for row in rows if row.reason]
    legend = [Text("* on the Pareto front: no trial is as good in both and better in one")]
    return Group(table, *(legend if any(row.on_front for row in rows) else ()), *failures)


def _table(rows: list[Row], heading: str, param_names: list[str] | None) -> Table:
    """With a column for each of the named parameters, or one for all of them."""
    table = Table(title=escape(heading), title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    names = ["parameters"] if param_names is None else param_names
    has_latency = any(row.latency is not None for row in rows)
    has_origin = any(row.origin is not None for row in rows)
    costs = ("million\nweights", "MB", *(["about\nms"] if has_latency else []))
    origin = ["from"] if has_origin else []
    for name in ("trial", "state", *origin, *names, "accuracy", "log_loss", *costs, "epochs", "seconds"):
        is_text = name in ("state", "parameters", "from")
        table.add_column(name.replace("_", "\n"), justify="left" if is_text else "right", no_wrap=name != "parameters")
    for row in rows:
        params = [describe(row.params)] if param_names is None else [cell(row.params.get(name)) for name in names]
        table.add_row(
            f"{row.number}{'*' if row.on_front else ''}",
            f"[{STATE_STYLES.get(row.state, 'dim')}]{row.state}[/]",
            *([escape(row.origin or "")] if has_origin else []),
            *params,
            *(cell(row.val_accuracy, ".4f"), cell(row.val_log_loss, ".4f")),
            *(
                cell(row.num_parameters and row.num_parameters / 1e6, ".2f"),
                cell(row.bytes and row.bytes / 1e6, ".1f"),
            ),
            *([cell(row.latency, ".2f")] if has_latency else []),
            *(str(row.epochs), cell(row.seconds, ".0f")),
        )
    return table


def cell(value: Any, form: str = "") -> str:
    """A value as tables show it; nothing for None."""
    if value is None:
        return ""
    return format(value, form or (".3g" if isinstance(value, float) else ""))


def title(study: str, rows: list[Row]) -> str:
    """Which study it is, and how many trials are its own."""
    others = sum(row.origin is not None for row in rows)
    return f"{study}: {len(rows) - others} trials" + (f", and {others} of other studies" if others else "")


def show(rows: list[Row], heading: str) -> None:
    """Print the table; where there is no terminal, as wide as it takes."""
    console = for_tables()
    console.print(render(rows, heading, console))


def main() -> None:
    parser = cli.Parser("search.table", description="Print the trials of a study, best first.")
    parser.add_argument("study", help="directory of the study, such as results/STUDY, or its URI")
    parser.add_argument("--storage", help="URL of the study's database, if that has a password")
    options = parser.parse_args()
    folder = Folder.open(options.study)
    rows = read_rows(folder.path, options.storage)
    show(rows, title(folder.shown, rows))
    if folder.can_write(""):
        write_parquet(rows, folder.path / TRIALS_PARQUET)
        folder.publish(TRIALS_PARQUET)


if __name__ == "__main__":
    cli.run(main)
