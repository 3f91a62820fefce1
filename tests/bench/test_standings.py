"""Differences, verdicts and ratios of tests.bench.search, on logs of known worth."""

import math

import pytest

from tests.bench.play import BUDGET, Log
from tests.bench.problems import FunctionProblem, problem
from tests.bench.standings import Difference, count, median, ratios, row

HARTMANN = problem("hartmann3-good")


class Accuracy(FunctionProblem):
    """The same, shown by its worth."""

    shows_regret = False


def _log(worth: float, epochs: int = 1) -> Log:
    return Log(steps=[(epochs, 0.0, worth)])


def _last(log: Log) -> float:
    return log.worth(BUDGET)


def test_a_difference_is_paired_by_the_seeds_that_both_played() -> None:
    found = Difference.of({0: 0.5, 1: 0.7, 2: 0.9, 3: 9.0}, {2: 0.8, 1: 0.5, 0: 0.2})
    assert found.mean == pytest.approx(0.2)
    assert found.error == pytest.approx(0.1 / math.sqrt(3))
    assert found.verdict == "ahead"


def test_without_common_seeds_errors_add() -> None:
    found = Difference.of({0: 1.0, 1: 3.0}, {5: 4.0, 6: 8.0})
    assert found.mean == -4.0
    assert found.error == pytest.approx(math.sqrt(2 / 2 + 8 / 2))
    assert found.verdict == "level"


@pytest.mark.parametrize(
    ("mean", "error", "verdict"),
    [
        (0.3, 0.1, "ahead"),
        (-0.3, 0.1, "behind"),
        (0.2, 0.1, "level"),
        (0.0, 0.0, "level"),
        (0.1, 0.0, "ahead"),
        (0.3, math.nan, "level"),
    ],
)
def test_two_standard_errors_make_a_difference(mean: float, error: float, verdict: str) -> None:
    assert Difference(mean, error).verdict == verdict


def test_one_seed_tells_no_error() -> None:
    found = Difference.of({0: 0.5}, {0: 0.2})
    assert math.isnan(found.error)
    assert found.verdict == "level"


def test_regret_is_a_share_of_the_optimum_and_less_of_it_is_ahead() -> None:
    best = HARTMANN.optimum
    players = {
        "ours": {0: _log(0.9 * best), 1: _log(0.8 * best)},
        "weak": {0: _log(0.5 * best), 1: _log(0.4 * best)},
        "strong": {0: _log(best), 1: _log(0.9 * best)},
    }
    found = row(HARTMANN, "ours", players, _last)
    assert found.shown == pytest.approx({"ours": 0.15, "weak": 0.55, "strong": 0.05})
    assert found.best == "strong"
    assert found.differences["strong"].mean == pytest.approx(-0.1)
    assert count([found, found]) == {
        "weak": {"ahead": 2, "level": 0, "behind": 0},
        "strong": {"ahead": 0, "level": 0, "behind": 2},
    }


def test_worth_is_shown_as_it_is_and_more_of_it_is_ahead() -> None:
    shown = Accuracy("accuracy", HARTMANN.function) if isinstance(HARTMANN, FunctionProblem) else HARTMANN
    players = {"ours": {0: _log(0.6), 1: _log(0.7)}, "rival": {0: _log(0.5), 1: _log(0.6)}}
    found = row(shown, "ours", players, _last)
    assert found.shown == pytest.approx({"ours": 0.65, "rival": 0.55})
    assert found.differences["rival"].verdict == "ahead"


def test_the_best_rival_is_found_on_the_seeds_that_it_played() -> None:
    shares = {"ours": (0.9, 0.1), "lucky": (0.8,), "few": (0.85, None, 0.3), "whole": (0.85, 0.2, 0.1)}
    players = {
        name: {seed: _log(share * HARTMANN.optimum) for seed, share in enumerate(its) if share is not None}
        for name, its in shares.items()
    }
    players["ours"][2] = _log(0.5 * HARTMANN.optimum)
    found = row(HARTMANN, "ours", players, _last)
    assert min(found.shown, key=lambda name: found.shown[name]) == "lucky"  # of one search
    assert found.differences["few"].mean == pytest.approx(0.125)
    assert found.differences["whole"].mean == pytest.approx((0.05 - 0.1 + 0.4) / 3)
    assert found.best == "whole"  # though the mean of "few" is better


def test_without_ours_there_are_means_but_no_differences() -> None:
    found = row(HARTMANN, "ours", {"rival": {0: _log(HARTMANN.optimum)}}, _last)
    assert found.shown == {"rival": 0.0}
    assert found.differences == {}


def test_a_ratio_is_that_of_epochs_until_as_good_and_infinite_if_never() -> None:
    ours = {0: _log(0.6, 70), 1: _log(0.6, 350), 2: _log(0.6, 70)}
    rival = {0: _log(0.6), 1: _log(0.5), 2: _log(0.7), 3: _log(0.1)}
    assert ratios(ours, rival) == [0.1, 0.5, math.inf]


def test_the_median_is_a_value_that_there_is() -> None:
    assert median([0.2, math.inf, 0.4]) == 0.4
    assert median([0.2, 0.4]) == 0.4
    assert median([0.2, math.inf]) is None
    assert median([]) is None
