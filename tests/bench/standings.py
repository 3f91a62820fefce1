"""Who is ahead in tests.bench.search, from the logs of searches: means, paired differences, and ratios of epochs."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tests.bench.play import BUDGET, Log
from tests.bench.problems import Problem

MARKS: Final = (150, 300, 450, 700)
"""Epochs at which searches are compared"""
CLEAR: Final = 2.0  # standard errors of a difference, from which on it counts

Logs = Mapping[int, Log]
"""A player's searches of one problem, by seed"""


@dataclass(frozen=True)
class Difference:
    """How much better one player is than another, on the average."""

    mean: float
    error: float
    """Standard error of the mean; NaN where one search a player cannot tell"""

    @classmethod
    def of(cls, ours: Mapping[int, float], theirs: Mapping[int, float]) -> "Difference":
        """Paired where at least two seeds were played by both, by these alone; more is better."""
        both = sorted(ours.keys() & theirs.keys())
        if len(both) >= 2:
            margins = np.array([ours[seed] - theirs[seed] for seed in both])
            return cls(float(margins.mean()), float(margins.std(ddof=1) / math.sqrt(len(both))))
        sides = [np.array(list(side.values())) for side in (ours, theirs)]
        mean = float(sides[0].mean() - sides[1].mean())
        if min(len(side) for side in sides) < 2:
            return cls(mean, math.nan)
        return cls(mean, math.sqrt(sum(side.var(ddof=1) / len(side) for side in sides)))

    @property
    def verdict(self) -> str:
        """ "ahead" or "behind" by more than two standard errors; else "level"."""
        if self.mean > CLEAR * self.error:
            return "ahead"
        return "behind" if self.mean < -CLEAR * self.error else "level"


@dataclass(frozen=True)
class Row:
    """One problem at one mark."""

    shown: dict[str, float]
    """Of each player: mean regret or worth"""
    best: str | None
    """The rival that ours is least ahead of, or without ours that of the best mean; None if there is none"""
    differences: dict[str, Difference]
    """Of each rival: ours less its, so that more is better for us"""


def row(problem: Problem, ours: str, players: Mapping[str, Logs], worth: Callable[[Log], float]) -> Row:
    """What tables and counts are made of. ``worth`` of a log is that at the mark; players are all but empty."""
    sign = -1.0 if problem.shows_regret else 1.0
    scores = {}
    for name, logs in players.items():
        worths = {seed: worth(log) for seed, log in logs.items()}
        scores[name] = {seed: -problem.regret(its) if problem.shows_regret else its for seed, its in worths.items()}
    means = {name: float(np.mean(list(its.values()))) for name, its in scores.items()}
    rivals = [name for name in players if name != ours]
    differences = {name: Difference.of(scores[ours], scores[name]) for name in rivals} if ours in players else {}
    # On the same seeds, as those of a rival that played fewer may have been lucky ones; one search tells nothing.
    lead = {name: differences[name].mean if differences else -means[name] for name in rivals}
    several = [name for name in rivals if len(scores[name]) > 1]
    best = min(several or rivals, key=lead.__getitem__, default=None)
    return Row({name: sign * mean for name, mean in means.items()}, best, differences)


def count(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """By rival, in how many rows ours is ahead, level and behind."""
    found: dict[str, dict[str, int]] = {}
    for item in rows:
        for name, difference in item.differences.items():
            found.setdefault(name, dict.fromkeys(("ahead", "level", "behind"), 0))[difference.verdict] += 1
    return found


def ratios(ours: Logs, rival: Logs) -> list[float]:
    """For each seed that both played: epochs that ours needs to be worth as much as the rival in the end, over all that
    the rival may have; infinite where ours never is."""
    return [ours[seed].needed(rival[seed].worth(BUDGET)) / BUDGET for seed in sorted(ours.keys() & rival.keys())]


def median(values: Sequence[float]) -> float | None:
    """A value that there is, as infinity has no mean with another; None, as JSON has no infinity, if it is infinite or
    there is nothing."""
    middle = float(np.quantile(values, 0.5, method="higher")) if len(values) else math.inf
    return round(middle, 3) if math.isfinite(middle) else None
