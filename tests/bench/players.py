"""The searches that tests.bench.search compares: ours, rivals in their own environments, Ray Tune and random search."""

import functools
import json
import subprocess
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from search.decide.samplers import default_sampler
from search.decide.stopping import DEFAULT_PRUNER, Decision
from search.decide.unit_cube import at
from search.problem.objective import Objective
from search.problem.space import Space
from tests.bench import rivals_env
from tests.bench.curves import EPOCHS
from tests.bench.play import BUDGET, Log, Search, play
from tests.bench.problems import Problem
from tests.outcomes import metrics_of, result_of
from tests.search.studies import open_study

OUR_TRIALS: Final = 256  # more than BUDGET epochs are enough for: epochs end a search
PROGRAM: Final = Path(__file__).with_name("search_rivals.py")
NO_CONTROLLER: Any = None  # ASHA asks it nothing


class Ours:
    """The study of search.decide.study, in a folder of its own."""

    def __init__(self, space: Space, seed: int, sampler: str, pruner: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        asked: dict[str, Any] = {
            "trials": OUR_TRIALS,
            "seed": seed,
            "sampler": sampler,
            "pruner": pruner,
            "name": str(seed),
        }
        self._study = open_study(Path(self._folder.name), space, **asked)

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        self._study.give_up()
        assignment = self._study.ask()
        return None if assignment is None else (assignment.number, assignment.params, EPOCHS)

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        metrics = metrics_of(epoch, accuracy)
        verdict = self._study.report(number, metrics)
        if epoch == EPOCHS:
            self._study.complete(number, result_of(EPOCHS, accuracy))
        elif verdict is Decision.STOP:
            self._study.prune(number, metrics)
        return verdict is Decision.CONTINUE


class RayTune:
    """Ray's OptunaSearch and ASHA with their defaults, called in the order in which Ray Tune's controller does."""

    def __init__(self, space: Space, seed: int, trials: int) -> None:
        def define(trial: optuna.Trial) -> None:
            space.suggest(trial)

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", "Define-by-run function", UserWarning)  # a busy machine makes Ray say so
        self._searcher = OptunaSearch(define, metric="val_accuracy", mode="max", seed=seed)
        self._asha = AsyncHyperBandScheduler("training_iteration", "val_accuracy", "max", max_t=EPOCHS)
        self._trials: dict[int, Any] = {}
        self._started, self._num_trials = 0, trials

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        if self._started == self._num_trials:
            return None
        number, self._started = self._started, self._started + 1
        params = self._searcher.suggest(str(number))
        assert params is not None
        self._trials[number] = SimpleNamespace(trial_id=str(number))
        self._asha.on_trial_add(NO_CONTROLLER, self._trials[number])
        return number, params, EPOCHS

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        result = {"training_iteration": epoch, "val_accuracy": accuracy}
        stops = self._asha.on_trial_result(NO_CONTROLLER, self._trials[number], result) == TrialScheduler.STOP
        if not stops:
            self._searcher.on_trial_result(str(number), result)
        if stops or epoch == EPOCHS:
            self._asha.on_trial_complete(NO_CONTROLLER, self._trials.pop(number), result)
            self._searcher.on_trial_complete(str(number), result)
        return not stops


class RandomSearch:
    """Trains whatever it draws to the end."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._rng, self._started = space, np.random.default_rng(seed), 0

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        number, self._started = self._started, self._started + 1
        items = self._space.distributions.items()
        return number, {name: at(item, float(self._rng.random())) for name, item in items}, EPOCHS

    def report(self, number: int, epoch: int, accuracy: float) -> bool:  # noqa: ARG002
        return True


class Elsewhere:
    """A search of tests/bench/search_rivals.py, in its environment's own process."""

    def __init__(self, environment: str, name: str, space: Space, seed: int) -> None:
        self._name, self._process = name, _process(environment)
        self._ask(begin=name, space=plain(space), epochs=EPOCHS, seed=seed)

    def next(self) -> tuple[int, dict[str, Any], int] | None:
        answer = self._ask(next=True)
        return answer["number"], answer["params"], answer["until"]

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        return bool(self._ask(report=number, epoch=epoch, accuracy=accuracy)["continues"])

    def _ask(self, **request: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        if not (line := stdout.readline()):
            raise RuntimeError(f"{self._name}: ended with {self._process.wait()} when asked {request}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@functools.cache
def _process(environment: str) -> "subprocess.Popen[str]":
    """It ends with this one, as its input does."""
    command = [str(rivals_env.make(environment)), "-P", str(PROGRAM)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def plain(space: Space) -> dict[str, dict[str, Any]]:
    """A space as tests/bench/search_rivals.py takes it."""
    found: dict[str, dict[str, Any]] = {}
    for name, item in space.distributions.items():
        match item:
            case CategoricalDistribution(choices=choices):
                found[name] = {"choices": list(choices)}
            case IntDistribution(low=low, high=high, log=log, step=1):
                found[name] = {"type": "int", "low": low, "high": high, "log": log}
            case FloatDistribution(low=low, high=high, log=log, step=None):
                found[name] = {"type": "float", "low": low, "high": high, "log": log}
            case _:
                raise TypeError(f"no rival knows {item}")
    return found


RAY: Final = f"ray {version('ray')}, optuna {version('optuna')}"
ENVIRONMENTS: Final = {
    "syne-asha": "syne-tune",
    "syne-pasha": "syne-tune",
    "syne-mobster": "syne-tune",
    "neps-hyperband": "neps",
    "dehb": "dehb",
}
RIVALS: Final = (*ENVIRONMENTS, "ray-optuna-asha", "random")
RAY_TO_ITS_END: Final = "ray-optuna-asha-64"
"""Ray Tune's search of 64 trials, to its end: not one of RIVALS, it has no budget of epochs."""


def versions(rival: str) -> str:
    """What a rival's outcomes depend on, beside the problem."""
    if rival in ENVIRONMENTS:
        return rivals_env.version(ENVIRONMENTS[rival])
    return {"random": "1"}.get(rival, RAY)


def play_rival(rival: str, problem: Problem, seed: int) -> Log:
    """One search by a rival, one of RIVALS or RAY_TO_ITS_END."""
    if rival == RAY_TO_ITS_END:
        return play(RayTune(problem.space, seed, 64), problem, seed, float("inf"))
    search: Search
    match rival:
        case "ray-optuna-asha":
            search = RayTune(problem.space, seed, BUDGET)
        case "random":
            search = RandomSearch(problem.space, seed)
        case _:
            search = Elsewhere(ENVIRONMENTS[rival], rival, problem.space, seed)
    return play(search, problem, seed)


def our_default(problem: Problem) -> tuple[str, str]:
    """The sampler and the pruner that search.run has for a space."""
    return default_sampler(problem.space, Objective()), DEFAULT_PRUNER


def play_ours(problem: Problem, seed: int, sampler: str, pruner: str) -> Log:
    """One search of ours."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return play(Ours(problem.space, seed, sampler, pruner), problem, seed)
