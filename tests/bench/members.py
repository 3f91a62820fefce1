"""What --objective ensemble is worth: ensembles of its trials, against those of searches for single accuracy.

    python -m tests.bench.members [--seeds 100] [--trials 32] [--budget 8models] [--runs results/curves]

Replays the runs that tests.bench.record_curves left, with their predictions (all of them, if it was given --again).
Searches of as many trials each choose among these: of what the sampler proposes it is the nearest run that was not
tried yet that is tried, and that one's own parameters that are learned from. Nothing is stopped early. A search sees
four of the six held-out participants, another four every seed, in turns, and so does the selection from its trials,
which is ensemble.selection.greedy's, by accuracy and likelihood, under the same budget. What is told is the accuracy of
that ensemble on 48 other people of the same signs, who are generated for this and predicted once. Differences are
between searches of the same seed, standard errors their scatter over seeds: over other searches, not over other
people or runs.
"""

import argparse
import concurrent.futures
import functools
import itertools
import json
import math
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import pyarrow.parquet as pq
import torch
from optuna.trial import create_trial
from rich.table import Table

from ensemble.evaluation.unseen import ensemble_probs
from ensemble.selection.greedy import select
from ensemble.selection.scores import Blend
from search.decide.samplers import for_space
from search.problem.members import MemberBudget, Members, costs_of
from search.record.request import VALIDATION
from tests.bench.curves import NUM_SIGNS, configurations, point, size, space
from trainer.common import cli
from trainer.common.console import console, track
from trainer.common.errors import UserError
from trainer.common.files import atomic_path, sha256, write_bytes
from trainer.common.processes import follow_parent
from trainer.data.batches import Batches
from trainer.data.dataset import PackedDataset
from trainer.data.manifest import MANIFEST
from trainer.data.packing import pack
from trainer.learning.loop import predict
from trainer.metrics import accuracy
from trainer.model.classifier import SignClassifier
from trainer.rundir import WEIGHTS, RunDir
from trainer.synthetic.generate import synthesize

OBJECTIVES: Final = ("accuracy", "ensemble", "random")
SEEN: Final = 4  # people
OTHERS: Final = 48


@dataclass(frozen=True)
class Recorded:
    """The runs, and who the held-out people are."""

    params: list[dict[str, Any]]
    points: np.ndarray
    """float64 [K, D]: the same in the unit cube"""
    probs: np.ndarray
    """float16 [K, N, signs]"""
    sizes: list[int]
    """Parameters of each model"""
    labels: np.ndarray
    participants: np.ndarray
    other_probs: np.ndarray
    """float16 [K, M, signs], of the other people"""
    other_labels: np.ndarray
    other_participants: np.ndarray

    @classmethod
    @functools.cache
    def read(cls, folder: Path) -> "Recorded":
        """Raises UserError if there is nothing. Predicts the other people's sequences if that was not done."""
        runs = {int(path.parent.name): RunDir(path.parent) for path in sorted(folder.glob("runs/*/done.json"))}
        if not runs:
            raise UserError(f"{folder}: holds no runs; make them with: python -m tests.bench.record_curves --again")
        every = configurations(max(runs) + 1)
        params = [every[number] for number in runs]
        validation = pq.read_table(folder / VALIDATION)
        other_probs, others = of_others(folder, list(runs.values()))
        return cls(
            params,
            np.array([point(its) for its in params]),
            np.array([run.read_val_probs() for run in runs.values()]),
            [size(its) for its in params],
            validation["label"].to_numpy(),
            validation["participant_id"].to_numpy(),
            other_probs,
            np.array(others.labels),
            np.array(others.participants),
        )


def of_others(folder: Path, runs: list[RunDir]) -> tuple[np.ndarray, PackedDataset]:
    """What the runs' models give sequences of people who were made for this; kept in the folder."""
    source, packed, kept = folder / "data" / "others", folder / "data" / "packed-others", folder / "other_probs.npy"
    if not (packed / MANIFEST).exists():
        synthesize(source, num_signs=NUM_SIGNS, num_participants=OTHERS, repeats=3)  # other people, but the same signs
        pack(source, packed)
    dataset = PackedDataset.open(packed)
    weights = [sha256(run.path / WEIGHTS) for run in runs]
    asked = json.dumps([dataset.fingerprint, weights])
    stamp = kept.with_suffix(".json")
    if not stamp.exists() or stamp.read_text() != asked:
        probs = [predict_all(run, dataset) for run in track(runs, len(runs), "predicting other people")]
        with atomic_path(kept) as temporary, temporary.open("wb") as file:
            np.save(file, np.array(probs, np.float16))
        write_bytes(stamp, asked.encode())
    return np.load(kept), dataset


def predict_all(run: RunDir, dataset: PackedDataset) -> np.ndarray:
    """Probabilities of all its sequences, float32 [M, signs]."""
    config = run.read_config()
    model = SignClassifier(config.model)
    model.load_state_dict(run.read_weights())
    probs = np.empty((len(dataset), dataset.num_signs), np.float32)
    for fold in range(2):
        batches = Batches(dataset, config.replace(num_folds=2, fold=fold), torch.device("cpu"))
        probs[batches.val_indices] = predict(model.eval(), batches)
    return probs


def search(
    objective: str, recorded: Recorded, rows: np.ndarray, budget: MemberBudget, seed: int, trials: int
) -> list[int]:
    """Which runs a search tries, by their places; it sees the sequences ``rows``."""
    if objective == "random":
        return [int(k) for k in np.random.default_rng(seed).permutation(len(recorded.params))[:trials]]
    members = Members(recorded.labels[rows], budget)
    tried: list[int] = []
    scores: list[float] = []
    for _ in range(trials):
        study = optuna.create_study(direction="maximize", sampler=for_space("tpe", space(), seed))
        for k, score in zip(tried, scores, strict=True):
            study.add_trial(create_trial(params=recorded.params[k], distributions=space().distributions, value=score))
        trial = study.ask()
        space().suggest(trial)
        distances = np.square(recorded.points - point(trial.params)).sum(axis=1)
        distances[tried] = math.inf
        k = int(distances.argmin())
        probs = recorded.probs[k][rows]
        if objective == "accuracy":
            scores.append(accuracy(probs, recorded.labels[rows]))
        else:
            scores.append(members.contribution(probs, recorded.sizes[k]).score)
            members.add(len(tried), probs, recorded.sizes[k])
        tried.append(k)
    return tried


def compare(folder: Path, budget_text: str, trials: int, seed: int) -> list[tuple[float, float]]:
    """For each objective: accuracy of the ensemble on people seen and unseen by the search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recorded, budget = Recorded.read(folder), MemberBudget.parse(budget_text)
    people = np.unique(recorded.participants)
    choices = list(itertools.combinations(people.tolist(), SEEN))
    seen = np.flatnonzero(np.isin(recorded.participants, choices[seed % len(choices)]))
    others = np.arange(len(recorded.other_labels))
    found = []
    for objective in OBJECTIVES:
        tried = search(objective, recorded, seen, budget, seed, trials)
        costs = np.array([costs_of(recorded.sizes[k]) for k in tried])
        pool = Blend.of([recorded.probs[k][seen] for k in tried], recorded.labels[seen])
        counts = select(pool, costs, budget.to_array()).counts
        parts = ((recorded.probs, recorded.labels, seen), (recorded.other_probs, recorded.other_labels, others))
        found.append(
            tuple(
                accuracy(ensemble_probs(list(probs[tried]), counts, rows), labels[rows])
                for probs, labels, rows in parts
            )
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.members")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--budget", default="8models")
    parser.add_argument("--runs", type=Path, default=Path("results/curves"))
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="seeds at a time")
    options = parser.parse_args()
    recorded = Recorded.read(options.runs)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        one = functools.partial(compare, options.runs, options.budget, options.trials)
        results = np.array(list(track(pool.map(one, range(options.seeds)), options.seeds, "seeds")))
    differences = 100 * (results - results[:, :1])[:, :, 1]  # [seeds, objectives], points on people unseen
    errors = differences.std(axis=0, ddof=1) / math.sqrt(options.seeds)
    table = Table(title=f"{options.trials} of {len(recorded.params)} runs, {options.budget}, {options.seeds} seeds")
    for heading in ("--objective", "seen people", "unseen people", "against accuracy, points"):
        table.add_column(heading, justify="left" if heading == "--objective" else "right")
    for place, name in enumerate(OBJECTIVES):
        seen, unseen = results[:, place].mean(axis=0)
        against = "" if place == 0 else f"{differences[:, place].mean():+.2f} +- {errors[place]:.2f}"
        table.add_row(name, f"{seen:.4f}", f"{unseen:.4f}", against)
    console.print(table)
    report = {
        "bench": "members",
        "seeds": options.seeds,
        "trials": options.trials,
        "runs": len(recorded.params),
        "budget": options.budget,
        "unseen_accuracy": dict(zip(OBJECTIVES, results[:, :, 1].mean(axis=0).round(4).tolist(), strict=True)),
        "points_over_accuracy": {
            name: [round(float(differences[:, place].mean()), 2), round(float(errors[place]), 2)]
            for place, name in enumerate(OBJECTIVES[1:], start=1)
        },
    }
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
