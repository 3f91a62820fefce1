"""Write studies as one HTML page that needs no network, also while their searches run.

python -m search.report results/STUDY
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import option, positive

if TYPE_CHECKING:
    from search.show.report_page import Report
    from trainer.studydir import Folder


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers of trials, separated by commas. Raises ValueError.

    >>> _numbers("7,12")
    (7, 12)
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise ValueError("give numbers of trials, such as 7,12")
    return tuple(dict.fromkeys(map(int, words)))


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a study as one HTML file that needs no network, also while the search runs.

    It shows learning curves, the history of the search, which parameters mattered, accuracy against cost, the ensemble
    where one was selected, what the models get wrong, and all trials, best first. Several studies are compared at the
    beginning of their page."""

    studies: tuple[str, ...] = option((), positional=True, metavar="STUDY")
    """Folders of studies, such as results/STUDY, or their URIs."""
    out: Path | None = option(None, metavar="FILE")
    """File to write; default: STUDY/report.html. Needed for several studies."""
    ignore: Any = option((), parse=_numbers, metavar="TRIALS")
    """Trials to keep out of the page, such as 7,12."""
    watch: int | None = option(None, parse=positive, alone="30", metavar="SECONDS")
    """Write the page again every so many seconds (30 without a value) until the search ends; the browser follows."""
    storage: str | None = option(None, metavar="URL")
    """Database of the study, needed only if its URL has a password."""


@command(
    "search.report",
    ReportOptions,
    examples=["results/asl", "results/asl --watch", "results/asl s3://bucket/results/asl --out asl.html"],
)
def main(options: ReportOptions) -> None:
    _check(options)
    if options.watch is None:
        _write(options)
    else:
        _watch(options, options.watch)


def _check(options: ReportOptions) -> None:
    """Raises UserError for options that do not go together, or nowhere to write."""
    from trainer.common.files import require_writable_file
    from trainer.studydir import REPORT

    if len(options.studies) > 1:
        for name, given in (("ignore", options.ignore), ("storage", options.storage)):
            if given:
                raise UserError(f"goes with one study, not with {len(options.studies)}", field=name)
        if options.out is None:
            raise UserError(f"name the file to write, such as {REPORT}: there are several studies", field="out")
    if options.out is not None:
        require_writable_file("out", options.out, REPORT)


def _watch(options: ReportOptions, seconds: int) -> None:
    """Write the page again and again, until no search is at work or Ctrl-C is pressed."""
    from trainer.common.console import console

    try:
        while _write(options, seconds):
            time.sleep(seconds)
        console.print("no search is at work")
    except KeyboardInterrupt:
        _write(options)  # which a browser does not load again


def _write(options: ReportOptions, refresh: int | None = None) -> bool:
    """Write the page once, and tell where. Returns whether a search is at work on a study."""
    from search.show.report_page import render
    from trainer.common.console import console
    from trainer.common.files import require_writable_file, write_bytes
    from trainer.studydir import REPORT, Folder, for_reports

    folders = [Folder.open(study, for_reports) for study in options.studies]
    at_work = [folder.is_at_work for folder in folders]
    reports = [
        _read(folder, is_at_work, options.storage, options.ignore)
        for folder, is_at_work in zip(folders, at_work, strict=True)
    ]
    out = options.out or folders[0].path / REPORT
    require_writable_file("out", out, REPORT)
    content = render(*reports, refresh=refresh if any(at_work) else None).encode()
    write_bytes(out, content)
    if options.out is None:
        folders[0].publish(REPORT)
    trials = sum(len(report.rows) for report in reports)
    where = folders[0].show(out)
    console.print(f"wrote {where} ({len(content) / 1e6:.1f} MB, {trials} trials)", soft_wrap=True, markup=False)
    return any(at_work)


def _read(folder: "Folder", at_work: bool, storage: str | None, ignored: Collection[int]) -> "Report":
    from search.show.report_page import Report

    return Report.read(folder.path, storage, at_work, ignored=ignored, fetch=folder.fetch)


if __name__ == "__main__":
    cli.run(main)
