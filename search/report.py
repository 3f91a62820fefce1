"""Write a study as one HTML page that needs no network, also while the search runs.

python -m search.report results/STUDY
"""

from dataclasses import dataclass
from pathlib import Path

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.fields import option


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write a study as one HTML file that needs no network, also while the search runs.

    It shows learning curves, the history of the search, which parameters mattered, accuracy against cost, the ensemble
    where one was selected, and all trials, best first."""

    study: str = option(positional=True)
    """Folder of the study, such as results/STUDY, or its URI."""
    out: Path | None = option(None, metavar="FILE")
    """File to write; default: STUDY/report.html."""
    storage: str | None = option(None, metavar="URL")
    """Database of the study, needed only if its URL has a password."""


@command("search.report", ReportOptions, examples=["results/asl", "s3://bucket/results/asl --out asl.html"])
def main(options: ReportOptions) -> None:
    from search.show.report_page import Report, render
    from trainer.common.console import console
    from trainer.common.files import require_writable_file, write_bytes
    from trainer.studydir import REPORT, Folder, for_reports

    if options.out is not None:
        require_writable_file("out", options.out, REPORT)
    folder = Folder.open(options.study, for_reports)
    out = options.out or folder.path / REPORT
    report = Report.read(folder.path, options.storage, folder.is_at_work)
    require_writable_file("out", out, REPORT)
    content = render(report).encode()
    write_bytes(out, content)
    if options.out is None:
        folder.publish(REPORT)
    console.print(
        f"wrote {folder.show(out)} ({len(content) / 1e6:.1f} MB, {len(report.rows)} trials)",
        soft_wrap=True,
        markup=False,
    )


if __name__ == "__main__":
    cli.run(main)
