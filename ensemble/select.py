"""Build the best ensemble that fits a budget, and write it as submission.zip.

python -m ensemble.select --budget 40MB,100ms --results results/STUDY
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensemble.budget import CONTEST, EXAMPLE, Budget
from ensemble.choices import METRICS, PRECISIONS, PREFERENCES
from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import option, positive, trial_names


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Build the best ensemble of a study's trials that fits a budget.

    Measures the file of every finished trial at every precision, selects members greedily with replacement, merges
    them into one .tflite file, compares that with PyTorch, tests it against the contest's rules, and measures accuracy
    on participants that the selection has not seen. Writes submission.zip, selection.json and frontier.parquet to
    STUDY/ensemble, or to the folder of --out."""

    budget: Budget | None = option(None, parse=Budget.parse, alone=CONTEST, metavar="BUDGET")
    """Limits of the file, any of parameters (K, M), size (KB, MB), mean latency of a sequence (ms) and members
    (models), such as 5.1M,40MB,100ms,3models. Without a value the contest's, 40MB,100ms (default: no limit)."""
    metric: str = option("blend", choices=METRICS)
    """Score that members are selected by: accuracy, log_loss, or a blend of both."""
    precision: tuple[str, ...] = option(PRECISIONS, choices=PRECISIONS)
    """Precisions the weights may be stored in; if several are given, the best for each member is taken."""
    exact: bool = option(False)
    """Also try every set of candidates, if at most 12 of them fit the budget."""
    prefer: str = option("cheapest", choices=PREFERENCES)
    """What ships of the ensembles that fit: the cheapest that is within one standard error, and half a point, of the
    best on unseen participants; or, for accuracy, what scores best within the whole budget, unless another is measured
    to be clearly better there."""
    results: tuple[str, ...] = option((), repeated=True, metavar="STUDY", group="input and output")
    """A study's folder or URI (s3://...). Give the option again to choose among the trials of several studies (default:
    the newest study in results/)."""
    out: Path | None = option(None, metavar="FOLDER", group="input and output")
    """Folder to write to, needed for several studies. Measurements of read-only studies are cached there too (default:
    STUDY/ensemble)."""
    ignore: Any = option((), parse=trial_names, metavar="TRIALS", group="input and output")
    """Trials that are no candidates, such as 7,12; where there are several studies, asl/7."""
    data: str | None = option(None, metavar="DATA", group="input and output")
    """Path or URI of the packed dataset, if it is no longer where the search had it."""
    ship: str | None = option(None, metavar="STUDY", group="input and output")
    """Study made by search.refit with --ship-of, whose weights go into the file in place of the selected
    ones. Accuracies remain those of the selected trials."""
    verbose: bool = option(False, group="input and output")
    """Also print how accuracies were measured, how well the file agrees with PyTorch, and why each trial was left
    out."""
    json: bool = option(False, group="input and output")
    """Print what was selected as one JSON object, and nothing else, on stdout; progress goes to stderr."""
    remeasure: bool = option(False, group="timing")
    """Time the candidates again, whatever the study has cached."""
    threads: int = option(1, parse=positive, group="timing")
    """Number of threads that LiteRT may use."""
    latency_scale: float = option(1.0, group="timing")
    """How many times longer the target machine takes than this one, such as 2.5."""


@command(
    "ensemble.select",
    SelectOptions,
    examples=["--budget", f"--results results/asl --budget {EXAMPLE} --precision float16 int8"],
)
def main(options: SelectOptions) -> None:
    from ensemble.ship import pipeline, summary
    from ensemble.ship.asked import Request, open_studies
    from ensemble.tflite.latency import Target
    from trainer.common.console import on_stderr

    try:
        request = Request(
            studies=options.results,
            budget=options.budget or Budget(),
            out=options.out,
            ignore=options.ignore,
            data=options.data,
            ship=options.ship,
            metric=options.metric,
            exact=options.exact,
            precisions=options.precision,
            prefer=options.prefer,
            remeasure=options.remeasure,
            target=Target(threads=options.threads, latency_scale=options.latency_scale),
        )
        with on_stderr() if options.json else contextlib.nullcontext():
            opened = open_studies(request)
            summary.print_opened(opened)
            outcome = pipeline.run(opened)
        if options.json:
            print(json.dumps(summary.to_json(outcome), indent=2))
        else:
            summary.print_outcome(outcome, verbose=options.verbose)
    except UserError as error:
        if error.field == "studies":
            error.field = "results"
        raise


if __name__ == "__main__":
    cli.run(main)
