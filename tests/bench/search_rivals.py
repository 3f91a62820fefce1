"""Rival searches, asked and told by tests.bench.search. Runs in an environment of their own, imports nothing of ours.

    results/rivals-env/syne-tune/bin/python -P tests/bench/search_rivals.py

Requests are lines of JSON on standard input, each answered by one on standard output:

    {"begin": "syne-asha", "space": {NAME: {"low": 0.0, "high": 1.0, "log": false, "type": "float"}, ...},
     "epochs": 27, "seed": 0}                          -> {}             a new search, in place of the last
    {"next": true}                                     -> {"number": 3, "params": {...}, "until": 9}
    {"report": 3, "epoch": 1, "accuracy": 0.4}         -> {"continues": true}

A choice has {"choices": [...]}. "until" is the epoch that a trial is trained to. A number that was there before is a
trial that paused: it goes on from its checkpoint. Each library is asked as it wants to be: Syne Tune's scheduler in the
order in which its Tuner calls it, NePS and DEHB by their own ask and tell. Options are the defaults, with rungs at 1,
3, 9 and 27 epochs.
"""

import json
import logging
import os
import random
import sys
import tempfile
from datetime import datetime
from typing import Any

Space = dict[str, dict[str, Any]]
EPOCH, ACCURACY, MOST_EPOCHS = "epoch", "accuracy", "epochs"
ETA = 3


def _plain(space: Space, config: Any) -> dict[str, Any]:
    """Values of Python's own types, as JSON wants them."""
    kinds = {"int": int, "float": float}
    return {
        name: item["choices"][item["choices"].index(str(config[name]))]
        if "choices" in item
        else kinds[item["type"]](config[name])
        for name, item in space.items()
    }


class SyneTune:
    """One of Syne Tune's baselines, of the kind that pauses trials."""

    def __init__(self, name: str, space: Space, epochs: int, seed: int) -> None:
        from syne_tune import config_space as domains
        from syne_tune.optimizer import legacy_baselines

        def domain(item: dict[str, Any]) -> Any:
            if "choices" in item:
                return domains.choice(item["choices"])
            ways = {"float": (domains.uniform, domains.loguniform), "int": (domains.randint, domains.lograndint)}
            return ways[item["type"]][item["log"]](item["low"], item["high"])

        baseline = {"syne-asha": "ASHA", "syne-pasha": "PASHA", "syne-mobster": "MOBSTER"}[name]
        options: dict[str, Any] = {} if name == "syne-pasha" else {"type": "promotion"}
        self._space = space
        self._scheduler = getattr(legacy_baselines, baseline)(
            {**{key: domain(item) for key, item in space.items()}, MOST_EPOCHS: epochs},
            metric=ACCURACY,
            mode="max",
            resource_attr=EPOCH,
            max_resource_attr=MOST_EPOCHS,
            grace_period=1,
            reduction_factor=ETA,
            random_seed=seed,
            search_options={"debug_log": False},
            **options,
        )
        self._trials: dict[int, Any] = {}

    def next(self) -> tuple[int, dict[str, Any], int]:
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest(len(self._trials))
        if suggestion.spawn_new_trial_id:
            number = len(self._trials)
            self._trials[number] = Trial(number, suggestion.config, datetime.now())
            self._scheduler.on_trial_add(self._trials[number])
        else:
            number = int(suggestion.checkpoint_trial_id)
            self._trials[number].config = suggestion.config
        return number, _plain(self._space, suggestion.config), int(suggestion.config[MOST_EPOCHS])

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        trial, result = self._trials[number], {EPOCH: epoch, ACCURACY: accuracy}
        decision = self._scheduler.on_trial_result(trial, result)
        if decision != "CONTINUE":
            self._scheduler.on_trial_remove(trial)
        elif epoch == trial.config[MOST_EPOCHS]:
            self._scheduler.on_trial_complete(trial, result)
        return decision == "CONTINUE"


class Neps:
    """NePS's Hyperband."""

    def __init__(self, name: str, space: Space, epochs: int, seed: int) -> None:  # noqa: ARG002
        import neps
        import numpy as np
        import torch

        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        torch.set_num_threads(1)

        def parameter(item: dict[str, Any]) -> Any:
            if "choices" in item:
                return neps.HPOCategorical(item["choices"])
            kind = {"float": neps.HPOFloat, "int": neps.HPOInteger}[item["type"]]
            return kind(item["low"], item["high"], log=item["log"])

        fidelity = neps.HPOInteger(1, epochs, is_fidelity=True)
        parameters = {key: parameter(item) for key, item in space.items()}
        self._space = space
        self._neps = neps.AskAndTell(
            neps.algorithms.hyperband(neps.SearchSpace({**parameters, EPOCH: fidelity}), eta=ETA)
        )
        self._numbers: dict[str, int] = {}
        self._running: dict[int, Any] = {}

    def next(self) -> tuple[int, dict[str, Any], int]:
        trial = self._neps.ask()
        number = self._numbers.setdefault(trial.id.partition("_rung_")[0], len(self._numbers))
        self._running[number] = trial
        return number, _plain(self._space, trial.config), int(trial.config[EPOCH])

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        if epoch < self._running[number].config[EPOCH]:
            return True
        self._neps.tell(self._running.pop(number), -accuracy)
        return False


class Dehb:
    """DEHB, on one thread: its jobs are handed out to any number of workers."""

    def __init__(self, name: str, space: Space, epochs: int, seed: int) -> None:  # noqa: ARG002
        import ConfigSpace
        from dehb import DEHB
        from loguru import logger

        logger.remove()

        def parameter(name: str, item: dict[str, Any]) -> Any:
            if "choices" in item:
                return ConfigSpace.Categorical(name, item["choices"])
            kind = {"float": ConfigSpace.Float, "int": ConfigSpace.Integer}[item["type"]]
            return kind(name, (item["low"], item["high"]), log=item["log"])

        configurations = ConfigSpace.ConfigurationSpace(seed=seed)
        configurations.add([parameter(key, item) for key, item in space.items()])
        self._space = space
        self._folder = tempfile.TemporaryDirectory()
        self._dehb = DEHB(
            cs=configurations,
            f=None,
            min_fidelity=1,
            max_fidelity=epochs,
            eta=ETA,
            n_workers=1,
            seed=seed,
            save_freq="end",
            output_path=self._folder.name,
        )
        self._numbers: dict[int, int] = {}
        self._running: dict[int, Any] = {}
        self._known: dict[tuple[int, int], float] = {}
        """Accuracies by trial and epoch"""

    def next(self) -> tuple[int, dict[str, Any], int]:
        while True:
            job = self._dehb.ask()
            until = round(job["fidelity"])
            number = self._numbers.setdefault(int(job["config_id"]), len(self._numbers))
            if (number, until) in self._known:  # it asks for the same again
                self._tell(job, self._known[number, until])
            elif number in self._running:  # a copy of a trial that trains: another training
                number = len(self._numbers)
                self._numbers[-number] = number
                break
            else:
                break
        self._running[number] = job
        return number, _plain(self._space, job["config"]), until

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        self._known[number, epoch] = accuracy
        if epoch < round(self._running[number]["fidelity"]):
            return True
        self._tell(self._running.pop(number), accuracy)
        return False

    def _tell(self, job: Any, accuracy: float) -> None:
        self._dehb.tell(job, {"fitness": -accuracy, "cost": job["fidelity"]})


SEARCHES: dict[str, Any] = {
    "syne-asha": SyneTune,
    "syne-pasha": SyneTune,
    "syne-mobster": SyneTune,
    "neps-hyperband": Neps,
    "dehb": Dehb,
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # whatever a library prints goes to standard error
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    search: Any = None
    for line in sys.stdin:
        asked = json.loads(line)
        if "begin" in asked:
            search = SEARCHES[asked["begin"]](asked["begin"], asked["space"], asked["epochs"], asked["seed"])
            answer: dict[str, Any] = {}
        elif "next" in asked:
            answer = dict(zip(("number", "params", "until"), search.next(), strict=True))
        else:
            answer = {"continues": search.report(asked["report"], asked["epoch"], asked["accuracy"])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
