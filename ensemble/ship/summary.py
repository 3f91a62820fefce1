"""What ensemble.select prints of a submission that it has made."""

import math
import shlex
from typing import Any, Final

import numpy as np
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
from trainer.common.console import console, for_tables, left_table
from trainer.common.program import as_called
from trainer.studydir import SELECTION, SUBMISSION

MOST_OFF: Final = 1.5  # an estimated latency that is off by this factor or more is reported


def print_opened(opened: Opened) -> None:
    """Which studies are used, and how many candidates they have."""
    shown = ", ".join(folder.shown for folder in opened.folders)
    pool = opened.pool
    folds = "" if pool.validation.folds is None else f", each of {len(np.unique(pool.validation.folds))} folds in turn"
    console.print(
        f"stud{'y' if len(opened.folders) == 1 else 'ies'} {shown}: {len(pool.candidates)} candidates, "
        f"{len(pool.validation.labels):,} validation sequences{folds}",
        soft_wrap=True,
        markup=False,
    )


def answer(outcome: Outcome) -> str:
    """What was found, in one line: what ships, what it costs, how good it is, and where it lies."""
    cost, unseen = outcome.chosen.cost, outcome.unseen
    if unseen is None:
        accuracy = f"{outcome.seen.ensemble:.4f} on the labels it was selected on"
    else:
        low, high = unseen.ensemble_interval
        accuracy = f"{unseen.ensemble:.4f} ({low:.2f} to {high:.2f}) on people it never saw"
    return (
        f"{_models(cost['members'])}, {cost['size'] / 1e6:.3g} MB, {cost['latency']:.3g} ms a sequence, {accuracy}: "
        f"{_path(outcome)}"
    )


def to_json(outcome: Outcome) -> dict[str, Any]:
    """What selection.json says, with the path of the submission and what is to be warned of."""
    return {"path": _path(outcome), **outcome.selection, "warnings": warnings(outcome)}


def warnings(outcome: Outcome) -> list[str]:
    """What a user must know before the file is submitted."""
    found = []
    if broken := Budget.parse(CONTEST).exceeded(outcome.chosen.cost):
        found.append(f"over the contest's limits: {'; '.join(broken)}")
    estimate, measured = _estimate(outcome), outcome.chosen.latency.mean
    if not outcome.opened.request.remeasure and max(estimate, measured) > MOST_OFF * min(estimate, measured):
        found.append(
            f"the file takes {measured:.2f} ms a sequence, where its trials' own times come to {estimate:.2f}: "
            "the machine is busy, or was when these were taken; take all anew with --remeasure"
        )
    return found + outcome.warnings()


def print_outcome(outcome: Outcome, verbose: bool = False) -> None:
    """The answer, then its members, what other budgets buy, accuracies, and what is to be done or known.

    How it was all found, and why each trial was left out, is told only if ``verbose``.
    """
    request, chosen = outcome.opened.request, outcome.chosen
    console.print(answer(outcome), style="bold", markup=False, soft_wrap=True)
    tables = for_tables()
    for table in (
        members_table(chosen, outcome.priced.base.brief(), request.budget),
        frontier.to_table(outcome.frontier),
        unseen.to_table(outcome.seen, outcome.unseen, _rows(outcome)),
    ):
        tables.print()
        tables.print(table)
    tables.print()
    _say("verdict", unseen.verdict(outcome.unseen, len(chosen.members), str(request.budget.replace(members=1))))
    if (best := outcome.preferred.best) is not None:
        _say(
            "alternative",
            f"{_models(best.cost['members'])} of {', '.join(best.cost.brief())} are estimated to be {best.gain:.4f} ± "
            f"{best.error:.4f} better on unseen people, too little to be sure of, so the cheapest ships; for them, "
            "give --prefer accuracy",
        )
    if replaced := _replaced(outcome):
        _say("replaced", escape(replaced))
    where = escape(str(request.target))
    _say("latency", f"{chosen.latency}, {where}; estimated from the members: {_estimate(outcome):.2f} ms")
    if outcome.unseen is not None:
        _say(
            "people it never saw",
            f"{unseen.how_measured(outcome.unseen.participants)}; where a budget was not asked for, one part in "
            f"{frontier.FOLDS} of them is left out at a time, so that the same models may have two accuracies",
        )
        rules = ", ".join(baselines.RIVALS)
        _say("other rules there", f"the best of {rules}, at the same budget on people that they never saw")
    if verbose:
        _print_details(outcome)
    elif outcome.left_out:
        used = len({item.candidate.name for item in chosen.members})
        _say("not used", f"{len(outcome.left_out)} of {len(outcome.left_out) + used} trials; --verbose says why")
    _print_next(outcome)
    for warning in warnings(outcome):
        _say("warning", escape(warning), whole=True)


def _rows(outcome: Outcome) -> dict[str, str]:
    """What the lines of the table of accuracies are called; the best single model has none if it is what ships."""
    single = baselines.single(outcome.score, outcome.priced.costs, outcome.priced.room(outcome.opened.request.budget))
    (best,) = np.flatnonzero(single)
    ships = {"ensemble": f"what ships, {_models(len(outcome.chosen.members))}"}
    if np.array_equal(outcome.chosen.counts > 0, single > 0):
        return ships
    candidate = outcome.priced.pool.candidates[best]
    return {**ships, "single": f"best single model, {escape(candidate.name)} {candidate.precision}"}


def _replaced(outcome: Outcome) -> str | None:
    """Of what ensemble the files were that are written over, unless it had the same members."""
    before = outcome.before
    if before is None or before.members is None:
        return None
    votes = ["trial", "precision", "count"]
    members = list(before.members.reindex(columns=votes).itertuples(index=False, name=None))
    if set(members) == {tuple(item[name] for name in votes) for item in outcome.selection["members"]}:
        return None
    accuracy, where = before.accuracy, "people it never saw"
    if accuracy is None:
        accuracy, where = before.seen_accuracy, "the labels it was selected on"
    names = ", ".join(f"{trial} ({precision})" for trial, precision, _ in members)
    return f"an earlier ensemble of {names}, {accuracy:.4f} on {where}; --out keeps both"


def _print_details(outcome: Outcome) -> None:
    """How it was found, and why each trial was left out."""
    request, agreement = outcome.opened.request, outcome.agreement
    single = baselines.single(outcome.score, outcome.priced.costs, outcome.priced.room(request.budget))
    ours, alone = outcome.score.exact(outcome.chosen.counts), outcome.score.exact(single)
    on = "on the labels selected on"
    _say("selected by", f"{scores.MEASURES[request.metric]}, {on}: {ours:.4f}; of the best single model: {alone:.4f}")
    _say("file", f"it and the PyTorch models it was made of name {agreement}")
    if agreement.file_accuracy is not None:
        right = f"{round(agreement.file_accuracy * agreement.file_sequences):,} of {agreement.file_sequences:,}"
        _say("file", f"it names {right} validation sequences rightly ({agreement.file_accuracy:.4f})")
    _say("contest's contract", f"{outcome.num_checks} checks hold")
    sound = {name: reason for name, reason in sorted(outcome.left_out.items()) if name not in outcome.faults}
    for reason, names in by_reason(sound).items():
        _say("left out", f"{escape(reason)}: {' '.join(names)}")


def _print_next(outcome: Outcome) -> None:
    """What the file is made of, where that is not the models that accuracies are of, and the next commands."""
    opened = outcome.opened
    if opened.full_data is not None:
        _say(
            "weights",
            "the file holds the members' weights from training on all participants; the accuracies above are of the "
            "same trainings with participants held out: what ships can be measured on nobody",
        )
    elif outcome.priced.pool.of_files is not None:
        _say("weights", "the accuracies above are of all folds; the file holds the models that fold 0 was held out of")
        study, selection = opened.folders[0].shown, opened.folders[0].show(opened.out / SELECTION)
        train = shlex.join(["python", "-m", "search.refit", study, "--ship-of", selection])
        ship = escape(shlex.quote(f"{study}-ship"))
        words = f"{escape(train)}, and this command again with --ship {ship}"
        _say("to ship models trained on everyone", words, whole=True)
    _say("next", f"python -m ensemble.check {escape(shlex.quote(_path(outcome)))}", whole=True)


def members_table(chosen: Choice, shared: list[str], budget: Budget) -> Table:
    """One line per member, then what all share, the whole file, and the budget."""
    table = left_table("members")
    table.add_column("trial", overflow="fold")
    for name in ("vote\nweight", "heads,\nlayers", "stored\nas", *budgets.columns(), "accuracy\nalone"):
        table.add_column(name, justify="right", no_wrap=True)
    votes = sum(item.count for item in chosen.members)
    for item in chosen.members:
        model, candidate = item.candidate.model, item.candidate
        table.add_row(
            escape(candidate.name),
            f"{item.count}/{votes}",
            f"{model.num_heads} x {model.num_layers}",
            candidate.precision,
            *item.cost.brief(),
            f"{candidate.val_accuracy:.4f}",
        )
    table.add_row("[dim]preprocessing and merge", "", "", "", *shared, "")
    table.add_section()
    table.add_row(f"[bold]file, {_models(len(chosen.members))}", "", "", "", *chosen.cost.brief(), "")
    limit = f", {_models(budget['members'])}" if budget["members"] < math.inf else ""
    table.add_row(f"[dim]budget{limit}" if str(budget) else "[dim]no budget", "", "", "", *budget.brief(), "")
    return table


def _models(number: float) -> str:
    return f"{number:g} model{'s' if number != 1 else ''}"


def _path(outcome: Outcome) -> str:
    """Where the submission lies, as the user knows it."""
    opened = outcome.opened
    return opened.folders[0].show(opened.out / SUBMISSION)


def _estimate(outcome: Outcome) -> float:
    """Milliseconds a sequence, from what the members take."""
    return outcome.priced.total(outcome.chosen.counts)["latency"]


def _say(head: str, text: str, whole: bool = False) -> None:
    """A paragraph, broken between words as wide as the terminal is; or ``whole``, to be copied from."""
    style = "bold yellow" if head == "warning" else "bold"
    (console if whole else for_tables()).print(f"[{style}]{head}:[/] {as_called(text)}", soft_wrap=whole)
