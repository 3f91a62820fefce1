"""Whether the accuracy that ensemble.select states holds for people who were never used for anything.

    python -m tests.bench.stated [--splits 10] [--participants 24] [--used 9] [--out results/bench-stated]

Generated signers are dealt into those that are used and those that nothing sees. On the used, the workflow of
docs/kaggle.md is run whole: a search, the best configurations trained with every fold held out, the selection, and its
members trained on all. The files of both selections are then asked for the signs of the unseen. Each split deals anew
and has its own random seed. A finished split is kept in OUT and not run again.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.table import Table

from tests.bench.standings import Difference
from trainer.common import cli
from trainer.common.console import for_tables, track
from trainer.common.files import write_json
from trainer.data.contest import SIGN_MAP, TRAIN_CSV

SIGNS, REPEATS, DATA_SEED = 20, 3, 100
LANDMARKS: Final = "train_landmark_files"
SEARCH: Final = ("--trials", 6, "--epochs", 12, "--max-params", "500K")
REFIT: Final = ("--top", 3, "--seeds", 1, "--epochs", 16, "--folds", "all")
SELECT: Final = ("--budget", "40MB,100ms", "--json")


@dataclass(frozen=True)
class Outcome:
    """Of one split. Accuracies are shares of sequences."""

    split: int
    stated: float
    """On unseen people, by ensemble.select"""
    low: float
    high: float
    """The interval that is stated with it"""
    selected_on: float
    """On the labels that were selected on"""
    truth: float
    """Of the file whose models had people held out, on people whom nothing saw"""
    shipped: float
    """Of the file whose models were trained on all that were used, there"""
    models: int


def deal(raw: Path, folder: Path, participants: list[int]) -> Path:
    """A dataset in the contest's layout of these participants of ``raw`` alone, whose landmark files it links to."""
    folder.mkdir(parents=True)
    table = pd.read_csv(raw / TRAIN_CSV)
    table[table["participant_id"].isin(participants)].to_csv(folder / TRAIN_CSV, index=False)
    shutil.copy(raw / SIGN_MAP, folder / SIGN_MAP)
    (folder / LANDMARKS).symlink_to((raw / LANDMARKS).resolve(), target_is_directory=True)
    return folder


def play(raw: Path, split: int, used: int, folder: Path) -> Outcome:
    """The whole workflow with participants dealt by ``split``."""
    shutil.rmtree(folder, ignore_errors=True)
    people = np.random.default_rng(split).permutation(sorted(set(pd.read_csv(raw / TRAIN_CSV)["participant_id"])))
    seen, unseen = (deal(raw, folder / str(k), part.tolist()) for k, part in enumerate((people[:used], people[used:])))
    packed, results = folder / "packed", ("--results", folder)
    _run("trainer.pack", seen, packed)
    _run("search.run", *SEARCH, "--data", packed, *results, "--name", "a", "--seed", split)
    study, folds, full = folder / "a", folder / "a-folds", folder / "a-folds-ship"
    _run("search.refit", study, *REFIT)
    said = json.loads(_run("ensemble.select", *SELECT, *results[:1], folds))
    truth = _accuracy(folds, unseen)
    _run("search.refit", folds, "--ship-of", folds / "ensemble" / "selection.json")
    _run("ensemble.select", *SELECT, *results[:1], folds, "--ship", full)
    accuracy: dict[str, Any] = said["accuracy"]
    others = accuracy["unseen_participants"]
    return Outcome(
        split=split,
        stated=others["ensemble"],
        low=others["ensemble_interval"][0],
        high=others["ensemble_interval"][1],
        selected_on=accuracy["seen_by_selection"]["ensemble"],
        truth=truth,
        shipped=_accuracy(folds, unseen),
        models=len(said["members"]),
    )


def _accuracy(study: Path, source: Path) -> float:
    out = study / "predictions.csv"
    _run("ensemble.predict", study / "ensemble" / "submission.zip", source, "--out", out)
    table = pd.read_csv(out)
    return float((table["sign"] == table["true_sign"]).mean())


def _run(module: str, *words: object) -> str:
    """Standard output of a command. Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def show(outcomes: list[Outcome]) -> Table:
    """A line a split."""
    table = Table(title="accuracy on unseen people: what is stated, and what is true")
    for name in ("split", "models", "selected on", "stated (interval)", "true", "trained on all", "stated - true"):
        table.add_column(name, justify="right")
    table.add_column("inside")
    for it in outcomes:
        table.add_row(
            *(str(it.split), str(it.models), f"{it.selected_on:.4f}"),
            f"{it.stated:.4f} ({it.low:.4f} to {it.high:.4f})",
            *(f"{it.truth:.4f}", f"{it.shipped:.4f}", f"{100 * (it.stated - it.truth):+.1f}"),
            "yes" if it.low <= it.truth <= it.high else "no",
        )
    return table


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """Mean differences in points with standard errors over splits, and how often the interval holds the truth."""

    def points(ours: str, theirs: str) -> str:
        sides = [{it.split: 100 * getattr(it, name) for it in outcomes} for name in (ours, theirs)]
        found = Difference.of(*sides)
        return f"{found.mean:+.2f} ± {found.error:.2f}"

    return {
        "splits": len(outcomes),
        "stated_minus_true": points("stated", "truth"),
        "selected_on_minus_true": points("selected_on", "truth"),
        "stated_minus_trained_on_all": points("stated", "shipped"),
        "true_is_inside": sum(it.low <= it.truth <= it.high for it in outcomes),
        "trained_on_all_is_inside": sum(it.low <= it.shipped <= it.high for it in outcomes),
    }


def main() -> None:
    parser = cli.Parser("tests.bench.stated", description="Whether what ensemble.select states is true.")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--participants", type=int, default=24)
    parser.add_argument("--used", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("results/bench-stated"))
    options = parser.parse_args()
    out = options.out.resolve()
    raw = out / f"raw-{options.participants}"
    _run(
        *("trainer.synthesize", raw, "--signs", SIGNS, "--repeats", REPEATS),
        *("--participants", options.participants, "--seed", DATA_SEED),
    )
    outcomes = []
    for split in track(range(options.splits), options.splits, "splits"):
        path = out / f"{options.participants}-{options.used}-{split}.json"
        if not path.exists():
            folder = out / "split"
            write_json(path, asdict(play(raw, split, options.used, folder)))
            shutil.rmtree(folder)
        outcomes.append(Outcome(**json.loads(path.read_text())))
    for_tables().print(show(outcomes))
    print(json.dumps({"bench": "stated", **summary(outcomes)}))


if __name__ == "__main__":
    main()
