"""What ensemble.select prints of a submission that it has made."""

import math
import shlex
from typing import Final

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from ensemble import budget as budgets
from ensemble.budget import CONTEST, Budget
from ensemble.candidates.pool import by_reason
from ensemble.evaluation import frontier, unseen
from ensemble.selection import baselines, scores
from ensemble.ship.asked import Opened
from ensemble.ship.fit import Choice
from ensemble.ship.pipeline import Outcome
from trainer.common.console import console, for_tables
from trainer.studydir import SELECTION, SUBMISSION

MOST_OFF: Final = 1.5  # an estimated latency that is off by this factor or more is reported


def print_opened(opened: Opened) -> None:
    """Which studies are used, and how many candidates they have."""
    shown = ", ".join(folder.shown for folder in opened.folders)
    pool = opened.pool
    folds = "" if pool.validation.folds is None else f", each of {len(np.unique(pool.validation.folds))} folds in turn"
    _say(
        f"stud{'y' if len(opened.folders) == 1 else 'ies'} {shown}: {len(pool.candidates)} candidates, "
        f"{len(pool.validation.labels):,} validation sequences{folds}"
    )


def print_outcome(outcome: Outcome) -> None:
    """Everything that was found: the frontier, the members, accuracies, latency, checks, and trials left out."""
    opened, request, chosen = outcome.opened, outcome.opened.request, outcome.chosen
    sound = {name: reason for name, reason in sorted(outcome.left_out.items()) if name not in outcome.faults}
    for reason, names in by_reason(sound).items():
        _say(f"[dim]left out, {escape(reason)}: {' '.join(names)}")
    for_tables().print(frontier.to_table(outcome.frontier))
    for_tables().print(members_table(chosen, outcome.priced.base.brief(), request.budget))
    for_tables().print(unseen.to_table(outcome.seen, outcome.unseen))
    single = baselines.single(outcome.score, outcome.priced.costs, outcome.priced.room(request.budget))
    _say(
        f"members were chosen by {scores.MEASURES[request.metric]}, on the labels they were selected on: "
        f"{outcome.score.exact(chosen.counts):.4f}; of the best single model: {outcome.score.exact(single):.4f}"
    )
    if (best := outcome.preferred.best) is not None:
        _say(
            f"{_models(best.cost['members'])} of {', '.join(best.cost.brief())} are estimated to be {best.gain:.4f} ± "
            f"{best.error:.4f} better on unseen people: no more than one standard error, so the cheapest ships; for "
            "them, give --prefer accuracy"
        )
    _say(unseen.verdict(outcome.unseen, len(chosen.members), str(request.budget.replace(members=1))))
    _print_latency(outcome)
    if opened.full_data is not None:
        _say(
            "the file holds the members' weights from training on all participants; the accuracies above are those of "
            "the same trainings with participants held out: what ships can be measured on nobody"
        )
    elif outcome.priced.pool.of_files is not None:
        study = opened.folders[0].shown
        selection = opened.folders[0].show(opened.out / SELECTION)
        _say(
            "the accuracies above are of models of all folds, and the file holds those that fold 0 was held out of; to "
            f"ship models trained on everyone: python -m search.refit {shlex.quote(study)} --ship-of "
            f"{shlex.quote(selection)}, and this command again with --ship"
        )
    _say(f"the file and the PyTorch models it was made of name {outcome.agreement}")
    if (its := outcome.agreement).file_accuracy is not None:
        right = f"{round(its.file_accuracy * its.file_sequences):,} of {its.file_sequences:,}"
        _say(f"the file itself names {right} validation sequences rightly ({its.file_accuracy:.4f})")
    _say(f"contest's contract: {outcome.num_checks} checks hold; ensemble.check plays every length, and times the file")
    if broken := Budget.parse(CONTEST).exceeded(chosen.cost):
        _say(f"[yellow]over the contest's limits: {'; '.join(broken)}[/]")
    for warning in outcome.warnings():
        _say(f"[yellow]{escape(warning)}[/]")
    _say(f"wrote {opened.folders[0].show(opened.out / SUBMISSION)}")


def members_table(chosen: Choice, shared: list[str], budget: Budget) -> Table:
    """One line per member, then the shared part, the whole file, and the budget."""
    table = Table(title="members", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("trial", "count", "heads x\nlayers", "weights", *budgets.columns(), "accuracy"):
        table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    for item in chosen.members:
        model, candidate = item.candidate.model, item.candidate
        shape = f"{model.num_heads} x {model.num_layers}"
        accuracy = f"{candidate.val_accuracy:.4f}"
        table.add_row(candidate.name, str(item.count), shape, candidate.precision, *item.cost.brief(), accuracy)
    table.add_row("[dim]shared", "", "", "", *shared, "")
    table.add_section()
    table.add_row(f"[bold]file, {_models(len(chosen.members))}", "", "", "", *chosen.cost.brief(), "")
    limit = f", {_models(budget['members'])}" if budget["members"] < math.inf else ""
    table.add_row(f"[dim]budget{limit}" if str(budget) else "[dim]no budget", "", "", "", *budget.brief(), "")
    return table


def _models(number: float) -> str:
    return f"{number:g} model{'s' if number != 1 else ''}"


def _print_latency(outcome: Outcome) -> None:
    request, measured = outcome.opened.request, outcome.chosen.latency
    estimate = outcome.priced.total(outcome.chosen.counts)["latency"]
    _say(f"{measured}, {request.target}; estimated from the members: {estimate:.2f} ms")
    if not request.remeasure and max(estimate, measured.mean) > MOST_OFF * min(estimate, measured.mean):
        _say("[yellow]the estimate is far off: cached latencies of the study's trials may be stale; remeasure them[/]")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)
