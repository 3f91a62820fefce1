"""The page of search.report: studies as one HTML document that needs no network.

Learning curves, history, what mattered, accuracy against cost, the ensemble where one was selected, what it gets wrong,
and all trials with the reasons of failures, best first.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from optuna.trial import FrozenTrial
from plotly.graph_objects import Figure

from search.record.held_out import Predictions, read_predictions
from search.record.own_files import metrics_of
from search.record.request import Request
from search.record.trials import INTERRUPTED, WAITS, Row, param_names, read_trials, to_rows
from search.show import figures, html
from search.show.ensemble_section import Ensemble, ensemble_section, read_ensemble
from search.show.errors_section import errors_section
from search.show.figures import Curve, NotComputable
from search.show.html import Line
from search.show.repeated import CAPTION, configurations, ranked
from search.show.tables import ON_THE_TRAINED, cell, of_configurations
from trainer.common.console import console
from trainer.common.errors import UserError
from trainer.common.fields import shorten
from trainer.common.files import is_locked
from trainer.studydir import StudyDir

MOST_CURVES: Final = 400
ENDED: Final = ("COMPLETE", "PRUNED", "FAIL")
TRAINED_ON_ALL: Final = "All participants were trained on, so nothing is known of people whom the models never saw."


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
    predictions: Predictions | str
    """Of the held-out sequences, or why there are none"""
    ignored: tuple[int, ...] = ()
    """Trials that are kept out"""

    @classmethod
    def read(
        cls,
        directory: Path,
        storage: str | None = None,
        at_work: bool | None = None,
        *,
        ignored: Collection[int] = (),
        fetch: Callable[[str], None] = lambda _: None,
    ) -> "Report":
        """Of the study in a directory, without some trials; ``storage`` and ``at_work`` are as in ``read_rows``, and
        ``fetch`` as in ``read_predictions``.

        Raises UserError if there is none, a file of it is broken, or it has no such trials to ignore.
        """
        at_work = is_locked(directory) if at_work is None else at_work
        trials = read_trials(directory, storage)
        if unknown := sorted(set(ignored) - {trial.number for trial in trials}):
            raise UserError(f"{directory}: has no trial {shorten(', '.join(map(str, unknown)))}", field="ignore")
        trials = [trial for trial in trials if trial.number not in ignored]
        study = StudyDir(directory)
        rows = to_rows(trials, at_work, study)
        by_number = {trial.number: trial for trial in trials}
        ensemble, request = read_ensemble(study), Request.read(study)
        curves = [_read_curve(study, row, by_number[row.number]) for row in _worth_drawing(rows, ensemble)]
        selected = () if ensemble is None else ensemble.selection["members"]
        try:
            if request.to_config().all_participants:
                raise UserError(TRAINED_ON_ALL)
            predictions: Predictions | str = read_predictions(study, request, best_of(rows), selected, fetch)
        except UserError as error:
            predictions = str(error).replace(f"{study.path}/", "")
        return cls(study.name, request, trials, rows, curves, ensemble, predictions, tuple(sorted(ignored)))

    @property
    def best(self) -> Row | None:
        return best_of(self.rows)


def best_of(rows: list[Row]) -> Row | None:
    """The study's own complete trial of the highest accuracy."""
    complete = [row for row in rows if row.state == "COMPLETE" and row.origin is None]
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


def render(*reports: Report, refresh: int | None = None) -> str:
    """The whole page; of several studies, with a table of them at its beginning.

    A browser loads it again every ``refresh`` seconds.
    """
    if len(reports) == 1:
        (report,) = reports
        return html.page(f"Study {report.name}", [html.section(_study(report))], refresh)
    title = f"{len(reports)} studies"
    parts = [html.heading(title, level=1), *_comparison(reports)]
    parts += [html.section(_study(report), f"study-{place}") for place, report in enumerate(reports, start=1)]
    return html.page(title, parts, refresh)


def _study(report: Report) -> Iterator[str]:
    yield html.heading(f"Study {report.name}", level=1)
    yield html.hovers({str(row.number): _hover(row) for row in report.rows})
    yield from _overview(report)
    yield from _sections(report)


def _hover(row: Row) -> str:
    """A trial's number and, below, its parameters and note."""
    values = [f"{name} {cell(value)}" for name, value in row.params.items()]
    lines = [", ".join(values[place : place + 3]) for place in range(0, len(values), 3)]
    return "\n".join([str(row.number), *lines, *([row.note] if row.note else [])])


def _comparison(reports: tuple[Report, ...]) -> Iterator[str]:
    """The studies beside each other, and a link to each."""
    names = ["study", "trials ended", "complete", "best accuracy", "by trial", "ensemble, unseen people", "MB", "ms"]
    lines = []
    for report in reports:
        own = [row for row in report.rows if row.origin is None]
        ended, best = sum(row.state in ENDED for row in own), report.best
        selection = {} if report.ensemble is None else report.ensemble.selection
        unseen = (selection.get("accuracy", {}).get("unseen_participants") or {}).get("ensemble")
        cost = selection.get("cost", {})
        lines.append(
            Line(
                (
                    *(report.name, f"{ended} of {report.request.trials}"),
                    str(sum(row.state == "COMPLETE" for row in own)),
                    *(("", "") if best is None else (cell(best.val_accuracy, ".4f"), str(best.number))),
                    *(cell(unseen, ".4f"), cell(cost.get("size") and cost["size"] / 1e6, ".2f")),
                    cell(cost.get("latency"), ".2f"),
                )
            )
        )
    yield html.table(names, lines, frozenset({"study"}))
    yield html.contents((report.name, f"study-{place}") for place, report in enumerate(reports, start=1))
    if len({report.request.validation_sha256 for report in reports}) > 1:
        yield html.paragraph("They hold out different sequences: their accuracies are not of the same people.")


def _overview(report: Report) -> Iterator[str]:
    own = [row for row in report.rows if row.origin is None]
    counts = Counter(row.state for row in own)
    ended = sum(counts[state] for state in ENDED)
    yield html.numbers(
        {
            **_best(report, own),
            "trials ended": f"{ended} of {report.request.trials}",
            "complete": str(counts["COMPLETE"]),
            "pruned": str(counts["PRUNED"]),
            "failed": str(counts["FAIL"]),
            "training time": str(timedelta(seconds=round(sum(row.seconds or 0 for row in own)))),
        }
    )
    now, missing = html.moment(datetime.now(UTC)), report.request.trials - ended - len(report.ignored)
    if missing > 0:
        waits = counts["RUNNING"] + counts[WAITS]
        open_trials = f"interrupted: {counts[INTERRUPTED]}" if counts[INTERRUPTED] else f"running or waiting: {waits}"
        yield html.paragraph(f"The search is not finished; {open_trials}. It stood so on {now}.")
    else:
        yield html.paragraph(f"Finished. Written on {now}.", "dim")
    if report.ignored:
        yield html.paragraph(f"Left out, as asked: trials {', '.join(map(str, report.ignored))}.")
    if others := len(report.rows) - len(own):
        yield html.paragraph(f"It began with {others} trials of other studies, which are shown among its own.")
    if not report.rows:
        yield html.paragraph("No trial has started yet.")
    if report.request.to_config().all_participants:
        yield html.paragraph(ON_THE_TRAINED)
    else:
        yield html.paragraph("Accuracies are on participants that no trial was trained on.", "dim")


def _best(report: Report, own: list[Row]) -> dict[str, str]:
    """The best trial's accuracy; of trials that hold out another fold each, the best mean."""
    if report.request.is_rotated and (repeated := configurations(own)):
        trials = ", ".join(map(str, repeated[0].trials))
        return {"best mean accuracy": f"{repeated[0].val_accuracy:.4f}", "of trials": trials}
    best = report.best
    accuracy, number = ("–", "–") if best is None else (f"{best.val_accuracy:.4f}", str(best.number))
    return {"best accuracy": accuracy, "by trial": number}


def _ended_since(report: Report, ensemble: Ensemble) -> Iterator[str]:
    """Whether trials are complete that the ensemble was not selected from. Of folds, or several studies, none says."""
    selection = ensemble.selection
    left_out = selection.get("left_out")
    if left_out is None or report.request.is_rotated or len(selection.get("studies") or [""]) > 1:
        return
    known = {*left_out, *(member["trial"] for member in selection["members"])}
    own = [row for row in report.rows if row.origin is None and row.state == "COMPLETE"]
    if since := [row.number for row in own if f"{row.number:04d}" not in known]:
        are = "trial is" if len(since) == 1 else "trials are"
        numbers = shorten(", ".join(map(str, since)))
        yield html.paragraph(f"{len(since)} {are} complete since ({numbers}): run ensemble.select again.", "caption")


def _sections(report: Report) -> Iterator[str]:
    study = figures.to_study(report.trials, report.rows)
    best = report.best
    if report.rows:
        yield from _curves(report)
    if best is not None:
        yield html.heading("Optimisation history")
        yield html.figure(figures.history(study))
        others = sum(trial.state.name == "PRUNED" for trial in report.trials)
        left = f"; {others:,} that were stopped early are not drawn" if others else ""
        yield html.paragraph(f"Accuracy of each complete trial, and the best until then{left}.", "caption")
        if any(trial.params for trial in report.trials):
            yield html.heading("Parameters of complete trials")
            yield html.figure(figures.parallel_coordinates(study), "wide shaded")
            yield html.paragraph("A line a trial; the stronger its colour, the more accurate.", "caption")
    if report.rows:
        note = (
            "How much each parameter decides whether a trial is among the best tenth (PED-ANOVA), and its standard "
            f"deviation over {figures.RESAMPLES} bootstrap resamples of the trials."
        )
        yield from _figure("Which parameters mattered", lambda: figures.importances(study), note)
        yield from _costs(report)
    if report.ensemble is not None:
        yield from ensemble_section(report.ensemble)
        yield from _ended_since(report, report.ensemble)
    if report.rows:
        yield from errors_section(report.predictions)
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
            remark="; ".join(filter(None, (row.reason, row.note))),
        )
        for row in ranked(rows)
    ]
    yield html.heading("Trials")
    yield html.table(names, lines, searched=True)
    yield from _repeated(rows)


def _repeated(rows: list[Row]) -> Iterator[str]:
    found = configurations(rows)
    if not found:
        return
    columns = of_configurations(found)
    yield html.heading("Configurations")
    yield html.table(list(columns), map(Line, zip(*columns.values(), strict=True)))
    yield html.paragraph(f"These are {CAPTION}.", "caption")


def _asked(request: Request) -> dict[str, Any]:
    values = dataclasses.asdict(request)
    values["created"] = html.moment(str(values["created"]))
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
