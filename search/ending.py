"""What search.run and search.refit print at the end: the trials, and the command to run next."""

import contextlib
import dataclasses
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator

from rich.console import Console

from search.execute.driver import Outcome, is_study
from search.execute.last_words import leaving
from search.options import RunOptions, SearchOptions
from search.record.database_url import had_password, without_password
from search.show.progress import STATE_STYLES
from search.show.repeated import ranked
from search.show.tables import show, title
from trainer.common.console import LastingConsole, console, print_line
from trainer.common.credentials import has_keys, how_to_give_keys
from trainer.common.errors import UserError
from trainer.common.fields import to_words
from trainer.common.signals import exit_status
from trainer.common.storage import base_name, join, parent


def resume_command(options: SearchOptions, *, retry_failed: bool = False) -> str:
    """The command that resumes a study as it was run; a database's password is not in it."""
    again = ["--retry-failed"] if retry_failed else []
    words = ["--name", options.name or "", *to_words(SearchOptions(results=options.results))]
    if options.storage is not None and had_password(url := without_password(options.storage)):
        words += ["--storage", url]
    where = {item.name: getattr(options, item.name) for item in dataclasses.fields(RunOptions)}
    words += to_words(RunOptions(**where | {"time_budget": None}))
    return shlex.join(["python", "-m", "search.run", "--resume", *again, *words])


def require_new(where: str, options: SearchOptions) -> None:
    """Raises UserError, with the command that resumes it, if there is a study already."""
    if is_study(where):
        again = f"go on with: {resume_command(options)}{_reminder(options.results, options.data)}"
        raise UserError(f"{where}: there is a study of this name; choose another --name, or {again}")


@contextlib.contextmanager
def resumable(options: SearchOptions) -> Iterator[None]:
    """Say how to resume a study whose search is interrupted at once, or whose Ray a signal ended with it."""

    def say(to: Console = console) -> None:
        if options.name is not None and is_study(join(options.results, options.name)):
            print_line(f"go on with:\n  {resume_command(options)}{_reminder(options.results, options.data)}", to)

    def say_last() -> None:
        own = LastingConsole(file=sys.__stdout__, highlight=False, emoji=False)  # while Ray runs, sys.stdout is its own
        say(own)
        own.file.flush()

    try:
        with leaving(say_last):
            yield
    except KeyboardInterrupt:
        say()
        raise


def show_outcome(outcome: Outcome, options: SearchOptions) -> None:
    """Print the trials and what to do next. Exits with the status of the signal that ended it early, if one did."""
    show(ranked(outcome.rows), title(outcome.where, outcome.rows))
    request = outcome.request
    named = dataclasses.replace(options, name=base_name(outcome.where), results=parent(outcome.where))
    if not outcome.is_complete:
        ended = sum(row.state in STATE_STYLES and row.origin is None for row in outcome.rows)
        go_on = f"{resume_command(named)}{_reminder(named.results, request.data)}"
        what = "the time budget is used up" if outcome.stopped_by is None else "interrupted"
        print_line(f"{what} with {ended} of {request.trials} trials ended; go on with:\n  {go_on}")
        if outcome.stopped_by is not None:
            sys.exit(exit_status(outcome.stopped_by))
    if num_failed := sum(row.state == "FAIL" and row.origin is None for row in outcome.rows):
        failed = "1 trial failed; try it" if num_failed == 1 else f"{num_failed} trials failed; try them"
        again = resume_command(named, retry_failed=True)
        print_line(f"{failed} again with: {again}{_reminder(named.results, request.data)}")
    _exit_if_all_failed(outcome)
    where = shlex.quote(outcome.where)
    if request.to_config().all_participants:
        print_line(
            "these accuracies are of people that were trained on; to ship these weights, select again as before, with "
            f"--ship: python -m ensemble.select --budget ... --results STUDY --ship {where}"
            f"{_reminder(outcome.where, request.data)}"
        )
    elif any(row.state == "COMPLETE" for row in outcome.rows):
        print_line(
            f"next: python -m ensemble.select --budget --results {where}{_reminder(outcome.where, request.data)}"
        )


def _reminder(*places: str | None) -> str:
    """What a command needs besides, in a line of its own, if it reads these; nothing if they need no keys."""
    needing = [where for where in places if where and has_keys(where)]
    return f"\nthe keys are not kept; {how_to_give_keys(needing[0])}" if needing else ""


def _exit_if_all_failed(outcome: Outcome) -> None:
    """With status 1, if there is nothing to go on with; says what most of the trials failed of."""
    own = [row for row in outcome.rows if row.origin is None]
    reasons = [row.reason or "no reason was recorded" for row in own if row.state == "FAIL"]
    if len(reasons) < sum(row.state != "WAITING" for row in own):
        return
    kinds = [re.sub(r"\d+", "0", reason) for reason in reasons]  # epochs, process ids and the like tell none apart
    (kind, count), *_ = Counter(kinds).most_common(1)
    print_line(f"all {len(reasons)} trials failed, {count} of them for this reason: {reasons[kinds.index(kind)]}")
    sys.exit(1)
