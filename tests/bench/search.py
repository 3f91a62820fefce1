"""How many epochs of training a search needs: samplers and pruners against plain Ray Tune, on recorded learning curves.

    python -m tests.bench.search [--seeds 30] [--pair-seeds 30] [--workers 2] [--pairs tpe/median,...]

Nothing is trained. A configuration's accuracies are those of the nearest one in results/reference/curves.parquet (see
tests.bench.record_curves), the distance being taken in the unit cube of the space, with another choice at distance 1.
Four trials are trained at a time, an epoch of each in turns, and an epoch costs the same whatever the model.

Ours are the samplers and pruners as the study has them, in an Optuna study in memory. Rivals are Ray's own OptunaSearch
and AsyncHyperBandScheduler with the defaults that they come with, called in the order in which Ray Tune's controller
calls them; and random search, which trains everything to the end. The accuracy that a rival has at the end of its 64
trials is the final one of the configuration that it would return: for Ray Tune, the one with the best last result.
A ratio is the epochs that ours needs until a trial that ran to its end is as accurate, over all epochs of the rival;
the figure is the median over seeds, in which a search that never gets there counts as infinite.

The curves come in two halves, every other configuration: defaults are chosen by the first, in a table of all pairs,
and the ratios in the JSON line are of the second, which had no part in the choice.
"""

import argparse
import concurrent.futures
import functools
import json
import math
import multiprocessing
import os
import warnings
from dataclasses import dataclass, field
from statistics import median
from types import SimpleNamespace
from typing import Any, Final, Protocol

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from rich.table import Table

from search.samplers import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS, SAMPLERS, for_space
from search.shares import share_of
from tests.bench.curves import EPOCHS, Curves, space
from trainer import cli

NUM_TRIALS: Final = 64
CONCURRENT: Final = 4
BUDGET: Final = NUM_TRIALS * EPOCHS  # epochs of a search that trains everything to the end
MOST_TRIALS: Final = 128
MARKS: Final = (100, 200, 300, 450, 700, 1000, BUDGET)  # epochs at which the best so far is shown


class Replay:
    """The recorded configurations, or half of them, in place of training."""

    def __init__(self, half: int | None = None) -> None:
        curves, every = Curves.read(), slice(half, None, None if half is None else 2)
        self._distributions = space().distributions
        self.accuracies = np.nan_to_num(curves.accuracies[every])
        self._points = np.array([self._place(params) for params in curves.params[every]])

    def _place(self, params: dict[str, Any]) -> np.ndarray:
        """In a space where the squared distance of two choices is 1."""
        parts = []
        for name, item in self._distributions.items():
            if isinstance(item, CategoricalDistribution):
                parts += [math.sqrt(0.5) * (params[name] == choice) for choice in item.choices]
            else:
                parts.append(share_of(item, params[name]))
        return np.array(parts)

    def nearest(self, params: dict[str, Any]) -> int:
        """Row of the recorded configuration that stands for this one."""
        return int(np.square(self._points - self._place(params)).sum(axis=1).argmin())


class Search(Protocol):
    """Decides what to try and what to stop. Trials are named by their numbers."""

    def start(self, number: int) -> dict[str, Any]:
        """Parameters of the next trial."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Whether the trial should stop after this epoch."""

    def end(self, number: int, epoch: int, accuracy: float) -> None:
        """The trial has stopped, or done all epochs."""


class Ours:
    """A sampler and a pruner, as search.study uses them."""

    def __init__(self, sampler: str, pruner: str, seed: int) -> None:
        self._space = space()
        self._study = optuna.create_study(
            study_name=str(seed),
            sampler=for_space(sampler, self._space, seed),
            pruner=PRUNERS[pruner](EPOCHS),
            direction="maximize",
        )
        self._trials: dict[int, optuna.Trial] = {}

    def start(self, number: int) -> dict[str, Any]:
        trial = self._trials[number] = self._study.ask()
        self._space.suggest(trial)
        return trial.params

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        trial = self._trials[number]
        trial.report(accuracy, epoch)
        return epoch < EPOCHS and trial.should_prune()

    def end(self, number: int, epoch: int, accuracy: float) -> None:
        is_complete = epoch == EPOCHS
        state = optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.PRUNED
        self._study.tell(self._trials.pop(number), accuracy if is_complete else None, state=state)


class RayTune:
    """Ray's OptunaSearch and ASHA with their defaults."""

    def __init__(self, seed: int) -> None:
        its_space = space()

        def define(trial: optuna.Trial) -> None:
            its_space.suggest(trial)

        self._searcher = OptunaSearch(define, metric="val_accuracy", mode="max", seed=seed)
        self._asha = AsyncHyperBandScheduler("training_iteration", "val_accuracy", "max", max_t=EPOCHS)
        self._trials: dict[int, Any] = {}

    def start(self, number: int) -> dict[str, Any]:
        params = self._searcher.suggest(str(number))
        assert params is not None
        self._trials[number] = SimpleNamespace(trial_id=str(number))
        self._asha.on_trial_add(None, self._trials[number])
        return params

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        result = {"training_iteration": epoch, "val_accuracy": accuracy}
        if self._asha.on_trial_result(None, self._trials[number], result) == TrialScheduler.STOP:
            return True
        self._searcher.on_trial_result(str(number), result)
        return False

    def end(self, number: int, epoch: int, accuracy: float) -> None:
        result = {"training_iteration": epoch, "val_accuracy": accuracy}
        self._asha.on_trial_complete(None, self._trials.pop(number), result)
        self._searcher.on_trial_complete(str(number), result)


@dataclass
class Log:
    """What a search came to."""

    epochs: int = 0
    complete: list[tuple[int, float]] = field(default_factory=list)
    """Epochs spent when a trial had done all of its own, and its accuracy"""
    last: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Of each trial: the recorded configuration that it was, and its last accuracy"""

    def needed(self, accuracy: float) -> float:
        """Epochs until a complete trial was as accurate; infinite if none was."""
        return min((epochs for epochs, its in self.complete if its >= accuracy), default=math.inf)

    def best(self, epochs: int) -> float:
        """Accuracy of the best complete trial after so many epochs; 0 if there is none."""
        return max((its for spent, its in self.complete if spent <= epochs), default=0.0)

    def returned(self, replay: Replay) -> float:
        """Final accuracy of the configuration with the best last result."""
        row, _ = max(self.last.values(), key=lambda item: item[1])
        return float(replay.accuracies[row, -1])


def play(search: Search, replay: Replay, trials: int, goal: float = math.inf) -> Log:
    """Search until so many trials, or the budget, or the goal is met."""
    log = Log()
    running: dict[int, int] = {}  # epochs done
    started = 0
    while log.epochs < BUDGET and log.best(BUDGET) < goal and (running or started < trials):
        while len(running) < CONCURRENT and started < trials:
            log.last[started] = replay.nearest(search.start(started)), 0.0
            running[started] = 0
            started += 1
        for number in list(running):
            running[number] = epoch = running[number] + 1
            row = log.last[number][0]
            accuracy = float(replay.accuracies[row, epoch - 1])
            log.last[number] = row, accuracy
            log.epochs += 1
            if search.report(number, epoch, accuracy) or epoch == EPOCHS:
                search.end(number, epoch, accuracy)
                del running[number]
                if epoch == EPOCHS:
                    log.complete.append((log.epochs, accuracy))
    return log


@functools.cache
def _replay(half: int | None) -> Replay:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", "Define-by-run function", UserWarning)  # a busy machine makes Ray say so
    return Replay(half)


@functools.cache
def rivals(half: int | None, seed: int) -> tuple[Log, Log]:
    """Plain Ray Tune, and random search, of 64 trials each."""
    replay = _replay(half)
    ray = play(RayTune(seed), replay, NUM_TRIALS)
    return ray, play(Ours("random", "none", seed + 1000), replay, NUM_TRIALS)  # not the very trials of ours


def compare(pair: tuple[str, str], half: int | None, seed: int, until: str) -> dict[str, Any]:
    """One search of ours beside its rivals: ratios, and the best so far at each mark.

    ``until`` says how long ours goes on: to the "goals", which are the rivals' accuracies, or to the "end".
    """
    replay = _replay(half)
    ray, random = rivals(half, seed)
    goals = {"ray": ray.returned(replay), "random": random.best(BUDGET)}
    ours = play(Ours(*pair, seed), replay, MOST_TRIALS, max(goals.values()) if until == "goals" else math.inf)
    return {
        "ray": ours.needed(goals["ray"]) / ray.epochs,
        "random": ours.needed(goals["random"]) / random.epochs,
        "ray_accuracy": goals["ray"],
        "ray_epochs": ray.epochs,
        "random_accuracy": goals["random"],
        "best": [ours.best(mark) for mark in MARKS],
        "random_best": [random.best(mark) for mark in MARKS],
    }


def table_of_pairs(pairs: list[tuple[str, str]], results: dict[tuple[str, str], list[dict[str, Any]]]) -> Table:
    table = Table(title="first half of the curves: epochs needed, over those of the rival; median (quartiles)")
    for heading in ("sampler", "pruner", "to Ray's accuracy", "to random search's"):
        table.add_column(heading, justify="left" if heading in ("sampler", "pruner") else "right")
    for pair in sorted(pairs, key=lambda pair: _quantile([item["ray"] for item in results[pair]], 0.5)):
        cells = [_quartiles([item[rival] for item in results[pair]]) for rival in ("ray", "random")]
        table.add_row(*pair, *cells)
    return table


def _median(results: list[dict[str, Any]], rival: str) -> float | None:
    """Of the ratio; None, as JSON has no infinity, if half of the searches did not get there."""
    middle = _quantile([item[rival] for item in results], 0.5)
    return round(middle, 3) if math.isfinite(middle) else None


def _quantile(values: list[float], share: float) -> float:
    """A value that there is: between infinity and another there is no mean."""
    return float(np.quantile(values, share, method="higher"))


def _quartiles(values: list[float]) -> str:
    low, middle, high = (_quantile(values, share) for share in (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table_of_marks(results: list[dict[str, Any]]) -> Table:
    table = Table(title="second half: best accuracy of a trial that ran to its end, median over seeds")
    for heading in ("epochs spent", "ours", "random search"):
        table.add_column(heading, justify="right")
    for index, mark in enumerate(MARKS):
        table.add_row(
            str(mark), *(f"{median(item[of][index] for item in results):.3f}" for of in ("best", "random_best"))
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--pair-seeds", type=int, help="seeds of the table of pairs (default: as many)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="searches at a time")
    parser.add_argument("--pairs", help="sampler/pruner, separated by commas (default: all)")
    options = parser.parse_args()
    default = DEFAULT_SAMPLER, DEFAULT_PRUNER
    pairs = [(sampler, pruner) for sampler in SAMPLERS for pruner in PRUNERS]
    if options.pairs is not None:
        pairs = [tuple(pair.split("/")) for pair in options.pairs.split(",")]
    tasks = [(pair, 0, seed, "goals") for seed in range(options.pair_seeds or options.seeds) for pair in pairs]
    tasks += [(default, half, seed, "end") for half in (1, None) for seed in range(options.seeds)]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, cli.follow_parent) as pool:
        done = pool.map(compare, *zip(*tasks, strict=True))
        results = list(cli.track(done, len(tasks), "searches"))
    of_pairs = {pair: [r for task, r in zip(tasks, results, strict=True) if task[:2] == (pair, 0)] for pair in pairs}
    second, whole = ([r for t, r in zip(tasks, results, strict=True) if t[1] == half] for half in (1, None))
    cli.console.print(table_of_pairs(pairs, of_pairs))
    cli.console.print(table_of_marks(second))
    for name, part in (("second half", second), ("all curves", whole)):
        cli.console.print(
            f"{name}: Ray Tune returns {median(item['ray_accuracy'] for item in part):.3f} after "
            f"{median(item['ray_epochs'] for item in part):.0f} epochs, random search "
            f"{median(item['random_accuracy'] for item in part):.3f} after {BUDGET}; {'/'.join(default)} is there in "
            f"{_quartiles([item['ray'] for item in part])} and {_quartiles([item['random'] for item in part])} of them",
            soft_wrap=True,
        )
    report = {
        "bench": "search",
        "seeds": options.seeds,
        "pair_seeds": options.pair_seeds or options.seeds,
        "curves": len(_replay(None).accuracies),
        "default": "/".join(default),
        "epochs_ratio_to_ray_optuna_asha": _median(second, "ray"),
        "epochs_ratio_to_random": _median(second, "random"),
        "on_all_curves": [_median(whole, "ray"), _median(whole, "random")],
        "pairs_on_first_half": {
            "/".join(pair): [_median(of_pairs[pair], "ray"), _median(of_pairs[pair], "random")] for pair in pairs
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
