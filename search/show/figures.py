"""The figures of a report, drawn by Plotly; what Optuna draws well is Optuna's.

A point of a trial has the trial's number as customdata; the page shows what is known of that trial beside it.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import optuna
import plotly.graph_objects as go
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from search.problem.objective import pareto_front
from search.record.trials import INTERRUPTED, WAITS, Row
from trainer.error_analysis import Calibration

_OPEN: Final = ("RUNNING", INTERRUPTED, WAITS)
COLOURS: Final = {"COMPLETE": "#3b78b8", "PRUNED": "#9097a0", "FAIL": "#d04a4a"} | dict.fromkeys(_OPEN, "#2f9e78")
BEST: Final = "#e07b1f"
SHADES: Final = ["#b8c4d0", "#3b78b8", "#0b2f57"]
"""From the least to the most accurate"""
DIMMED: Final = 0.35
"""Opacity of what was stopped early"""
_MOST_TICKS: Final = 10
_CLEAR: Final = "rgba(0,0,0,0)"
FEWEST_FOR_IMPORTANCE: Final = 10
"""Complete trials: of fewer, the best tenth is none"""
RESAMPLES: Final = 30
_MOST_RESAMPLED: Final = 200  # trials in a resample: of a thousand, each takes half a second
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
            style = {"opacity": opacity, "legendgroup": state}
            figure.add_trace(_lines(chosen, name=name, line={"color": COLOURS[state], "width": width}, **style))
            if alone := [curve for curve in chosen if len(curve.epochs) == 1]:  # of which no line can be drawn
                marker = {"color": COLOURS[state], "size": 6}
                style["opacity"] = 2 * DIMMED
                points = _lines(alone, name=f"{name}, one epoch", marker=marker, showlegend=False, **style)
                figure.add_trace(points.update(mode="markers"))
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
    hover = "%{y:.4f} at %{x:,}<br>trial %{customdata}<extra></extra>"
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
    by_number = {trial.number: trial for trial in trials}
    for number in range(max(by_number, default=-1) + 1):  # numbers follow the order: what is left out leaves a gap
        trial = by_number.get(number)
        is_complete = trial is not None and trial.state == TrialState.COMPLETE and accuracies[number] is not None
        copy = optuna.trial.create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.FAIL,
            value=accuracies[number] if is_complete else None,
            params={} if trial is None else trial.params,
            distributions={} if trial is None else trial.distributions,
        )
        study.add_trial(copy)
    return study


def history(study: optuna.Study) -> go.Figure:
    """Optuna's: accuracy of every complete trial by its number, and the best until then."""
    figure = optuna.visualization.plot_optimization_history(study, target_name="accuracy")
    hover = "%{y:.4f}<br>trial %{customdata}<extra></extra>"
    for points in figure.select_traces(selector={"mode": "markers"}):
        points.update(marker_color=COLOURS["COMPLETE"], customdata=points.x, hovertemplate=hover)
    best = {"line": {"color": BEST, "shape": "hv"}, "name": "best so far"}
    figure.update_traces(**best, hovertemplate="best so far: %{y:.4f}<extra></extra>", selector={"mode": "lines"})
    return _styled(figure, xaxis_title="trial", yaxis_title="accuracy")


def parallel_coordinates(study: optuna.Study) -> go.Figure:
    """Optuna's: a line a complete trial through its parameters to its accuracy.

    Its palest blue is white, and it divides an axis of whole numbers into four.
    """
    figure = optuna.visualization.plot_parallel_coordinate(study, target_name="accuracy")
    for line in figure.select_traces(selector={"mode": "lines"}):
        line.update(line_color=sample_colorscale(SHADES, min(max(line.y[0], 0), 1))[0], opacity=0.7)
    figure.update_traces(marker_colorscale=SHADES, selector={"mode": "markers"})
    names = figure.layout.xaxis.ticktext
    kinds = {name: kind for trial in study.trials for name, kind in trial.distributions.items()}
    ticks: list[Any] = []
    for place, name in enumerate(names):
        own = [tick for tick in figure.layout.annotations if tick.x == place]
        kind = kinds.get(name)
        ticks += _whole(own) if isinstance(kind, IntDistribution) and not kind.log else own
    figure.layout.annotations = ticks
    return _styled(figure, margin={"l": 80, "r": 80, "t": 64, "b": 32})


def _whole(ticks: list[Any]) -> list[Any]:
    """The ticks of an axis at whole numbers: at each of them if they are few."""
    low, high = float(ticks[0].text), float(ticks[-1].text)
    if not 1 <= high - low <= _MOST_TICKS:
        return [tick for tick in ticks if float(tick.text).is_integer()]
    style = ticks[0].to_plotly_json()
    numbers = range(int(low), int(high) + 1)
    return [{**style, "y": (number - low) / (high - low), "text": str(number)} for number in numbers]


def importances(study: optuna.Study) -> go.Figure:
    """Optuna's PED-ANOVA: how much each parameter decides whether a trial is among the best tenth.

    The error bars are standard deviations over bootstrap resamples of the trials. Raises NotComputable with the reason.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_FOR_IMPORTANCE:
        needed = f"at least {FEWEST_FOR_IMPORTANCE} complete trials"
        raise NotComputable(f"It takes {needed} to tell, and there are {len(complete)}.")
    if len({trial.value for trial in complete}) == 1:
        raise NotComputable("All complete trials have the same accuracy: nothing made a difference.")
    names = dict.fromkeys(name for trial in complete for name in trial.params)
    varied = [name for name in names if len({trial.params.get(name) for trial in complete}) > 1]
    if not varied:
        raise NotComputable("All complete trials have the same parameters: nothing else can be told of them.")
    values, errors = _shares(study, varied), _bootstrap_errors(complete, varied)
    ordered = sorted(varied, key=lambda name: values[name])
    figure = go.Figure(
        go.Bar(
            x=[values[name] for name in ordered],
            y=ordered,
            error_x={"type": "data", "array": [errors[name] for name in ordered], "thickness": 1, "width": 3},
            text=[f"{values[name]:.2f} ± {errors[name]:.2f}" for name in ordered],
            orientation="h",
            marker_color=COLOURS["COMPLETE"],
            hoverinfo="skip",
            textposition="none",
        )
    )
    reach = max(min(values[name] + errors[name], 1) for name in ordered)
    for name in ordered:
        words = {"text": f"{values[name]:.2f} ± {errors[name]:.2f}", "showarrow": False, "xanchor": "left"}
        figure.add_annotation(x=min(values[name] + errors[name], 1), y=name, xshift=6, **words)
    layout = {"xaxis_title": "share of the importance", "height": 120 + 34 * len(ordered)}
    return _styled(figure, xaxis_range=[0, 1.25 * reach], **layout)  # room for the numbers beside the bars


def _shares(study: optuna.Study, params: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental
        return optuna.importance.get_param_importances(study, params=params)


def _bootstrap_errors(complete: list[FrozenTrial], params: list[str]) -> dict[str, float]:
    """Standard deviations of the shares over resamples of the trials; of many trials, m out of n are drawn."""
    rng, size = np.random.default_rng(0), min(len(complete), _MOST_RESAMPLED)
    found = []
    for _ in range(RESAMPLES):
        resampled = optuna.create_study(direction="maximize")
        resampled.add_trials([complete[place] for place in rng.integers(0, len(complete), size)])
        try:
            shares = _shares(resampled, params)
        except ValueError:  # a parameter that few trials have is in none of these
            continue
        found.append([shares[name] for name in params])
    spread = np.nanstd(found, axis=0, ddof=1) if len(found) > 1 else np.full(len(params), np.nan)
    errors = np.nan_to_num(spread) * math.sqrt(size / len(complete))
    return dict(zip(params, errors.tolist(), strict=True))


def reliability(found: Calibration) -> go.Figure:
    """Accuracy against confidence, a bar a bin, and the line on which a calibrated model's bars end."""
    bins = len(found.counts)
    filled = np.flatnonzero(found.counts)
    figure = go.Figure(
        go.Bar(
            x=(filled + 0.5) / bins,
            y=found.accuracy[filled],
            width=1 / bins,
            customdata=[
                f"{found.accuracy[place]:.3f} of {found.counts[place]:,} right,<br>"
                f"named with probability {found.confidence[place]:.3f} on average"
                for place in filled
            ],
            hovertemplate="%{customdata}<extra></extra>",
            marker={"color": COLOURS["COMPLETE"], "line": {"color": "#f3f4f5", "width": 1}},
            name="accuracy",
        )
    )
    line = {"color": BEST, "dash": "dash", "width": 2}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, name="calibrated", hoverinfo="skip"))
    figure.update_xaxes(range=[0, 1], dtick=0.2)
    figure.update_yaxes(range=[0, 1], dtick=0.2)
    return _styled(figure, xaxis_title="probability of the named sign", yaxis_title="accuracy", height=340)


def log_ticks(values: Iterable[float]) -> list[float]:
    """Round numbers on a logarithmic axis through positive values: powers of ten, 1-2-5, or finer where they are near.

    >>> log_ticks([0.03, 70])
    [0.1, 1.0, 10.0]
    >>> log_ticks([1.7, 9.2])
    [2.0, 3.0, 5.0, 7.0]
    """
    positive = [value for value in values if value > 0]
    if not positive:
        return []
    low, high = min(positive), max(positive)
    ticks: list[float] = []
    tenths: list[float] = (np.arange(10, 100) / 10).tolist()
    for steps in ([1.0], [1.0, 2.0, 5.0], [1.0, 1.5, 2.0, 3.0, 5.0, 7.0], tenths[::5], tenths):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        exact = [float(f"{step}e{power}") for power in powers for step in steps]
        ticks = [tick for tick in exact if low <= tick <= high]
        if len(ticks) >= 3:
            break
    return ticks or [low]


FRONTIER_UNITS: Final = {"parameters": ("million weights", 1e6), "size": ("MB", 1e6), "latency": ("ms a sequence", 1.0)}
OURS: Final = "ours"
RIVAL_COLOURS: Final = {"top-k": "#7a4fa3", "drop the weakest": "#4f7f3a", "weighted": "#a35a4f"}


def _numbers(trials: list[str]) -> int | str:
    """The number of a single trial of the study itself; of others, their names."""
    return int(trials[0]) if len(trials) == 1 and trials[0].isdecimal() else ", ".join(trials)


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
            names = [_numbers(row["trials"]) for row in known]
            trace = _trace(costs, accuracies, names, mode=mode, name=name, legendgroup=name, showlegend=column == 1)
            figure.add_trace(trace.update(line_color=colour, marker_color=colour), row=1, col=column)
        ticks = log_ticks(row[kind] / scale for row in bought)
        words = {"tickvals": ticks, "ticktext": [f"{tick:,g}" for tick in ticks]}
        figure.update_xaxes(title_text=unit, type="log", row=1, col=column, **words)
    figure.update_yaxes(title_text="accuracy", row=1, col=1)
    return _styled(figure)
