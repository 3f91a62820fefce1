"""What it is worth that the default search weighs cost, after the same time, where costs of an epoch span sixtyfold.

    python -m tests.bench.cost [--seeds 12] [--first-seed 0] [--workers 2] [--problems hartmann6-good:cheap,...]

Nothing is trained: the problems are those of tests.bench.search, with a cost. Of a Hartmann function it depends on one
coordinate, so that the optimum is where it is cheap, or where it is dear; of recorded trainings it is a power of the
model's size. Two trials are trained at a time, each as long as it takes. Times are in epochs of mean cost: the table
tells mean regret (Hartmann) or worth of what is recommended after so many, and when the search of 64 trials ends.
"""

import argparse
import contextlib
import functools
import heapq
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import numpy as np
from optuna.trial import FrozenTrial
from rich.table import Table

from search.decide import gp, posterior, predictive_halving
from search.decide.cost import Costs
from search.decide.qmc import sobol
from search.decide.unit_cube import at
from tests.bench import players
from tests.bench.curves import RECORDINGS
from tests.bench.play import Search
from tests.bench.players import our_default
from tests.bench.problems import COORDINATES, HARTMANNS, Problem, Replay, problem
from tests.bench.search import names_of
from tests.bench.standings import Difference
from trainer.common import cli
from trainer.common.console import for_tables, track
from trainer.common.fields import to_count
from trainer.common.processes import follow_parent

SPAN: Final = 60.0  # of the default space: an epoch of its largest model beside one of its smallest
TRIALS: Final = 64
WORKERS: Final = 2
MARKS: Final = 37, 75, 150, 225, 350
COORDINATE: Final = {"hartmann3": 0, "hartmann6": 1}  # at the optimum .114 and .150
PROBLEMS: Final = (
    *(f"{name}:{kind}" for name in HARTMANNS for kind in ("cheap", "dear")),
    *RECORDINGS,
)
DRAWN: Final = 512  # configurations, for the mean cost
FREE: Final = ((gp, "WEIGHT", 0.0), (gp, "CHEAPEST", 1.0), (predictive_halving, "WEIGHT", 0.0))
"""Constants of a search that does not weigh costs"""

CostOf = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Costly:
    """A problem whose epochs cost."""

    problem: Problem
    cost: CostOf

    @classmethod
    def of(cls, name: str) -> "Costly":
        base, _, kind = name.partition(":")
        its = problem(base)
        if isinstance(its, Replay):
            sizes = its._curves.parameters.astype(float)
            power = math.log(SPAN) / math.log(sizes.max() / sizes.min())
            return cls(its, lambda params: (float(its._recording.size(params)) / sizes.min()) ** power)
        field = COORDINATES[COORDINATE[base.partition("-")[0]]]
        return cls(its, lambda params: SPAN ** (params[field] if kind == "cheap" else 1 - params[field]))

    @functools.cached_property
    def mean(self) -> float:
        """Cost of an epoch of a configuration drawn at random."""
        items = self.problem.space.distributions.items()
        points = sobol(len(items), 0)[:DRAWN]
        drawn = ({name: at(item, float(x)) for (name, item), x in zip(items, row, strict=True)} for row in points)
        return float(np.mean([self.cost(params) for params in drawn]))


def known_costs(cost: CostOf) -> type[Costs]:
    """Costs that are those of a problem."""

    class Known(Costs):
        def of_trials(self, trials: list[FrozenTrial]) -> np.ndarray:
            return np.log([cost(trial.params) for trial in trials])

        def of_shares(self, shares: np.ndarray) -> np.ndarray:
            return np.log([cost(self._observed.params(row)) for row in shares])

    return Known


@dataclass(frozen=True)
class Outcome:
    """What a search came to."""

    worths: list[float]
    """After each of MARKS; 0 before the first epoch ended"""
    end: float
    """When it ended"""
    last: float
    """Worth of what it recommends in the end"""


def trained(search: Search, its: Costly, seed: int) -> Iterator[tuple[float, int, float, float]]:
    """Each epoch as it ends: when, the trial's epoch, its accuracy, and its worth."""
    known: dict[int, Any] = {}
    done: dict[int, int] = {}
    running: list[tuple[float, int, int, int]] = []  # when its epoch ends, in order, the trial, until which epoch
    now, order = 0.0, 0

    while True:
        while len(running) < WORKERS and (found := search.next()) is not None:
            number, params, until = found
            if number not in known:
                known[number], done[number] = (its.problem.train(params, seed, number), its.cost(params)), 0
            heapq.heappush(running, (now + known[number][1], order := order + 1, number, until))
        if not running:
            return
        now, _, number, until = heapq.heappop(running)
        done[number] += 1
        training, cost = known[number]
        accuracy = float(training.accuracies[done[number] - 1])
        yield now, done[number], accuracy, training.worth
        if search.report(number, done[number], accuracy) and done[number] < until:
            heapq.heappush(running, (now + cost, order := order + 1, number, until))


def play(search: Search, its: Costly, seed: int) -> Outcome:
    """Search to the end; recommended is the trial of the best last accuracy among those trained the deepest."""
    steps, deepest, now = [(0.0, 0.0)], (0, -math.inf), 0.0
    for when, epoch, accuracy, worth in trained(search, its, seed):
        now = when / its.mean
        if (epoch, accuracy) > deepest:
            deepest = epoch, accuracy
            steps.append((now, worth))
    worths = [next(worth for then, worth in reversed(steps) if then <= mark) for mark in MARKS]
    return Outcome(worths, now, steps[-1][1])


def play_task(task: tuple[str, bool, int]) -> Outcome:
    """Of a problem's name, whether costs weigh, and a seed."""
    name, weighs, seed = task
    its = Costly.of(name)
    with contextlib.ExitStack() as patched:
        patched.enter_context(mock.patch.object(posterior, "Costs", known_costs(its.cost)))
        patched.enter_context(mock.patch.object(players, "OUR_TRIALS", TRIALS))
        for module, constant, value in () if weighs else FREE:
            patched.enter_context(mock.patch.object(module, constant, value))
        return play(players.Ours(its.problem.space, seed, *our_default(its.problem)), its, seed)


def table_of(found: dict[tuple[str, bool], list[Outcome]]) -> Table:
    table = Table(title="mean regret (hartmann) or worth after so many epochs of mean cost; two trials at a time")
    table.add_column("problem")
    for heading in ("cost weighs", *map(str, MARKS), "at the end", "which is after"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name for name, _ in found):
        its = Costly.of(name).problem
        shown = its.regret if its.shows_regret else (lambda worth: worth)
        sides = {
            weighs: np.array([[*map(shown, one.worths), shown(one.last)] for one in found[name, weighs]])
            for weighs in (False, True)
        }
        for weighs, values in sides.items():
            ends = f"{np.mean([one.end for one in found[name, weighs]]):,.0f}"
            cells = [f"{value:.3f}" for value in values.mean(axis=0)]
            table.add_row(name, "yes" if weighs else "no", *cells, ends)
        sign = -1 if its.shows_regret else 1
        ours, theirs = (sign * sides[weighs].T for weighs in (True, False))
        gains = [Difference.of(*(dict(enumerate(side)) for side in both)) for both in zip(ours, theirs, strict=True)]
        cells = [f"{gain.mean:+.3f} ± {gain.error:.3f}" for gain in gains]
        table.add_row("", "better by", *cells, "", end_section=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cost")
    parser.add_argument("--problems", default=",".join(PROBLEMS), help="separated by commas (default: all)")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--first-seed", type=int, default=0, help="constants were chosen on 1000 to 1007")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="searches at a time")
    options = parser.parse_args()
    for name in ("seeds", "workers"):
        to_count(getattr(options, name), name)
    names = names_of(options.problems, PROBLEMS, "problems")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tasks = [(name, weighs, seed) for name in names for weighs in (False, True) for seed in seeds]
    found: dict[tuple[str, bool], list[Outcome]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        for task, outcome in zip(tasks, track(pool.map(play_task, tasks), len(tasks), "searches"), strict=True):
            found.setdefault(task[:2], []).append(outcome)
    for_tables().print(table_of(found))
    report = {
        f"{name}{'' if weighs else ' (free)'}": np.mean([one.worths for one in outcomes], axis=0).round(4).tolist()
        for (name, weighs), outcomes in found.items()
    }
    print(json.dumps({"bench": "cost", "marks": MARKS, "seeds": list(seeds), "mean worth": report}))


if __name__ == "__main__":
    cli.run(main)
