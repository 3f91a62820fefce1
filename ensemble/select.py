"""From a study to submission.zip: the best ensemble that fits a budget.

    python -m ensemble.select --budget 40MB,100ms --results results/STUDY

Without --results the newest study under results/ is taken; given several times, the candidates of all these studies
are. --budget without a value is the contest's, 40MB,100ms; no --budget is no limit. Writes submission.zip,
selection.json, frontier.parquet and frontier.svg to STUDY/ensemble, or to --out, which several studies need.
"""

import argparse
import dataclasses
import functools
import json
import math
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.table import Table

from ensemble.budget import CONTEST, FORMATS, Budget, brief
from ensemble.candidates.full_data import Twins
from ensemble.candidates.measure import COSTS, PROBS, keeping_roots, measure
from ensemble.candidates.pool import Pool, by_reason, open_pools
from ensemble.check import check
from ensemble.evaluation import frontier, unseen
from ensemble.evaluation.unseen import seen_accuracies, unseen_accuracies
from ensemble.selection import bagging, baselines, greedy, scores
from ensemble.selection.bagging import ByParticipant
from ensemble.selection.baselines import Rule
from ensemble.selection.scores import Objective
from ensemble.ship.fit import Choice, choose, reasons_left_out
from ensemble.ship.parity import Agreement, compare
from ensemble.tflite import export, latency, submission
from ensemble.tflite.latency import Latency, Target
from trainer.common import cli
from trainer.common.console import console, for_tables
from trainer.common.errors import UserError
from trainer.common.fields import positive
from trainer.common.files import require_writable, write_json
from trainer.studydir import Folder

SELECTION, SUBMISSION = "selection.json", "submission.zip"
FORMAT_VERSION: Final = 2
MOST_OFF: Final = 1.5  # times that an estimated latency may be off before it is said


def print_members(chosen: Choice, base: np.ndarray, budget: Budget) -> None:
    table = Table(title="members", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("trial", "count", "heads x\nlayers", "weights", *list(FORMATS)[:3], "accuracy"):
        table.add_column(name, justify="left" if name == "trial" else "right", no_wrap=True)
    for candidate, count, cost in chosen.members:
        shape = f"{candidate.model.num_heads} x {candidate.model.num_layers}"
        table.add_row(
            candidate.name, str(count), shape, candidate.precision, *brief(cost), f"{candidate.val_accuracy:.4f}"
        )
    table.add_row("[dim]shared", "", "", "", *brief(base), "")
    table.add_section()
    table.add_row(f"[bold]file, {_models(len(chosen.members))}", "", "", "", *brief(chosen.cost.to_array()), "")
    limit = f", {_models(budget.members)}" if budget.members < math.inf else ""
    table.add_row(f"[dim]budget{limit}" if str(budget) else "[dim]no budget", "", "", "", *brief(budget.to_array()), "")
    for_tables().print(table)


def _models(number: float) -> str:
    return f"{number:g} model{'s' if number != 1 else ''}"


def print_measure(metric: str, ours: float, single: float) -> None:
    console.print(
        f"members were chosen by {scores.MEASURES[metric]}, on the labels they were selected on: {ours:.4f}; "
        f"of the best single model: {single:.4f}",
        soft_wrap=True,
    )


def print_latency(measured: Latency, estimate: float, target: Target, is_fresh: bool) -> None:
    console.print(f"{measured}, {target}; estimated from the members: {estimate:.2f} ms", soft_wrap=True)
    if not is_fresh and max(estimate, measured.mean) > MOST_OFF * min(estimate, measured.mean):
        console.print(
            "[yellow]the estimate is far off: latencies that the study keeps of its trials may be stale; --remeasure "
            "times them again[/]",
            soft_wrap=True,
        )


def print_left_out(reasons: dict[str, str]) -> None:
    for reason, names in by_reason(dict(sorted(reasons.items()))).items():
        console.print(f"[dim]left out, {reason}: {' '.join(names)}", soft_wrap=True)


def to_json(
    pool: Pool,
    arguments: argparse.Namespace,
    budget: Budget,
    chosen: Choice,
    reasons: dict[str, str],
    agreement: Agreement,
    accuracies: dict[str, Any],
) -> dict[str, Any]:
    """What selection.json holds."""
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "studies": [study.name for study in pool.studies],
        "budget": str(budget) or None,
        "metric": arguments.metric,
        "exact": arguments.exact,
        "bags": arguments.bag,
        "shipped_weights": None if arguments.ship is None else str(arguments.ship),
        "precisions": arguments.precision,
        "members": [
            {
                "trial": candidate.name,
                "precision": candidate.precision,
                "count": count,
                **{name: float(value) for name, value in list(zip(FORMATS, cost, strict=True))[:3]},
                "num_heads": candidate.model.num_heads,
                "num_layers": candidate.model.num_layers,
                "val_accuracy": candidate.val_accuracy,
                "val_log_loss": candidate.val_log_loss,
            }
            for candidate, count, cost in chosen.members
        ],
        "cost": dataclasses.asdict(chosen.cost),
        "latency": dataclasses.asdict(chosen.latency),
        "machine": latency.machine(),
        "threads": arguments.threads,
        "latency_scale": arguments.latency_scale,
        "versions": {"python": platform.python_version(), "ai-edge-litert": version("ai-edge-litert")},
        "accuracy": accuracies,
        "agreement_with_pytorch": dataclasses.asdict(agreement),
        "left_out": reasons,
    }


def newest_study(results: Path) -> Path:
    """The last made study under a folder, of those that held somebody out. Raises UserError if there is none."""
    made = []
    for path in results.glob("*/study.json"):
        try:
            about = json.loads(path.read_text())
            if not about.get("base_config", {}).get("all_participants", False):
                made.append((str(about["created"]), path.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    if not made:
        raise UserError(f"{results}/: holds no study; make one with: python -m search.run")
    return max(made)[1]


def _parse() -> argparse.Namespace:
    parser = cli.Parser("ensemble.select", description="The best ensemble of a study's models that fits a budget.")
    parser.add_argument(
        "--budget", nargs="?", const=CONTEST, metavar="B", help=f"such as 5.1M,40MB,100ms,3models; alone: {CONTEST}"
    )
    parser.add_argument(
        "--results",
        action="append",
        metavar="STUDY",
        help="a study, or its URI, s3://...; may be given again for more candidates (default: the newest in results/)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write, and keep what is measured of studies that cannot be written to (default: STUDY/ensemble)",
    )
    parser.add_argument(
        "--data", metavar="DATA", help="the packed dataset, or its URI, if it is no longer where the search had it"
    )
    parser.add_argument("--ship", metavar="STUDY", help="ship the same trainings on all participants, of search.refit")
    parser.add_argument(
        "--metric",
        choices=list(scores.OBJECTIVES),
        default="blend",
        help="what to select by (default: blend, of both)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--exact", action="store_true", help=f"also try every set of candidates, where {greedy.EXACT_MOST} or fewer fit"
    )
    how.add_argument(
        "--bag",
        type=cli.readable(positive),
        metavar="N",
        help="average the selections on N drawings of the participants (default: one selection on all of them)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=export.PRECISIONS,
        default=list(export.PRECISIONS),
        help="of the weights; of several, the best for each member is taken (default: all three)",
    )
    parser.add_argument(
        "--remeasure", action="store_true", help="time the candidates again, whatever the study keeps of before"
    )
    latency.add_options(parser)
    return parser.parse_args()


def open_studies(arguments: argparse.Namespace) -> tuple[list[Folder], Pool]:
    """The studies that were asked for, and their candidates. Raises UserError if they cannot be used together."""
    where = arguments.results or [str(newest_study(Path("results")))]
    if len(where) > 1 and arguments.out is None:
        raise UserError(f"--results names {len(where)} studies: say with --out DIR where to write")
    if arguments.out is not None:
        require_writable("--out", arguments.out)
    folders = [Folder.open(study) for study in where]
    pool = open_pools([(folder.shown, folder.path) for folder in folders])
    if arguments.data is not None:
        pool = dataclasses.replace(pool, data=arguments.data)
        try:
            _ = pool.dataset  # which is opened only now, and says if it is none, or another
        except UserError as error:
            raise UserError(f"--data {error}") from error
    shown = ", ".join(folder.shown for folder in folders)
    console.print(
        f"stud{'y' if len(folders) == 1 else 'ies'} {shown}: {len(pool.candidates)} candidates, "
        f"{len(pool.labels):,} validation sequences",
        soft_wrap=True,
    )
    return folders, pool


def require_contract(model: bytes, num_signs: int) -> int:
    """Play the contest's evaluator on what would be written: how many checks hold. Raises UserError if one fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SUBMISSION
        submission.write(path, model)
        checks = check(path, num_signs)
    if broken := [check for check in checks if not check.holds]:
        raise UserError(
            f"the chosen ensemble breaks the contest's contract: {broken[0].clause} ({broken[0].found}); nothing was "
            "written"
        )
    return len(checks)


def print_contract(checks: int, chosen: Choice) -> None:
    console.print(
        f"contest's contract: {checks} checks hold; python -m ensemble.check plays every length, and times the file",
        soft_wrap=True,
    )
    if broken := Budget.parse(CONTEST).exceeded(chosen.cost):
        console.print(f"[yellow]over the contest's limits: {'; '.join(broken)}[/]", soft_wrap=True)


def main() -> None:
    arguments = _parse()
    try:
        budget = Budget.parse(arguments.budget) if arguments.budget is not None else Budget()
    except ValueError as error:
        raise UserError(f"--budget: {error}") from error
    folders, pool = open_studies(arguments)
    out: Path = arguments.out or folders[0].path / "ensemble"
    if arguments.out is None:  # else checked before anything was read
        require_writable("--out", out)
    twins = None if arguments.ship is None else Twins(Folder.open(arguments.ship).path)
    target = Target(threads=arguments.threads, scale=arguments.latency_scale)
    roots = keeping_roots(folders, arguments.out)
    pool, base, costs = measure(pool, arguments.precision, target, arguments.remeasure, roots)
    for folder in folders:
        if roots[folder.path] == folder.path:
            folder.publish(COSTS, PROBS)  # what was measured is not lost, whatever comes
    objective: Objective = scores.OBJECTIVES[arguments.metric].of(pool.val_probs, pool.labels)
    ours: Rule = baselines.ours
    if arguments.bag is not None:
        objective = ByParticipant(objective, pool.participants)
        ours = functools.partial(bagging.select, bags=arguments.bag)
    rule = functools.partial(baselines.ours, exact=True) if arguments.exact else ours
    chosen = choose(pool, objective, base, costs, budget, rule, twins, target)
    agreement = compare(chosen.model, chosen.shipped, pool)
    agreement.require({candidate.precision for candidate, _, _ in chosen.members})
    checks = require_contract(chosen.model, len(pool.label_names))

    seen = seen_accuracies(pool, objective, costs, chosen.capacity, chosen.counts)
    others = unseen_accuracies(pool, objective, rule, costs, chosen.capacity)
    reasons = reasons_left_out(pool, base, costs, budget, chosen)
    accuracies = {
        "seen_by_selection": dataclasses.asdict(seen),
        "unseen_participants": others and {**dataclasses.asdict(others), "single_is_as_good": others.single_is_as_good},
    }
    bought = frontier.sweep(pool, objective, ours, base, costs, (budget, chosen.capacity, chosen.counts))
    frontier.write(out, bought)  # only now, all together: until here what an earlier selection left stands as it was
    submission.write(out / SUBMISSION, chosen.model)
    write_json(out / SELECTION, to_json(pool, arguments, budget, chosen, reasons, agreement, accuracies))
    if arguments.out is None:
        folders[0].publish(*(f"ensemble/{name}" for name in (frontier.PARQUET, frontier.SVG, SUBMISSION, SELECTION)))

    print_left_out(reasons)
    for_tables().print(frontier.to_table(bought))
    print_members(chosen, base, budget)
    for_tables().print(unseen.to_table(seen, others))
    single = baselines.single(objective, costs, chosen.capacity)
    print_measure(arguments.metric, objective.exact(chosen.counts), objective.exact(single))
    alone = dataclasses.replace(budget, members=1)
    console.print(unseen.verdict(others, len(chosen.members), str(alone)), soft_wrap=True)
    print_latency(chosen.latency, float((base + costs[chosen.counts > 0].sum(axis=0))[2]), target, arguments.remeasure)
    if twins is not None:
        console.print(
            "the file holds the members' weights from training on all participants; the accuracies above are those of "
            "the same trainings with participants held out: what ships can be measured on nobody",
            soft_wrap=True,
        )
    console.print(f"the file and the PyTorch models it was made of name {agreement}", soft_wrap=True)
    print_contract(checks, chosen)
    console.print(f"wrote {folders[0].show(out / SUBMISSION)}", soft_wrap=True)


if __name__ == "__main__":
    cli.run(main)
