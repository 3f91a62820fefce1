"""The ensemble in a report: what ensemble.select left in a study, its members, and what each budget buys."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Final

from search.show import figures, html
from search.show.html import Line
from search.show.tables import cell
from trainer.common.console import console
from trainer.common.errors import FieldError, UserError
from trainer.common.strict import check_type
from trainer.studydir import ENSEMBLE, FRONTIER, SELECTION, StudyDir, require_as_written

FRONTIER_NAMES: Final = (
    *("budget", "models", "million weights", "MB", "ms"),
    *("labels selected on", "people it never saw", "other rules there"),
)
_MOST_NAMED: Final = 8  # trials, where more are a number
_MOST_REASONS: Final = 5
_COSTS: Final = dict.fromkeys(("parameters", "size", "latency"), float)
_SELECTION: Final = {  # what is read of selection.json
    "created": str,
    "budget": str | None,
    "members": list[dict[str, Any]],
    "cost": dict[str, Any],
    "accuracy": dict[str, Any],
    "left_out": dict[str, str] | None,
}
_MEMBER: Final = {
    **{"trial": str, "precision": str, "count": int, "num_heads": int, "num_layers": int},
    **{**_COSTS, "val_accuracy": float, "val_log_loss": float},
}
_BOUGHT: Final = {  # of a row of frontier.parquet
    **{"kind": str, "rule": str, "budget": str | None, "trials": list[str]},
    **{**_COSTS, "val_accuracy": float, "unseen_accuracy": float | None, "rival_accuracy": float | None},
    "buys_more": bool | None,
}


@dataclass(frozen=True)
class Ensemble:
    """What ensemble.select left in a study."""

    selection: dict[str, Any]
    bought: list[dict[str, Any]]
    """Rows of frontier.parquet"""

    @property
    def latencies(self) -> dict[int, float]:
        """Milliseconds a sequence of each trial's model alone, by the trial's number; none if trials are of several
        studies."""
        singles = [row for row in self.bought if row["kind"] == "single" and row["trials"][0].isdecimal()]
        return {int(row["trials"][0]): row["latency"] for row in singles}


def read_ensemble(study: StudyDir) -> Ensemble | None:
    """None if nothing was selected yet, or what was is broken, which a line on the console says."""
    try:
        return _whole_ensemble(study)
    except UserError as error:
        console.print(f"warning: {error}; the page is without an ensemble", soft_wrap=True, markup=False)
        return None


def _whole_ensemble(study: StudyDir) -> Ensemble | None:
    """Raises UserError if what was selected is broken."""
    selection = study.read_selection()
    if selection is None:
        return None
    bought = study.read_frontier()
    name = SELECTION
    try:
        _check(selection, _SELECTION)
        for member in selection["members"]:
            _check(member, _MEMBER)
        _check(selection["cost"], _COSTS)
        for part in ("seen_by_selection", "unseen_participants"):
            check_type(part, selection["accuracy"].get(part), dict[str, Any] | None)
        _check(selection["accuracy"].get("seen_by_selection") or {}, {"ensemble": float})
        _check(selection["accuracy"].get("unseen_participants") or {"ensemble": None}, {"ensemble": float | None})
        name = FRONTIER
        for row in bought:
            _check(row, _BOUGHT)
            if not row["trials"]:
                raise FieldError("must name a trial", field="trials")
    except FieldError as error:
        raise UserError(f"{study.path / ENSEMBLE / name}: {error}; run ensemble.select again") from error
    require_as_written(study.path / ENSEMBLE, selection)
    return Ensemble(selection, bought)


def _check(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Raise FieldError for a field that is missing or of another type; others may be there."""
    for name, hint in hints.items():
        if name not in values and not isinstance(hint, UnionType):
            raise FieldError("is missing", field=name)
        check_type(name, values.get(name), hint)


def ensemble_section(ensemble: Ensemble) -> Iterator[str]:
    selection = ensemble.selection
    yield html.heading("Ensemble")
    seen = selection["accuracy"]["seen_by_selection"]["ensemble"]
    unseen = (selection["accuracy"]["unseen_participants"] or {}).get("ensemble")
    cost = selection["cost"]
    yield html.numbers(
        {
            "accuracy on unseen participants": "–" if unseen is None else f"{unseen:.4f}",
            "on the labels selected on": f"{seen:.4f}",
            "members": str(len(selection["members"])),
            "million weights": f"{cost['parameters'] / 1e6:.2f}",
            "MB": f"{cost['size'] / 1e6:.2f}",
            "ms a sequence": f"{cost['latency']:.2f}",
        }
    )
    yield html.paragraph(
        f"Selected on {html.moment(selection['created'])} for the budget {selection['budget'] or 'none'}.", "dim"
    )
    names = ("trial", "weights", "count", "heads", "layers", "million weights", "MB", "ms", "accuracy", "log loss")
    lines = [
        Line(
            (
                *(member["trial"], member["precision"], str(member["count"])),
                *(str(member["num_heads"]), str(member["num_layers"])),
                *(cell(member["parameters"] / 1e6, ".2f"), cell(member["size"] / 1e6, ".2f")),
                *(cell(member["latency"], ".2f"), cell(member["val_accuracy"], ".4f")),
                cell(member["val_log_loss"], ".4f"),
            )
        )
        for member in selection["members"]
    ]
    yield html.table(names, lines, texts=frozenset({"weights"}))
    if left_out := selection.get("left_out"):
        yield html.paragraph(f"Not in it: {_by_reason(left_out)}.", "caption")
    yield html.figure(figures.frontier(ensemble.bought), "wide")
    yield html.paragraph("What each budget buys; blue is on the labels selected on.", "caption")
    yield html.table(FRONTIER_NAMES, _frontier(ensemble.bought), texts=frozenset({"budget"}))
    if any("buys_more" in row for row in ensemble.bought):  # a selection of version 0.1 does not say
        yield html.paragraph(
            "The last three columns are accuracies. Other rules: the best of the other ways to select, on the same "
            "people. Budgets that buy no more than the one before are left out.",
            "caption",
        )


def _by_reason(left_out: Mapping[str, str]) -> str:
    """Reasons, those of the most trials first, with the trials that each is of or with how many those are.

    >>> _by_reason({"0003": "not finished", "0007": "ignored, as asked", "0012": "ignored, as asked"})
    'trials 7, 12 (ignored, as asked); trial 3 (not finished)'
    """
    of_reasons: dict[str, list[str]] = {}
    for name, reason in sorted(left_out.items()):
        of_reasons.setdefault(reason, []).append(str(int(name)) if name.isdecimal() else name)
    parts = []
    by_number = sorted(of_reasons.items(), key=lambda its: (-len(its[1]), its[0]))
    for reason, names in by_number[:_MOST_REASONS]:
        several = "trials " if len(names) > 1 else "trial "
        parts.append(f"{several}{', '.join(names)}" if len(names) <= _MOST_NAMED else f"{len(names):,} trials")
        parts[-1] += f" ({reason})"
    if others := sum(len(names) for _, names in by_number[_MOST_REASONS:]):
        parts.append(f"{others:,} more (other reasons, in selection.json)")
    return "; ".join(parts)


def _frontier(bought: list[dict[str, Any]]) -> Iterator[Line]:
    """A line a budget: our ensemble, and how it and the best rival do on people that the selection did not see."""
    for row in bought:
        if row["kind"] == "single" or row["rule"] != figures.OURS or not row.get("buys_more", True):
            continue
        costs = (row["parameters"] / 1e6, row["size"] / 1e6, row["latency"])
        yield Line(
            (
                *(_rounded(row["budget"]) or "none", str(len(row["trials"]))),
                *(cell(cost, ".2f") for cost in costs),
                *(cell(row["val_accuracy"], ".4f"), cell(row["unseen_accuracy"], ".4f")),
                cell(row.get("rival_accuracy"), ".4f"),
            )
        )


def _rounded(budget: str) -> str:
    """Its limits to three significant digits."""
    return re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.3g}", budget)
