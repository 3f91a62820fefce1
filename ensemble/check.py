"""Test a submission against the contest's rules, and print one line per rule.

python -m ensemble.check results/STUDY/ensemble/submission.zip
"""

import math
from dataclasses import dataclass
from pathlib import Path

from trainer.common import cli
from trainer.common.cli import command
from trainer.common.errors import UserError
from trainer.common.fields import option, positive


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Test a submission.zip against the contest's rules, before it is uploaded.

    Runs the file on sequences of every length from 1 to 600 frames and on sequences with missing landmarks, weighs it,
    and times it over lengths like the contest's. Prints one line per rule and a verdict; the exit status is 2 if a rule
    is broken. The file may have been made by any program."""

    submission: Path = option(positional=True, metavar="SUBMISSION")
    """The submission.zip, or a .tflite file."""
    threads: int = option(1, parse=positive, group="timing")
    """Number of threads that LiteRT may use."""
    latency_scale: float = option(1.0, group="timing")
    """How many times longer the contest's machine takes than this one, such as 2.5."""


@command(
    "ensemble.check",
    CheckOptions,
    examples=["results/asl/ensemble/submission.zip", "submission.zip --latency-scale 2.5"],
)
def main(options: CheckOptions) -> None:
    from rich.markup import escape

    from ensemble.ship import contract
    from ensemble.tflite.latency import Target
    from ensemble.tflite.submission import Submission
    from trainer.common.console import console, for_tables, track

    target = Target(threads=options.threads, latency_scale=options.latency_scale)
    submission = Submission.open(options.submission)
    if doubt := submission.doubt():
        console.print(f"warning: {doubt}", soft_wrap=True, markup=False)
    labels = submission.label_names
    num_signs = contract.CONTEST_SIGNS if labels is None else len(labels)
    lengths = range(1, contract.LONGEST + 1)
    if (seconds := contract.expected_seconds(submission.content, lengths)) is not None:
        console.print(f"runs sequences of 1 to {len(lengths)} frames: about {math.ceil(seconds)} s", soft_wrap=True)
    checks = contract.check(options.submission, num_signs, track(lengths, len(lengths), "running every length"))
    if any(item.clause == contract.RUNS and item.holds for item in checks):
        checks += contract.check_limits(submission.content, target)
        console.print(f"timed on {target}", soft_wrap=True)
    for_tables().print(contract.to_table(checks))
    if broken := sum(not item.holds for item in checks):
        raise UserError(f"{options.submission}: breaks {broken} of {len(checks)} clauses of the contest's contract")
    holds = f"all {len(checks)} clauses of its contract hold"
    if num_signs == contract.CONTEST_SIGNS:
        verdict = f"[bold green]a submission for the contest[/]: {holds}"
    else:
        verdict = (
            f"[bold yellow]no submission for the contest[/], which has {contract.CONTEST_SIGNS} signs: a sound file of "
            f"{num_signs} signs, for which {holds}"
        )
    console.print(f"{escape(str(options.submission))}: {verdict}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
