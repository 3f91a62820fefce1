"""Print the trials of studies, best first, also while their searches run.

python -m search.table results/STUDY
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import bare, option, positive, require_trials, shorten, trial_names

if TYPE_CHECKING:
    from search.record.trials import Row
    from trainer.studydir import Folder


def _note(text: str) -> tuple[str, str]:
    trial, equals, note = text.partition("=")
    names = trial_names(trial)
    if not equals or len(names) != 1:
        raise ValueError(f"must be a trial and what to note of it, such as 7=overfits, not {shorten(text)!r}")
    return names[0], note.strip()


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Print the trials of a study, or of several in one table, best first, also while the search runs.

    Also writes STUDY/trials.parquet, one row a trial, where that can be written."""

    study: tuple[str, ...] = option(positional=True)
    """Folders of studies, such as results/STUDY, or their URIs."""
    top: int | None = option(None, parse=positive)
    """Trials to print, from the first; default: all."""
    sort: str | None = option(None, metavar="COLUMN")
    """Column to sort by: a searched parameter, or a name of the table's or of trials.parquet's columns. The highest
    accuracy comes first, and the most epochs; else the smallest. Default: complete trials, then others, then failed
    ones, each by accuracy; those that repeat a configuration with another seed or fold by its mean."""
    reverse: bool = option(False)
    """Sort the other way round; trials without a value stay last."""
    ignore: Any = option((), parse=trial_names, metavar="TRIALS")
    """Trials to leave out, such as 7,12; where there are several studies, asl/7."""
    note: tuple[Any, ...] = option((), parse=_note, metavar="TRIAL=TEXT", repeated=True)
    """Note this of a trial, such as 7=overfits, or where there are several studies asl/7=overfits; tables and reports
    show it. No text removes it. Give the option again for more."""
    csv: bool = option(False, group="for other programs")
    """Print CSV with the columns of trials.parquet, and nothing else."""
    json: bool = option(False, group="for other programs")
    """Print a JSON list with an object per trial, and nothing else."""
    storage: str | None = option(None, metavar="URL")
    """Database of the study, needed only if its URL has a password."""

    def __post_init__(self) -> None:
        """Raises UserError with the option that does not go with another."""
        if self.csv and self.json:
            raise UserError("does not go with csv; choose one of them", field="json")
        if self.reverse and self.sort is None:
            raise UserError("name the column to sort by (sort)", field="reverse")
        if self.storage is not None and len(self.study) > 1:
            raise UserError("is that of one study; look at the others without it", field="storage")


@command(
    "search.table",
    TableOptions,
    examples=[
        "results/asl",
        "results/asl --top 10 --sort seconds",
        "results/asl results/asl-refit",
        "s3://bucket/results/asl --json",
    ],
)
def main(options: TableOptions) -> None:
    from search.record.request import Request
    from search.show import tables
    from search.show.repeated import ranked
    from trainer.common.console import console
    from trainer.studydir import Folder, StudyDir, for_tables

    is_for_programs = options.csv or options.json
    with contextlib.redirect_stdout(sys.stderr) if is_for_programs else contextlib.nullcontext():
        folders = [Folder.open(where, for_tables) for where in options.study]
        found = _read(folders, options.storage)
        if options.note:
            found = _noted(folders, found, dict(options.note))
        rows = ranked(_without([row for its in found for row in its], options.ignore))
        if options.sort is not None:
            rows = tables.ordered(rows, options.sort, options.reverse)
        shown = rows[: options.top]
        for folder, its in zip(folders, found, strict=True):
            _write(folder, its)
    if is_for_programs:
        print(tables.to_csv(shown) if options.csv else tables.to_json(shown), end="")
        return
    heading = "; ".join(tables.title(folder.shown, its) for folder, its in zip(folders, found, strict=True))
    without = f"; without {', '.join(map(bare, options.ignore))}" if options.ignore else ""
    heading += without + (f"; {len(shown)} of them below" if len(shown) < len(rows) else "")
    tables.show(shown, heading, rows)
    for folder in folders:
        if (study := StudyDir(folder.path)).exists and Request.read(study).to_config().all_participants:
            of = f"{folder.shown}: " if len(folders) > 1 else ""
            console.print(of + tables.ON_THE_TRAINED, soft_wrap=True, markup=False)


def _read(folders: "Sequence[Folder]", storage: str | None) -> "list[list[Row]]":
    """The trials of each study, with its name if there are several. Raises UserError."""
    import dataclasses

    from search.record.trials import read_rows
    from trainer.common.storage import base_name

    if len({folder.path.resolve() for folder in folders}) < len(folders):
        raise UserError("names a study twice", field="study")
    found = [read_rows(folder.path, storage, folder.is_at_work) for folder in folders]
    if len(folders) == 1:
        return found
    names = [base_name(str(folder.path.resolve()) if folder.remote is None else folder.shown) for folder in folders]
    if len(set(names)) < len(names):
        names = [folder.shown for folder in folders]
    return [[dataclasses.replace(row, study=name) for row in rows] for name, rows in zip(names, found, strict=True)]


def _without(rows: "Sequence[Row]", ignored: Sequence[str]) -> "list[Row]":
    """The rows but those of these names. Raises UserError if one is not there."""
    named = list(map(_name, rows))
    require_trials(ignored, named, "ignore")
    return [row for row, name in zip(rows, named, strict=True) if name not in ignored]


def _name(row: "Row") -> str:
    """As ``trial_names`` reads it."""
    return f"{row.number:04d}" if row.study is None else f"{row.study}/{row.number:04d}"


def _noted(folders: "Sequence[Folder]", found: "Sequence[list[Row]]", notes: Mapping[str, str]) -> "list[list[Row]]":
    """Write the notes, by names of trials, into their studies; the rows with them. Raises UserError."""
    import dataclasses

    from search.record.notes import write_notes
    from trainer.studydir import NOTES

    require_trials(list(notes), [_name(row) for its in found for row in its], "note")
    for folder, its in zip(folders, found, strict=True):
        new = {row.number: notes[_name(row)] for row in its if _name(row) in notes}
        if new and not folder.can_write(""):
            raise UserError(f"{folder.shown}: cannot be written, so nothing can be noted there", field="note")
        if new:
            write_notes(folder.path, new)
            folder.publish(NOTES)
    return [[dataclasses.replace(row, note=notes.get(_name(row), row.note) or None) for row in its] for its in found]


def _write(folder: "Folder", rows: "list[Row]") -> None:
    """Write a study's trials.parquet where that can be; says so if it cannot."""
    import dataclasses

    from search.record.trials import write_parquet
    from trainer.common.console import console
    from trainer.studydir import TRIALS_PARQUET

    if not folder.can_write(""):
        return
    try:
        write_parquet([dataclasses.replace(row, study=None) for row in rows], folder.path)
    except OSError as error:
        words = f"warning: {folder.path / TRIALS_PARQUET}: cannot be written ({error.strerror or error})"
        console.print(words, soft_wrap=True, markup=False)
        return
    folder.publish(TRIALS_PARQUET)


if __name__ == "__main__":
    cli.run(main)
