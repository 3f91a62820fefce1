"""What the rivals select. Runs in their own environment (tests.bench.rivals_env) and imports nothing of ours.

    results/rivals-env/select/bin/python -P tests/bench/rivals.py TASKS.json

TASKS.json lists folders of matrices float16 [N, signs], one .npy a candidate, with labels.npy, and what to select from
each; answers go to standard output, as JSON. AutoGluon's TabularPredictor keeps to an infer_limit by dropping
candidates, first those over it alone, then the weakest, until the sum of what is left is below it (autogluon.tabular's
abstract_trainer.py, _filter_base_models_via_infer_limit; its head-room of 5% is left out, in its favour), and runs
EnsembleSelection on them, of 25 rounds. DeepHyper knows no budget: its GreedySelector gets the same filter.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 25  # AutoGluon's GreedyWeightedEnsembleModel


def within_limit(scores: np.ndarray, costs: np.ndarray, limit: float) -> np.ndarray:
    """Indices of the candidates that AutoGluon's filter keeps."""
    kept = [k for k in np.argsort(scores, kind="stable") if costs[k] < limit]
    while sum(costs[k] for k in kept) >= limit:
        kept.pop(0)
    return np.sort(np.array(kept, np.int64))


def autogluon(probs: list[np.ndarray], labels: np.ndarray, metric: str) -> dict[int, float]:
    """Weights of EnsembleSelection by index."""
    from autogluon.core.metrics import accuracy, log_loss
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    scorer = {"accuracy": accuracy, "log_loss": log_loss}[metric]
    selection = EnsembleSelection(ensemble_size=ROUNDS, problem_type="multiclass", metric=scorer)
    selection.fit(probs, labels)
    return {k: float(selection.weights_[k]) for k in np.flatnonzero(selection.weights_).tolist()}


def deephyper(probs: list[np.ndarray], labels: np.ndarray, metric: str) -> dict[int, float]:
    """Weights of GreedySelector by index."""
    from deephyper.ensemble.aggregator import MixedCategoricalAggregator
    from deephyper.ensemble.loss import CategoricalCrossEntropy, ZeroOneLoss
    from deephyper.ensemble.selector import GreedySelector

    loss = {"accuracy": ZeroOneLoss(predict_proba=True), "log_loss": CategoricalCrossEntropy()}[metric]
    most = min(ROUNDS, len(probs))
    selector = GreedySelector(loss, MixedCategoricalAggregator(), k=most, k_init=min(5, most), max_it=ROUNDS)
    if len(probs) == 1:  # which it cannot do
        return {0: 1.0}
    indices, weights = selector.select(labels, probs)
    return {int(k): float(weight) for k, weight in zip(indices, weights, strict=True)}


RULES = {"autogluon": autogluon, "deephyper": deephyper}


def score(matrix: np.ndarray, labels: np.ndarray, metric: str) -> float:
    if metric == "accuracy":
        return float((matrix.argmax(axis=1) == labels).mean())
    return float(np.log(np.maximum(matrix[np.arange(len(labels)), labels], 1e-15)).mean())


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """Weights for each budget of a task, and the seconds that each took, loading and filtering left out."""
    folder = Path(task["folder"])
    labels = np.load(folder / "labels.npy")
    probs = [np.load(path).astype(np.float32) for path in sorted(folder.glob("[0-9]*.npy"))]
    scores = np.array([score(matrix, labels, task["metric"]) for matrix in probs])
    costs = np.array(task["costs"])
    rule = RULES[task["rule"]]
    rule([matrix[:10] for matrix in probs[:2]], labels[:10], task["metric"])  # imports
    weights, seconds = [], []
    for limit in task["limits"]:
        kept = within_limit(scores, costs, float(limit))
        chosen = [probs[k] for k in kept]
        began = time.perf_counter()
        found = rule(chosen, labels, task["metric"]) if chosen else {}
        seconds.append(time.perf_counter() - began)
        weights.append([found.get(place, 0.0) for place in _places(kept, len(costs))])
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024 / 1e9
    return {"weights": weights, "seconds": seconds, "peak_gb": peak, "rounds": ROUNDS}


def _places(kept: np.ndarray, count: int) -> list[int]:
    """Where each candidate stands among those kept; -1 for the others."""
    places = np.full(count, -1)
    places[kept] = np.arange(len(kept))
    return places.tolist()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    print(json.dumps([answer(task) for task in json.loads(Path(sys.argv[1]).read_text())]))
