"""The figures of a report."""

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest

from search.show import figures
from trainer.error_analysis import Calibration


def _study(values: list[float], choices: list[int]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    kind = optuna.distributions.IntDistribution(1, 8)
    for value, choice in zip(values, choices, strict=True):
        study.add_trial(
            optuna.create_trial(value=value, params={"num_heads": choice}, distributions={"num_heads": kind})
        )
    return study


@pytest.mark.parametrize(
    ("values", "choices", "words"),
    [
        ([0.5] * 10, [1, 2] * 5, "the same accuracy"),
        ([0.5, 0.6] * 5, [2] * 10, "the same parameters"),
        ([0.1 * place for place in range(9)], [1, 2, 3] * 3, "at least 10 complete trials to tell, and there are 9"),
    ],
)
def test_importance_of_what_did_not_vary_or_is_too_little(values: list[float], choices: list[int], words: str) -> None:
    with pytest.raises(figures.NotComputable, match=words):
        figures.importances(_study(values, choices))


def _searched(trials: int) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("much", 0, 1) + 0.01 * trial.suggest_float("little", 0, 1), trials)
    return study


def test_the_parameter_that_decides_is_the_most_important_and_more_trials_say_so_more_surely() -> None:
    (bars,), (few,) = figures.importances(_searched(200)).data, figures.importances(_searched(20)).data
    assert bars.y == ("little", "much")
    assert bars.x[1] > 0.7
    assert all(0 < error < 0.5 for error in bars.error_x.array)
    assert max(bars.error_x.array) < max(few.error_x.array)
    assert bars.text[1] == f"{bars.x[1]:.2f} ± {bars.error_x.array[1]:.2f}"


def test_reliability_leaves_empty_bins_out() -> None:
    found = Calibration(
        np.array([0, 3, 1, 0]), np.array([np.nan, 0.4, 0.6, np.nan]), np.array([np.nan, 1 / 3, 1, np.nan])
    )
    bars, line = figures.reliability(found).data
    assert list(bars.x) == [0.375, 0.625]
    assert list(bars.y) == [1 / 3, 1]
    assert bars.customdata[0] == "0.333 of 3 right,<br>named with probability 0.400 on average"
    assert (line.x, line.y) == ((0, 1), (0, 1))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.03, 70], [0.1, 1, 10]),
        ([3, 60], [5, 10, 20, 50]),
        ([1.7, 9.2], [2, 5]),
        ([1.02, 1.21], [1.1, 1.2]),
        ([2.0, 4.9], [2, 2.5, 3, 4.5]),
        ([4.11, 4.14], [4.11]),
        ([4.0], [4.0]),
        ([0.0], []),
        ([], []),
    ],
)
def test_ticks_of_logarithmic_axes_are_round(values: list[float], ticks: list[float]) -> None:
    found = figures.log_ticks(values)
    assert found == sorted(set(found))
    assert set(ticks) <= set(found)
    assert len(found) <= 10


def test_an_axis_of_whole_numbers_has_a_tick_at_each_and_no_line_is_white() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    floats = optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True)
    kinds = {
        "heads": optuna.distributions.IntDistribution(1, 4),
        "rate": floats,
        "width": optuna.distributions.IntDistribution(1, 99),
    }
    for heads, rate, width, value in ((1, 1e-5, 1, 0.2), (4, 1e-4, 99, 0.5), (2, 1e-3, 30, 0.9)):
        params = {"heads": heads, "rate": rate, "width": width}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=value))
    figure = figures.parallel_coordinates(study)
    ticks = [[tick.text for tick in figure.layout.annotations if tick.x == place] for place in range(4)]
    assert figure.layout.xaxis.ticktext == ("accuracy", "heads", "rate", "width")
    assert ticks[1] == ["1", "2", "3", "4"]
    assert [tick.y for tick in figure.layout.annotations if tick.x == 1] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert ticks[2][0] == "1e-05"
    assert ticks[3] == ["1", "50", "99"]
    lines = list(figure.select_traces(selector={"mode": "lines"}))
    assert [line.line.color for line in lines] == ["rgb(184, 196, 208)", mid(lines[1]), "rgb(11, 47, 87)"]


def mid(line: go.Scatter) -> str:
    """The colour of a trial that is 3/7 of the way from the worst to the best, by hand."""
    assert line.y[0] == pytest.approx(3 / 7, abs=0.01)
    low, high = (184, 196, 208), (59, 120, 184)
    part = 2 * line.y[0]
    return "rgb(" + ", ".join(str(round(a + part * (b - a))) for a, b in zip(low, high, strict=True)) + ")"
