"""The figures of a report, drawn by Plotly; what Optuna draws well is Optuna's."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import optuna
import plotly.graph_objects as go
from optuna.trial import FrozenTrial, TrialState
from plotly.subplots import make_subplots

from search.problem.objective import pareto_front
from search.record.trials import INTERRUPTED, WAITS, Row

_OPEN: Final = ("RUNNING", INTERRUPTED, WAITS)
COLOURS: Final = {"COMPLETE": "#3b78b8", "PRUNED": "#9097a0", "FAIL": "#d04a4a"} | dict.fromkeys(_OPEN, "#2f9e78")
BEST: Final = "#e07b1f"
DIMMED: Final = 0.35
"""Opacity of what was stopped early"""
_CLEAR: Final = "rgba(0,0,0,0)"
_WORDS: Final = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "RUNNING": "running",
    INTERRUPTED: INTERRUPTED,
    WAITS: WAITS,
    "FAIL": "failed",
}


class NotComputable(Exception):
    """Why a figure cannot be drawn, in a sentence for the reader."""


@dataclass(frozen=True)
class Curve:
    """A trial's accuracy by epoch."""

    number: int
    state: str
    epochs: list[int]
    accuracies: list[float]


def _styled(figure: go.Figure, **layout: Any) -> go.Figure:
    figure.update_layout(
        template=go.layout.Template(),
        title=None,
        paper_bgcolor=_CLEAR,
        plot_bgcolor=_CLEAR,
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 64, "r": 16, "t": 16, "b": 56},
        height=420,
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "bgcolor": _CLEAR, "title": None},
    )
    figure.update_xaxes(gridcolor="#d9dde1", zeroline=False, automargin=True)
    figure.update_yaxes(gridcolor="#d9dde1", zeroline=False, automargin=True)
    return figure.update_layout(**layout)


def learning_curves(curves: list[Curve], best: int | None) -> go.Figure:
    """One line for each kind of trial, broken between trials: a thousand trials are drawn as fast as ten."""
    figure = go.Figure()
    for state in ("PRUNED", *_OPEN, "COMPLETE", "FAIL"):
        chosen = [curve for curve in curves if curve.state == state]
        if chosen:
            opacity = DIMMED if state == "PRUNED" else 0.75
            width = 1 if len(curves) > 100 else 1.4
            name = f"{_WORDS[state]} ({len(chosen)})"
            figure.add_trace(_lines(chosen, name=name, opacity=opacity, line={"color": COLOURS[state], "width": width}))
    ends = [curve for curve in curves if curve.state == "FAIL"]
    if ends:
        points = [(curve.epochs[-1], curve.accuracies[-1], curve.number) for curve in ends]
        epochs, accuracies, names = zip(*points, strict=True)
        marker = {"symbol": "x", "size": 9, "color": COLOURS["FAIL"]}
        figure.add_trace(_trace(epochs, accuracies, names, mode="markers", marker=marker, name="where it failed"))
    leading = [curve for curve in curves if curve.number == best]
    if leading:
        figure.add_trace(_lines(leading, name=f"best (trial {best})", line={"color": BEST, "width": 3}))
    few = max((len(curve.epochs) for curve in curves), default=0) < 3
    figure.update_traces(mode="lines+markers" if few else "lines", selector={"mode": "lines"})
    return _styled(figure, xaxis_title="epoch", yaxis_title="accuracy", showlegend=True)


def _lines(curves: Iterable[Curve], **style: Any) -> go.Scatter:
    x: list[int | None] = []
    y: list[float | None] = []
    names: list[int | None] = []
    for curve in curves:
        x += [*curve.epochs, None]
        y += [*(round(accuracy, 5) for accuracy in curve.accuracies), None]
        names += [curve.number] * (len(curve.epochs) + 1)
    return _trace(x, y, names, mode="lines", **style)


def _trace(x: Sequence[Any], y: Sequence[Any], numbers: Sequence[Any], **style: Any) -> go.Scatter:
    hover = "trial %{customdata}: %{y:.4f} at %{x:,}<extra></extra>"
    return go.Scatter(x=x, y=y, customdata=numbers, hovertemplate=hover, **style)


def accuracy_against(rows: list[Row], cost: Callable[[Row], float | None], label: str) -> go.Figure:
    """Accuracy against a cost, pruned trials dimmed, and the Pareto front of the complete ones.

    Raises NotComputable if no complete trial has both.
    """
    figure = go.Figure()
    front: list[tuple[float, float, int]] = []
    for state in ("PRUNED", "COMPLETE"):
        points = [
            (price, row.val_accuracy, row.number)
            for row in rows
            if row.state == state and (price := cost(row)) is not None and row.val_accuracy is not None
        ]
        if not points:
            continue
        costs, accuracies, names = zip(*points, strict=True)
        marker = {"color": COLOURS[state], "size": 7}
        opacity = DIMMED if state == "PRUNED" else 0.8
        style = {"mode": "markers", "marker": marker, "opacity": opacity, "name": f"{_WORDS[state]} ({len(points)})"}
        figure.add_trace(_trace(costs, accuracies, names, **style))
        by_number = {point[2]: point for point in points}
        front = [by_number[number] for number in pareto_front(points)] if state == "COMPLETE" else []
    if not front:
        raise NotComputable("No trial is complete yet.")
    costs, accuracies, names = zip(*front, strict=True)
    line, marker = {"color": BEST, "shape": "hv", "width": 2}, {"color": BEST, "size": 8}
    style = {"mode": "lines+markers", "line": line, "marker": marker, "name": f"Pareto front ({len(front)})"}
    figure.add_trace(_trace(costs, accuracies, names, **style))
    return _styled(figure, xaxis_title=label, yaxis_title="accuracy", showlegend=True)


def to_study(trials: list[FrozenTrial], rows: list[Row]) -> optuna.Study:
    """A copy in memory that no search changes, whose one value is accuracy, whatever the search looked for."""
    accuracies = {row.number: row.val_accuracy for row in rows}
    study = optuna.create_study(direction="maximize")
    for trial in sorted(trials, key=lambda trial: trial.number):
        is_complete = trial.state == TrialState.COMPLETE and accuracies[trial.number] is not None
        copy = optuna.trial.create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.FAIL,
            value=accuracies[trial.number] if is_complete else None,
            params=trial.params,
            distributions=trial.distributions,
        )
        study.add_trial(copy)  # numbers follow the order, and none is missing
    return study


def history(study: optuna.Study) -> go.Figure:
    """Optuna's: accuracy of every complete trial by its number, and the best until then."""
    figure = optuna.visualization.plot_optimization_history(study, target_name="accuracy")
    figure.update_traces(marker_color=COLOURS["COMPLETE"], selector={"mode": "markers"})
    figure.update_traces(line={"color": BEST, "shape": "hv"}, name="best so far", selector={"mode": "lines"})
    return _styled(figure, xaxis_title="trial", yaxis_title="accuracy")


def parallel_coordinates(study: optuna.Study) -> go.Figure:
    """Optuna's: a line a complete trial through its parameters to its accuracy."""
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name="accuracy")
    return _styled(figure, margin={"l": 80, "r": 80, "t": 64, "b": 32})


def importances(study: optuna.Study) -> go.Figure:
    """Optuna's PED-ANOVA: how much each parameter decides whether a trial is among the best tenth.

    Raises NotComputable with the reason.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < 2:
        raise NotComputable(f"It takes at least 2 complete trials to tell, and there are {len(complete)}.")
    if len({trial.value for trial in complete}) == 1:
        raise NotComputable("All complete trials have the same accuracy: nothing made a difference.")
    names = dict.fromkeys(name for trial in complete for name in trial.params)
    varied = [name for name in names if len({trial.params.get(name) for trial in complete}) > 1]
    if not varied:
        raise NotComputable("All complete trials have the same parameters: nothing else can be told of them.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        values = optuna.importance.get_param_importances(study, params=varied)
    ordered = sorted(values.items(), key=lambda item: item[1])
    figure = go.Figure(
        go.Bar(
            x=[value for _, value in ordered],
            y=[name for name, _ in ordered],
            text=[f"{value:.2f}" for _, value in ordered],
            orientation="h",
            marker_color=COLOURS["COMPLETE"],
            hoverinfo="skip",
            textposition="outside",
            cliponaxis=False,
        )
    )
    reach = 1.12 * max(value for _, value in ordered)  # room for the numbers beside the bars
    layout = {"xaxis_title": "share of the importance", "xaxis_range": [0, reach], "height": 120 + 34 * len(ordered)}
    return _styled(figure, **layout)


FRONTIER_UNITS: Final = {"parameters": ("million weights", 1e6), "size": ("MB", 1e6), "latency": ("ms a sequence", 1.0)}
OURS: Final = "ours"
RIVAL_COLOURS: Final = {"top-k": "#7a4fa3", "drop the weakest": "#4f7f3a", "weighted": "#a35a4f"}


def frontier(bought: list[dict[str, Any]]) -> go.Figure:
    """What each budget buys: a panel a kind of cost; grey dots are single models, lines the ensembles, ours and those
    that others' rules select."""
    figure = make_subplots(cols=len(FRONTIER_UNITS), shared_yaxes=True, horizontal_spacing=0.04)
    for column, (kind, (unit, scale)) in enumerate(FRONTIER_UNITS.items(), start=1):
        singles = [row for row in bought if row["kind"] == "single"]
        ensembles = [row for row in bought if row["kind"] == kind and row["rule"] == OURS]
        rivals = {
            rule: [row for row in bought if row["kind"] == kind and row["rule"] == rule] for rule in RIVAL_COLOURS
        }
        for name, chosen, accuracy, mode, colour in (
            ("single models", singles, "val_accuracy", "markers", COLOURS["PRUNED"]),
            ("ensembles, labels seen", ensembles, "val_accuracy", "lines+markers", COLOURS["COMPLETE"]),
            ("ensembles, unseen people", ensembles, "unseen_accuracy", "lines+markers", BEST),
            *(
                (f"{rule}, unseen people", rivals[rule], "unseen_accuracy", "lines", colour)
                for rule, colour in RIVAL_COLOURS.items()
            ),
        ):
            known = [row for row in chosen if row[accuracy] is not None]
            costs, accuracies = [row[kind] / scale for row in known], [row[accuracy] for row in known]
            names = [", ".join(row["trials"]) for row in known]
            trace = _trace(costs, accuracies, names, mode=mode, name=name, legendgroup=name, showlegend=column == 1)
            figure.add_trace(trace.update(line_color=colour, marker_color=colour), row=1, col=column)
        figure.update_xaxes(title_text=unit, type="log", row=1, col=column)
    figure.update_yaxes(title_text="accuracy", row=1, col=1)
    return _styled(figure)
