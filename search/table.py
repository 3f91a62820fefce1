"""Print the trials of a study, best first, also while the search runs.

python -m search.table results/STUDY
"""

from dataclasses import dataclass

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.fields import option


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Print the trials of a study, best first, also while the search runs.

    Also writes STUDY/trials.parquet, one row a trial, where that can be written."""

    study: str = option(positional=True)
    """Folder of the study, such as results/STUDY, or its URI."""
    storage: str | None = option(None, metavar="URL")
    """Database of the study, needed only if its URL has a password."""


@command("search.table", TableOptions, examples=["results/asl", "s3://bucket/results/asl"])
def main(options: TableOptions) -> None:
    from search.record.request import Request
    from search.record.trials import read_rows, write_parquet
    from search.show.tables import ON_THE_TRAINED, show, title
    from trainer.common.console import console
    from trainer.studydir import TRIALS_PARQUET, Folder, StudyDir, for_tables

    folder = Folder.open(options.study, for_tables)
    rows = read_rows(folder.path, options.storage, folder.is_at_work)
    show(rows, title(folder.shown, rows))
    if (study := StudyDir(folder.path)).exists and Request.read(study).to_config().all_participants:
        console.print(ON_THE_TRAINED, soft_wrap=True)
    if folder.can_write(""):
        try:
            write_parquet(rows, folder.path)
        except OSError as error:
            words = f"warning: {folder.path / TRIALS_PARQUET}: cannot be written ({error.strerror or error})"
            console.print(words, soft_wrap=True, markup=False)
            return
        folder.publish(TRIALS_PARQUET)


if __name__ == "__main__":
    cli.run(main)
