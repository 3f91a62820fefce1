"""How many epochs of training a search needs: samplers and pruners against plain Ray Tune, on recorded learning curves.

    python -m tests.bench.search [--seeds 30] [--pair-seeds 30] [--workers 2] [--pairs tpe/median,...]

Nothing is trained. A trial's accuracies are what a surrogate, fitted to results/reference/curves.parquet (see
tests.bench.record_curves and tests.bench.surrogate), expects of its configuration, plus what it takes for chance in
one of the recorded trainings nearby, its whole curve. So trials scatter and curves cross as real ones do. Four trials
are trained at a time, an epoch of each in turns, and an epoch costs the same whatever the model.

Ours is the study that search.run uses, asked and told as its workers would. Rivals are Ray's own OptunaSearch
and AsyncHyperBandScheduler with the defaults that they come with, called in the order in which Ray Tune's controller
calls them, for 64 trials; and random search, which trains 64 to the end. A search would return the complete trial of
the best last accuracy, Ray Tune the trial of the best last accuracy whether complete or not. What that is worth is its
configuration's expected final accuracy, without the luck that it was chosen for; the same is told of the final
accuracies as observed, luck included. A ratio is the epochs that ours needs until what it would return is worth as
much as what the rival returns at its end, over all epochs of the rival; the figure is the median over seeds, in which
a search that never gets there counts as infinite.

Defaults are chosen by the table of all pairs, whose seeds are not those of the comparison that the JSON line tells of.
"""

import argparse
import concurrent.futures
import functools
import json
import math
import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, Final, Protocol

import numpy as np
import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from rich.table import Table

from search.decide.samplers import SAMPLERS, default_sampler
from search.decide.stopping import DEFAULT_PRUNER, STOPPING_RULES, Decision
from search.problem.objective import Objective
from tests.bench.curves import EPOCHS, RECORDED, Curves
from tests.bench.surrogate import Surrogate
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study
from trainer.common import cli
from trainer.common.console import console, for_tables, track
from trainer.common.processes import follow_parent

NUM_TRIALS: Final = 64
CONCURRENT: Final = 4
BUDGET: Final = NUM_TRIALS * EPOCHS  # epochs of a search that trains everything to the end
MOST_TRIALS: Final = 128
NEAR: Final = 16  # recorded trainings, one of which lends its luck
FIRST_PAIR_SEED: Final = 1000  # seeds from here on for choosing, those from 0 on for the figures
OURS, RANDOM = 200_000, 100_000  # added to a seed, so that no two searches have the same luck
RIVALS: Final = ("ray", "random")
MARKS: Final = (100, 200, 300, 450, 700, 1000, BUDGET)  # epochs at which the best so far is shown


@dataclass(frozen=True)
class Training:
    """One trial's, to its end."""

    accuracies: np.ndarray
    """float64 [EPOCHS], as they would be observed"""
    worth: float
    """The final accuracy that its configuration has on average"""


class Replay:
    """Stands in for training: what the recorded configurations tell of any other."""

    def __init__(self) -> None:
        curves = Curves.read(RECORDED.path)
        points = np.array([RECORDED.point(params) for params in curves.params])
        self.surrogate = Surrogate.fit(points, np.nan_to_num(curves.accuracies))
        self._chances = self.surrogate.curves - self.surrogate.predict(points)

    def train(self, params: dict[str, Any], seed: int, number: int) -> Training:
        """How the trial of this number goes in a search of this seed."""
        place = RECORDED.point(params)
        expected = self.surrogate.predict(place[None])[0]
        near = self.surrogate.nearest(place, NEAR)
        luck = self._chances[np.random.default_rng((seed, number)).choice(near)]
        return Training(np.clip(expected + luck, 0.0, 1.0), float(expected[-1]))


class Search(Protocol):
    """Decides what to try and what to stop. Trials are named by their numbers."""

    def next(self) -> tuple[int, dict[str, Any]] | None:
        """A trial to start, or one that waited to go on with, and its parameters; None if there is none at present."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Whether the trial goes on; after its last epoch it has ended."""


class Ours:
    """The study of search.decide.study, in a folder of its own."""

    def __init__(self, sampler: str, pruner: str, seed: int, trials: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._study = open_study(
            Path(self._folder.name),
            RECORDED.space,
            trials=trials,
            seed=seed,
            sampler=sampler,
            pruner=pruner,
            name=str(seed),
        )

    def next(self) -> tuple[int, dict[str, Any]] | None:
        self._study.give_up()
        assignment = self._study.ask()
        return None if assignment is None else (assignment.number, assignment.params)

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        metrics = metrics_of(epoch, accuracy)
        verdict = self._study.report(number, metrics)
        if epoch == EPOCHS:
            self._study.complete(number, result_of(EPOCHS, accuracy))
        elif verdict is Decision.STOP:
            self._study.prune(number, metrics)
        return verdict is Decision.CONTINUE


NO_CONTROLLER: Any = None  # ASHA asks it nothing


class RayTune:
    """Ray's OptunaSearch and ASHA with their defaults."""

    def __init__(self, seed: int, trials: int) -> None:
        its_space = RECORDED.space

        def define(trial: optuna.Trial) -> None:
            its_space.suggest(trial)

        self._searcher = OptunaSearch(define, metric="val_accuracy", mode="max", seed=seed)
        self._asha = AsyncHyperBandScheduler("training_iteration", "val_accuracy", "max", max_t=EPOCHS)
        self._trials: dict[int, Any] = {}
        self._started, self._num_trials = 0, trials

    def next(self) -> tuple[int, dict[str, Any]] | None:
        if self._started == self._num_trials:
            return None
        number, self._started = self._started, self._started + 1
        params = self._searcher.suggest(str(number))
        assert params is not None
        self._trials[number] = SimpleNamespace(trial_id=str(number))
        self._asha.on_trial_add(NO_CONTROLLER, self._trials[number])
        return number, params

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        result = {"training_iteration": epoch, "val_accuracy": accuracy}
        stops = self._asha.on_trial_result(NO_CONTROLLER, self._trials[number], result) == TrialScheduler.STOP
        if not stops:
            self._searcher.on_trial_result(str(number), result)
        if stops or epoch == EPOCHS:
            self._asha.on_trial_complete(NO_CONTROLLER, self._trials.pop(number), result)
            self._searcher.on_trial_complete(str(number), result)
        return not stops


@dataclass
class Log:
    """What a search came to."""

    epochs: int = 0
    complete: list[tuple[int, Training]] = field(default_factory=list)
    """Epochs spent when a trial had done all of its own, and that trial"""
    last: dict[int, tuple[float, Training]] = field(default_factory=dict)
    """Of each trial: its last accuracy"""

    def incumbents(self) -> list[tuple[int, Training]]:
        """The complete trials that were the best until then, and the epochs spent."""
        best: list[tuple[int, Training]] = []
        for epochs, training in self.complete:
            if not best or training.accuracies[-1] > best[-1][1].accuracies[-1]:
                best.append((epochs, training))
        return best

    def needed(self, goal: Training) -> tuple[float, float]:
        """Epochs until a search would return something worth as much, and until it has observed as much."""
        steps = self.incumbents()
        worth = min((epochs for epochs, its in steps if its.worth >= goal.worth), default=math.inf)
        seen = min((epochs for epochs, its in steps if its.accuracies[-1] >= goal.accuracies[-1]), default=math.inf)
        return worth, seen

    def best(self, epochs: int) -> float:
        """Worth of what would be returned after so many epochs; 0 if there is nothing."""
        return next((its.worth for spent, its in reversed(self.incumbents()) if spent <= epochs), 0.0)

    def returned(self) -> Training:
        """The trial with the best last accuracy, complete or not."""
        return max(self.last.values(), key=lambda item: item[0])[1]


def play(search: Search, replay: Replay, seed: int, budget: float = BUDGET) -> Log:
    """Search until no trial is left, or so many epochs are spent."""
    log = Log()
    known: dict[int, Training] = {}
    done: dict[int, int] = {}  # epochs
    running: list[int] = []
    while log.epochs < budget:
        while len(running) < CONCURRENT and (found := search.next()) is not None:
            number, params = found
            if number not in known:
                known[number], done[number] = replay.train(params, seed, number), 0
            running.append(number)
        if not running:
            break
        for number in running.copy():
            done[number] += 1
            training, epoch = known[number], done[number]
            accuracy = float(training.accuracies[epoch - 1])
            log.last[number] = accuracy, training
            log.epochs += 1
            if not search.report(number, epoch, accuracy) or epoch == EPOCHS:
                running.remove(number)
            if epoch == EPOCHS:
                log.complete.append((log.epochs, training))
    return log


@functools.cache
def _replay() -> Replay:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", "Define-by-run function", UserWarning)  # a busy machine makes Ray say so
    return Replay()


@functools.cache
def ray_tune(seed: int) -> Log:
    replay = _replay()  # which also silences Optuna
    return play(RayTune(seed, NUM_TRIALS), replay, seed)


@functools.cache
def random_search(seed: int) -> Log:
    return play(Ours("random", "none", seed + RANDOM, NUM_TRIALS), _replay(), seed + RANDOM)  # other trials


def defaults() -> tuple[str, str]:
    """What the space of the recorded trainings is searched with."""
    return default_sampler(RECORDED.space, Objective()), DEFAULT_PRUNER


def try_pair(pair: tuple[str, str], seed: int) -> tuple[float, float, int]:
    """One search of ours until twice the epochs of Ray Tune's: the two ratios, and its complete trials at once."""
    ray = ray_tune(seed)
    ours = play(Ours(*pair, seed, MOST_TRIALS), _replay(), seed + OURS, 2 * ray.epochs)
    worth, seen = ours.needed(ray.returned())
    return worth / ray.epochs, seen / ray.epochs, sum(epochs <= ray.epochs for epochs, _ in ours.complete)


def compare(seed: int) -> dict[str, Any]:
    """One search by the defaults beside its rivals: ratios, and the best so far at each mark."""
    rivals = dict(zip(RIVALS, (ray_tune(seed), random_search(seed)), strict=True))
    ours = play(Ours(*defaults(), seed, MOST_TRIALS), _replay(), seed + OURS)
    found: dict[str, Any] = {}
    for name, log in rivals.items():
        goal = log.returned()
        found[f"{name}_goal"], found[f"{name}_epochs"] = goal.worth, log.epochs
        found[name], found[f"{name}_observed"] = (epochs / log.epochs for epochs in ours.needed(goal))
    return found | {"best": [[log.best(mark) for log in (ours, *rivals.values())] for mark in MARKS]}


def table_of_pairs(results: dict[tuple[str, str], list[tuple[float, float, int]]]) -> Table:
    table = Table(title="epochs until as good as Ray Tune at its end, over its epochs; median (quartiles)")
    for heading in ("sampler", "pruner", "worth as much", "observed as much", "complete by then"):
        table.add_column(heading, justify="left" if heading in ("sampler", "pruner") else "right")
    for pair in sorted(results, key=lambda pair: _quantile([item[0] for item in results[pair]], 0.5)):
        worth, seen, complete = zip(*results[pair], strict=True)
        table.add_row(*pair, _quartiles(worth), _quartiles(seen), f"{median(complete):.0f}")
    return table


def _median(values: Iterable[float]) -> float | None:
    """Of ratios; None, as JSON has no infinity, if half of the searches did not get there."""
    middle = _quantile(list(values), 0.5)
    return round(middle, 3) if math.isfinite(middle) else None


def _quantile(values: Sequence[float], share: float) -> float:
    """A value that there is: between infinity and another there is no mean."""
    return float(np.quantile(values, share, method="higher"))


def _quartiles(values: Sequence[float]) -> str:
    low, middle, high = (_quantile(values, share) for share in (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table_of_marks(results: list[dict[str, Any]]) -> Table:
    table = Table(title="worth of the best complete trial, mean over seeds")
    for heading in ("epochs spent", "ours", "Ray Tune", "random search"):
        table.add_column(heading, justify="right")
    for index, mark in enumerate(MARKS):
        means = np.mean([item["best"][index] for item in results], axis=0)
        table.add_row(str(mark), *(f"{mean:.3f}" for mean in means))
    return table


def told(results: list[dict[str, Any]]) -> str:
    """What the comparison came to, and how far the surrogate can be believed."""
    surrogate = _replay().surrogate
    final = surrogate.curves[:, -1]
    error = np.square(final - surrogate.left_out()[:, -1]).mean()
    parts = [
        f"{rival} returns {median(item[f'{rival}_goal'] for item in results):.3f} after "
        f"{median(item[f'{rival}_epochs'] for item in results):.0f} epochs; the default is there in "
        f"{_quartiles([item[rival] for item in results])} of them, and has observed as much in "
        f"{_quartiles([item[f'{rival}_observed'] for item in results])}"
        for rival in RIVALS
    ]
    fit = (
        f"left-out final accuracies within {math.sqrt(error):.3f} (root mean square), {1 - error / final.var():.0%} of "
    )
    return f"{len(final)} curves, {fit}their variance explained. {'. '.join(parts)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--pair-seeds", type=int, help="seeds of the table of pairs (default: as many)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="searches at a time")
    parser.add_argument("--pairs", help="sampler/pruner, separated by commas (default: all)")
    options = parser.parse_args()
    pairs = [(sampler, pruner) for sampler in SAMPLERS for pruner in STOPPING_RULES]
    if options.pairs is not None:
        pairs = [tuple(pair.split("/")) for pair in options.pairs.split(",")]
    pair_seeds = range(FIRST_PAIR_SEED, FIRST_PAIR_SEED + (options.pair_seeds or options.seeds))
    tries = [(pair, seed) for seed in pair_seeds for pair in pairs]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        tried = list(track(pool.map(try_pair, *zip(*tries, strict=True)), len(tries), "pairs"))
        compared = list(track(pool.map(compare, range(options.seeds)), options.seeds, "comparisons"))
    of_pairs = {
        pair: [result for (its_pair, _), result in zip(tries, tried, strict=True) if its_pair == pair] for pair in pairs
    }
    for_tables().print(table_of_pairs(of_pairs), table_of_marks(compared))
    console.print(told(compared), soft_wrap=True)
    report = {
        "bench": "search",
        "seeds": options.seeds,
        "pair_seeds": len(pair_seeds),
        "curves": len(Curves.read(RECORDED.path).params),
        "default": "/".join(defaults()),
        "epochs_ratio_to_ray_optuna_asha": _median(item["ray"] for item in compared),
        "epochs_ratio_to_random": _median(item["random"] for item in compared),
        "observed_ratio_to_ray_optuna_asha": _median(item["ray_observed"] for item in compared),
        "observed_ratio_to_random": _median(item["random_observed"] for item in compared),
        "pairs": {
            "/".join(pair): [_median(item[place] for item in of_pairs[pair]) for place in (0, 1)] for pair in pairs
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
