"""Selection against its rivals, on the same prediction matrices and budgets.

    python -m tests.bench.rivals_env select                             # once: AutoGluon and DeepHyper, apart
    python -m tests.bench.select [--parts heldout ways exact accuracy log_loss large] [--study STUDY ...] [--pools 6]

heldout: accuracy on participants that the selection did not see, in percent; budgets are multiples of what the median
candidate takes. Generated pools of 64 candidates x 60 signs, 3 participants selected on and 10 reported on; and of
--study, two or more, their val_probs, costs in parameters, each selected for on one half of its held-out participants
and reported on the other, ten times. A margin is ours less a rival's, in percentage points, with its standard error
over the pools; of studies over these, as what is drawn from one of them is not independent. ways: ours by other blends
less the default, on other pools. exact: pools of 12, against every affordable ensemble with counts up to 2.
accuracy, log_loss: 64 candidates x 10,000 sequences x 250 signs without a budget, from matrices to counts; ours the
median of 3; a round tries each candidate as one more member. large: 1,000 candidates of that size. The real rivals run
in their own environment; MULTI_GES, which is no package, is ensemble.selection.baselines.weighted, written after its
published description.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from rich.table import Table

from ensemble.selection import baselines, greedy
from ensemble.selection.scores import SCORES
from tests.bench import rivals_env, ways
from tests.bench.exact import mean_gaps
from tests.bench.pools import Problem, generated, large_pool, of_study
from trainer.common import cli
from trainer.common.console import console, track
from trainer.common.errors import UserError

MULTIPLES: Final = (1.0, 2.0, 4.0, 8.0, 16.0)  # of the median cost
PARTS: Final = ("heldout", "ways", "exact", "accuracy", "log_loss", "large")
METRICS: Final = ("accuracy", "log_loss")
PACKAGES: Final = ("autogluon", "deephyper")
DEFAULT: Final = "blend"  # what ensemble.select selects by unless told otherwise


def write(folder: Path, probs: Iterable[np.ndarray], labels: np.ndarray) -> Path:
    """Matrices float16 [N, signs] and labels as the processes of both sides read them."""
    folder.mkdir(parents=True)
    for number, matrix in enumerate(probs):
        np.save(folder / f"{number:04d}.npy", matrix)
    np.save(folder / "labels.npy", labels)
    return folder


def ask_rivals(tasks: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """What tests/bench/rivals.py answers, in its own environment."""
    path = scratch / "tasks.json"
    path.write_text(json.dumps(tasks))
    command = [str(rivals_env.make("select")), "-P", str(Path(__file__).with_name("rivals.py")), str(path)]
    answers: list[dict[str, Any]] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answers


def local_rules(problem: Problem, limits: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Counts by rule for each limit, of ours and of those rivals that are no packages."""
    found: dict[str, list[np.ndarray]] = {}
    costs = problem.costs[:, None]
    for metric, kind in SCORES.items():
        score = kind.of(list(problem.seen), problem.seen_labels)
        for capacity in limits[:, None]:
            ours = greedy.select(score, costs, capacity).counts
            found.setdefault("ours" if metric == DEFAULT else f"ours, by {metric} alone", []).append(ours)
            if metric in METRICS:
                for name, rule in (
                    ("MULTI_GES", baselines.weighted),
                    ("top-k", baselines.top_k),
                    ("single", baselines.single),
                ):
                    found.setdefault(f"{name}, {metric}", []).append(rule(score, costs, capacity))
    return found


def held_out(problems: list[Problem], scratch: Path) -> dict[str, np.ndarray]:
    """Accuracy in percent on unseen participants by rule: [problems, MULTIPLES]; NaN where nothing is selected."""
    limits = [np.median(problem.costs) * np.array(MULTIPLES) for problem in problems]
    tasks = []
    for number, problem in enumerate(problems):
        folder = write(scratch / str(number), problem.seen, problem.seen_labels)
        tasks += [
            {"folder": str(folder), "rule": rule, "metric": metric}
            | {"costs": problem.costs.tolist(), "limits": limits[number].tolist()}
            for rule in PACKAGES
            for metric in METRICS
        ]
    answers = ask_rivals(tasks, scratch)
    table: dict[str, list[list[float]]] = {}
    for number, problem in track(enumerate(problems), len(problems), "pools"):
        found = local_rules(problem, limits[number])
        for task, answer in zip(tasks, answers, strict=True):
            if task["folder"] == str(scratch / str(number)):
                found[f"{task['rule']}, {task['metric']}"] = [np.array(weights) for weights in answer["weights"]]
        for name, ensembles in found.items():
            row = [problem.unseen_accuracy(weights) for weights in ensembles]
            table.setdefault(name, []).append(row)
    return {name: np.array(rows) for name, rows in table.items()}


def print_held_out(title: str, found: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """The table of one kind of pools; gives the worst margin, its standard error, and the mean margin to all rivals."""
    table = Table(title=f"accuracy on unseen participants, percent: {title}")
    for heading in ("rule", *(f"x{multiple:g}" for multiple in MULTIPLES), "worst margin", "mean"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    ours, worst, means = found["ours"], (np.inf, 0.0), []
    for name, rows in found.items():
        margins = ours - rows
        each = np.nanmean(margins, axis=0)
        errors = np.nanstd(margins, axis=0, ddof=1) / np.sqrt(np.isfinite(margins).sum(axis=0))
        at = int(np.argmin(each))
        cells = [f"{value:.2f}" for value in np.nanmean(rows, axis=0)]
        text = "" if name == "ours" else f"{each[at]:+.2f} ± {errors[at]:.2f} at x{MULTIPLES[at]:g}"
        table.add_row(name, *cells, text, "" if name == "ours" else f"{each.mean():+.2f}")
        if not name.startswith("ours"):
            worst = min(worst, (float(each[at]), float(errors[at])))
            means.append(each.mean())
    console.print(table)
    return (*worst, float(np.mean(means)))


def run_held_out(arguments: argparse.Namespace, scratch: Path) -> dict[str, float]:
    report, worst = {}, (np.inf, 0.0, 0.0)
    kinds = {"generated pools": held_out([generated(seed) for seed in range(arguments.pools)], scratch / "generated")}
    if arguments.study:
        each = [held_out(of_study(study), scratch / str(at)) for at, study in enumerate(arguments.study)]
        kinds["studies"] = {name: np.array([found[name].mean(axis=0) for found in each]) for name in each[0]}
    for name, table in kinds.items():
        found = print_held_out(f"{len(table['ours'])} {name}", table)
        worst = min(worst, found)
        report[f"mean_margin_vs_rivals_pp {name.split()[0]}"] = round(found[2], 3)
    return report | {
        "worst_margin_vs_rivals_pp": round(worst[0], 3),
        "worst_margin_standard_error_pp": round(worst[1], 3),
    }


def select_once(folder: Path, metric: str, rule: str = "ours") -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.select_once", str(folder), metric, rule]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def run_speed(metric: str, scratch: Path) -> dict[str, float]:
    """Ours, the median of 3, against all rivals, each in a process of its own, so that its memory is its own."""
    probs, labels = large_pool(64)
    folder = write(scratch / metric, probs, labels)
    found = {}
    for rule in PACKAGES:
        task = {"folder": str(folder), "rule": rule, "metric": metric, "costs": [1.0] * 64, "limits": [1e9]}
        answer = ask_rivals([task], scratch)[0]
        found[rule] = answer | {"seconds": answer["seconds"][0], "counts": answer["weights"][0]}
    for rule in ("MULTI_GES", "top-k", "single"):
        found[rule] = select_once(folder, metric, rule)
    for by in (metric, DEFAULT):
        runs = [select_once(folder, by) for _ in range(3)]
        found[f"ours, by {by}"] = runs[0] | {"seconds": median(run["seconds"] for run in runs)}
    score = SCORES[metric].of([np.load(path) for path in sorted(folder.glob("[0-9]*.npy"))], labels)
    table = Table(title=f"64 candidates x 10,000 sequences x 250 signs, by {metric}")
    for heading in ("", "seconds", "peak GB", "rounds", f"{metric} on the labels selected on"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, answer in found.items():
        weights = np.array(answer["counts"])
        counts = np.rint(weights / weights[weights > 0].min() * 1000).astype(np.int64)
        cells = (f"{answer['seconds']:.2f}", f"{answer['peak_gb']:.2f}", str(answer["rounds"]))
        table.add_row(name, *cells, f"{score.exact(counts):.5f}")
    console.print(table)
    return {f"{metric}_speedup": round(found["autogluon"]["seconds"] / found[f"ours, by {metric}"]["seconds"], 1)}


def run_large(scratch: Path) -> dict[str, float]:
    folder = write(scratch / "large", *large_pool(1000))
    answer = select_once(folder, DEFAULT)
    members = sum(count > 0 for count in answer["counts"])
    console.print(
        f"1,000 candidates x 10,000 x 250: {answer['seconds']:.1f} s ({answer['reading_seconds']:.1f} s reading), "
        f"peak {answer['peak_gb']:.2f} GB, {members} members"
    )
    return {
        "seconds_1000_candidates": round(answer["seconds"], 1),
        "peak_gb_1000_candidates": round(answer["peak_gb"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.select")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--study", nargs="+", type=Path, default=[], help="whose val_probs to take too")
    parser.add_argument("--pools", type=int, default=6, help="generated ones")
    arguments = parser.parse_args()
    if len(arguments.study) == 1:
        raise UserError("--study: one study has no error to hold its margins against; name two or more")
    report: dict[str, Any] = {"bench": "select"}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for part in arguments.parts:
            if part == "heldout":
                report |= run_held_out(arguments, scratch)
            elif part == "ways":
                report["ways_less_default_pp"], table = ways.compare(arguments.pools, MULTIPLES)
                console.print(table)
            elif part == "exact":
                report["mean_gap_to_exact_pp"], table = mean_gaps()
                console.print(table)
            elif part == "large":
                report |= run_large(scratch)
            else:
                report |= run_speed(part, scratch)
    print(json.dumps(report))


if __name__ == "__main__":
    cli.run(main)
