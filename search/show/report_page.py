"""The page of search.report: a study as one HTML document that needs no network.

Learning curves, history, what mattered, accuracy against cost, the ensemble where one was selected, and all trials with
the reasons of failures, best first.
"""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Final

from optuna.trial import FrozenTrial
from plotly.graph_objects import Figure

from search.record.own_files import metrics_of
from search.record.request import Request
from search.record.trials import INTERRUPTED, WAITS, Row, param_names, read_trials, to_rows
from search.show import figures, html
from search.show.figures import Curve, NotComputable
from search.show.html import Line
from search.show.tables import ON_THE_TRAINED, cell
from trainer.common.console import console
from trainer.common.errors import FieldError, UserError
from trainer.common.fields import shorten
from trainer.common.files import is_locked
from trainer.common.strict import check_type
from trainer.studydir import ENSEMBLE, FRONTIER, SELECTION, StudyDir, require_as_written

FRONTIER_NAMES: Final = ("budget", "members", "million weights", "MB", "ms", "seen", "unseen", "others")
MOST_CURVES: Final = 400
_COSTS: Final = dict.fromkeys(("parameters", "size", "latency"), float)
_SELECTION: Final = {  # what is read of selection.json
    "created": str,
    "budget": str | None,
    "members": list[dict[str, Any]],
    "cost": dict[str, Any],
    "accuracy": dict[str, Any],
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


@dataclass(frozen=True)
class Report:
    """A study at one moment."""

    name: str
    request: Request
    trials: list[FrozenTrial]
    rows: list[Row]
    """Best first"""
    curves: list[Curve]
    ensemble: Ensemble | None

    @classmethod
    def read(cls, directory: Path, storage: str | None = None, at_work: bool | None = None) -> "Report":
        """Of the study in a directory; ``storage`` and ``at_work`` are as in ``read_rows``.

        Raises UserError if there is none, or a file of it is broken.
        """
        at_work = is_locked(directory) if at_work is None else at_work
        trials = read_trials(directory, storage)
        rows = to_rows(trials, at_work)
        by_number = {trial.number: trial for trial in trials}
        study = StudyDir(directory)
        ensemble = _read_ensemble(study)
        curves = [_read_curve(study, row, by_number[row.number]) for row in _worth_drawing(rows, ensemble)]
        return cls(study.name, Request.read(study), trials, rows, curves, ensemble)

    @property
    def best(self) -> Row | None:
        """The study's own complete trial of the highest accuracy."""
        complete = [row for row in self.rows if row.state == "COMPLETE" and row.origin is None]
        complete = [row for row in complete if row.val_accuracy is not None]
        return max(complete, key=lambda row: row.val_accuracy or 0, default=None)


def _worth_drawing(rows: list[Row], ensemble: Ensemble | None) -> list[Row]:
    """All trials, or of too many the most accurate ones and the ensemble's members."""
    if len(rows) <= MOST_CURVES:
        return rows
    known = [row for row in rows if row.val_accuracy is not None]
    drawn = {row.number for row in sorted(known, key=lambda row: -(row.val_accuracy or 0))[:MOST_CURVES]}
    members = [] if ensemble is None else [member["trial"] for member in ensemble.selection["members"]]
    drawn.update(int(name) for name in members if name.isdecimal())
    return [row for row in rows if row.number in drawn]


def _read_curve(study: StudyDir, row: Row, trial: FrozenTrial) -> Curve:
    """From the trial's own record, or where that is not to be had, from the study's."""
    try:
        metrics = metrics_of(study.trial(row.number), trial)
    except UserError as error:
        console.print(f"warning: {error}; its curve is as the database has it", soft_wrap=True, markup=False)
        metrics = []
    points = {item.epoch: item.val_accuracy for item in metrics} or trial.intermediate_values
    return Curve(row.number, row.state, sorted(points), [points[epoch] for epoch in sorted(points)])


def _read_ensemble(study: StudyDir) -> Ensemble | None:
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


def render(report: Report) -> str:
    """The whole page."""
    title = f"Study {report.name}"
    return html.page(title, [html.heading(title, level=1), *_overview(report), *_sections(report)])


def _overview(report: Report) -> Iterator[str]:
    own = [row for row in report.rows if row.origin is None]
    counts = Counter(row.state for row in own)
    ended = sum(counts[state] for state in ("COMPLETE", "PRUNED", "FAIL"))
    best = report.best
    yield html.numbers(
        {
            "best accuracy": "–" if best is None else f"{best.val_accuracy:.4f}",
            "by trial": "–" if best is None else str(best.number),
            "trials ended": f"{ended} of {report.request.trials}",
            "complete": str(counts["COMPLETE"]),
            "pruned": str(counts["PRUNED"]),
            "failed": str(counts["FAIL"]),
            "training time": str(timedelta(seconds=round(sum(row.seconds or 0 for row in own)))),
        }
    )
    now = datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    if ended < report.request.trials:
        waits = counts["RUNNING"] + counts[WAITS]
        open_trials = f"interrupted: {counts[INTERRUPTED]}" if counts[INTERRUPTED] else f"running or waiting: {waits}"
        yield html.paragraph(f"The search is not finished; {open_trials}. It stood so on {now} UTC.")
    else:
        yield html.paragraph(f"Finished. Written on {now} UTC.", "dim")
    if others := len(report.rows) - len(own):
        yield html.paragraph(f"It began with {others} trials of other studies, which are shown among its own.")
    if not report.rows:
        yield html.paragraph("No trial has started yet.")
    if report.request.to_config().all_participants:
        yield html.paragraph(ON_THE_TRAINED)
    else:
        yield html.paragraph("Accuracies are on participants that no trial was trained on.", "dim")


def _sections(report: Report) -> Iterator[str]:
    study = figures.to_study(report.trials, report.rows)
    best = report.best
    if report.rows:
        yield from _curves(report)
    if best is not None:
        yield html.heading("Optimisation history")
        yield html.figure(figures.history(study))
        if any(trial.params for trial in report.trials):
            yield html.heading("Parameters of complete trials")
            yield html.figure(figures.parallel_coordinates(study), "wide shaded")
            yield html.paragraph("A line a trial; the stronger its colour, the more accurate.", "caption")
    if report.rows:
        note = "How much each parameter decides whether a trial is among the best tenth (PED-ANOVA)."
        yield from _figure("Which parameters mattered", lambda: figures.importances(study), note)
        yield from _costs(report)
    if report.ensemble is not None:
        yield from _ensemble(report.ensemble)
    if report.rows:
        yield from _trials(report.rows)
    yield html.heading("What was asked")
    yield html.pairs(_asked(report.request))


def _curves(report: Report) -> Iterator[str]:
    drawn, best = [curve for curve in report.curves if curve.epochs], report.best
    yield html.heading("Learning curves")
    if drawn:
        yield html.figure(figures.learning_curves(drawn, None if best is None else best.number))
        yield html.paragraph("Accuracy after each epoch; trials that were stopped early are dimmed.", "caption")
    else:
        yield html.paragraph("No trial has ended an epoch yet.")
    if len(report.curves) < len(report.rows):
        others = "" if report.ensemble is None else ", and the members of the ensemble"
        which = f"{len(drawn):,} of {len(report.rows):,} trials are drawn"
        yield html.paragraph(f"{which}: the most accurate ones{others}.", "caption")
    without = sorted(row.number for row in report.rows if row.state == "FAIL" and not row.epochs)
    if without:
        names = shorten(", ".join(map(str, without)))
        yield html.paragraph(f"Failed before the end of their first epoch: {names}.", "caption")


def _figure(title: str, draw: Callable[[], Figure], note: str) -> Iterator[str]:
    """A figure under its heading, or a sentence on why it cannot be drawn."""
    yield html.heading(title)
    try:
        yield html.figure(draw())
        yield html.paragraph(note, "caption")
    except NotComputable as reason:
        yield html.paragraph(str(reason))


def _costs(report: Report) -> Iterator[str]:
    def millions(row: Row) -> float | None:
        return None if row.num_parameters is None else row.num_parameters / 1e6

    yield from _figure(
        "Accuracy against parameters",
        lambda: figures.accuracy_against(report.rows, millions, "parameters (millions)"),
        "The line is the Pareto front: no complete trial is both smaller and as accurate as one on it.",
    )
    latencies: dict[int, float | None] = {} if report.ensemble is None else {**report.ensemble.latencies}
    how = "As ensemble.select measured each model's own file."
    if not latencies and any(row.latency is not None for row in report.rows):
        latencies = {row.number: row.latency for row in report.rows}
        how = "As the search estimated it, from each model's multiply-adds."
    if latencies:
        note = f"{how} The line is the Pareto front."
        yield from _figure(
            "Accuracy against latency",
            lambda: figures.accuracy_against(
                report.rows, lambda row: latencies.get(row.number), "milliseconds a sequence"
            ),
            note,
        )


def _ensemble(ensemble: Ensemble) -> Iterator[str]:
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
    yield html.paragraph(f"Selected on {selection['created']} for the budget {selection['budget'] or 'none'}.", "dim")
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
    yield html.figure(figures.frontier(ensemble.bought), "wide")
    yield html.paragraph("What each budget buys; blue is on labels that the selection saw.", "caption")
    yield html.table(FRONTIER_NAMES, _frontier(ensemble.bought), texts=frozenset({"budget"}))
    if any("buys_more" in row for row in ensemble.bought):  # a selection of version 0.1 does not say
        yield html.paragraph(
            "others: on the same unseen people, the best of the other rules. Budgets that buy no more than the one "
            "before are left out.",
            "caption",
        )


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


def _trials(rows: list[Row]) -> Iterator[str]:
    params = param_names(rows)
    has_origin = any(row.origin is not None for row in rows)
    origin = ["from"] if has_origin else []
    scores = ["accuracy", "log loss"]
    latency = ["ms"] if any(row.latency is not None for row in rows) else []
    on_front = ["front"] if any(row.on_front for row in rows) else []
    sizes = ["million weights", "MB", *latency]
    names = ["trial", "state", *on_front, *origin, *params, *scores, *sizes, "epochs", "seconds"]
    lines = [
        Line(
            cells=(
                *(str(row.number), row.state),
                *(["*" if row.on_front else ""] if on_front else []),
                *([row.origin or ""] if has_origin else []),
                *(cell(row.params.get(name)) for name in params),
                *(cell(row.val_accuracy, ".4f"), cell(row.val_log_loss, ".4f")),
                cell(row.num_parameters and row.num_parameters / 1e6, ".2f"),
                cell(row.bytes and row.bytes / 1e6, ".1f"),
                *([cell(row.latency, ".2f")] if latency else []),
                *(str(row.epochs), cell(row.seconds, ".0f")),
            ),
            state=row.state,
            remark=row.reason or "",
        )
        for row in rows
    ]
    yield html.heading("Trials")
    yield html.table(names, lines, searched=True)


def _asked(request: Request) -> dict[str, Any]:
    values = dataclasses.asdict(request)
    signs: list[str] = values.pop("label_names")
    values["signs"] = f"{len(signs)}: {', '.join(signs)}"
    lines = [f"{name}: {json.dumps(value)}" for name, value in values["space"].items()]
    values["space"] = "\n".join([*lines, ""])
    values["versions"] = ", ".join(f"{name} {number}" for name, number in values["versions"].items())
    return {
        name.replace("_", " "): json.dumps(value, indent=1) if isinstance(value, dict | list) else value
        for name, value in values.items()
        if value is not None
    }
