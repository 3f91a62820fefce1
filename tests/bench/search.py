"""How good a search's recommendation is after 150 to 700 epochs of training: ours against rivals as users run them.

    python -m tests.bench.rivals_env syne-tune neps dehb     # once
    python -m tests.bench.search [--seeds 12] [--slow-seeds 4] [--workers 2] [--problems hartmann3-good,...]
                                 [--rivals syne-asha,...] [--sampler gp,cmaes/median] [--choose] [--rivals-only]

Nothing is trained: tests.bench.problems says what stands for training, tests.bench.play how a search is played. Ours is
the study that search.run uses, asked and told as its workers would, with the defaults of search.run for the problem.
Rivals: Syne Tune's ASHA (which pauses and promotes), PASHA and MOBSTER, NePS's Hyperband, DEHB (tests.bench.rivals_env
has their versions), Ray Tune's OptunaSearch with its ASHA, and random search. What rivals came to is kept in
results/bench-rivals/, so that only what is missing is played. MOBSTER takes more than a minute a search: it plays the
first --slow-seeds.

Tables tell mean regret, as a share of the optimum, of the Hartmann functions, and mean worth, an accuracy, of the
others. A difference is clear beyond two of its standard errors, paired by seed. A ratio is the epochs that ours needs
to be as good as a rival is after 700, over 700: the median over problems and seeds, in which a search that never gets
there counts as infinite. epochs_ratio_to_ray_optuna_asha is told of "recorded" alone: the epochs until the best
complete trial is worth as much as what Ray Tune returns after 64 trials, over the epochs of those.

Seconds are modelled where a model has a size (tests.bench.problems.epoch_seconds): a search that prefers small models
gets more epochs out of them. The marks are the seconds that as many epochs of random configurations take.

--choose is for choosing defaults: it compares the first --sampler with the others on seeds from 1000 on, and on half of
the problems alone. So figures of the default are those of other seeds, and those of problems without a star are of
problems that it was not chosen on.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
from rich.table import Table

from search.decide.qmc import sobol
from search.decide.samplers import SAMPLERS
from search.decide.stopping import DEFAULT_PRUNER, STOPPING_RULES
from tests.bench import kept, rivals_env
from tests.bench.landscapes import LANDSCAPES
from tests.bench.play import Log
from tests.bench.players import ENVIRONMENTS, RAY_TO_ITS_END, RIVALS, our_default, play_ours, play_rival
from tests.bench.problems import CHOSEN_ON, PROBLEMS, Replay, problem
from tests.bench.standings import MARKS, Row, count, median, ratios, row
from trainer.common import cli
from trainer.common.console import console, for_tables, track
from trainer.common.errors import UserError
from trainer.common.fields import to_count
from trainer.common.processes import follow_parent

FIRST_SEED_FOR_CHOOSING: Final = 1000
SLOW: Final = ("syne-mobster",)
DEFAULT: Final = "default"

Task = tuple[str, str, int]
"""Player, problem, seed"""
Results = dict[str, dict[str, dict[int, Log]]]
"""Logs by problem, player and seed"""
Rows = dict[tuple[str, int], Row]
"""By problem and mark"""


def play_task(task: Task) -> Log:
    """One search, by a rival or by ours, which is called by its sampler and pruner."""
    player, name, seed = task
    its_problem = problem(name)
    if player in RIVALS or player == RAY_TO_ITS_END:
        return play_rival(player, its_problem, seed)
    sampler, _, pruner = player.partition("/")
    if sampler == DEFAULT:
        return play_ours(its_problem, seed, *our_default(its_problem))
    return play_ours(its_problem, seed, sampler, pruner or DEFAULT_PRUNER)


def played(tasks: list[Task], pool: ProcessPoolExecutor, what: str) -> Iterator[tuple[Task, Log]]:
    """The searches as they end; those that wait are given up if one fails."""
    futures: dict[Future[Log], Task] = {pool.submit(play_task, task): task for task in tasks}
    try:
        for future in track(concurrent.futures.as_completed(futures), len(futures), what):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def outcomes(ours: list[str], rivals: list[str], problems: list[str], options: argparse.Namespace) -> Results:
    """Play what is not known yet."""
    first = FIRST_SEED_FOR_CHOOSING if options.choose else 0
    numbers = {name: options.slow_seeds if name in SLOW else options.seeds for name in (*ours, *rivals)}
    of_rivals = [(rival, name, first + k) for rival in rivals for name in problems for k in range(numbers[rival])]
    if "recorded" in problems and "ray-optuna-asha" in rivals:
        of_rivals += [(RAY_TO_ITS_END, "recorded", first + k) for k in range(options.seeds)]
    of_ours = [(player, name, first + k) for k in range(options.seeds) for player in ours for name in problems]
    known, results = kept.read(), {name: {} for name in problems}  # type: tuple[dict[kept.Key, Log], Results]
    missing = [task for task in of_rivals if kept.Key.of(*task) not in known]
    for environment in {ENVIRONMENTS[rival] for rival, _, _ in missing if rival in ENVIRONMENTS}:
        rivals_env.make(environment)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context, follow_parent) as pool:
        for task, log in played(missing, pool, "rivals"):
            kept.add(key := kept.Key.of(*task), log)
            known[key] = log
        for (player, name, seed), log in played(of_ours, pool, "ours"):
            results[name].setdefault(player, {})[seed] = log
    for rival, name, seed in of_rivals:
        results[name].setdefault(rival, {})[seed] = known[kept.Key.of(rival, name, seed)]
    return results


def rows_of(results: Results, ours: str, *, in_seconds: bool = False) -> Rows:
    """At the marks of epochs, or at those of modelled seconds, of problems whose models have a size."""
    found: Rows = {}
    for name, by_player in results.items():
        its, players = problem(name), {player: logs for player, logs in by_player.items() if player != RAY_TO_ITS_END}
        for mark in MARKS:
            if not in_seconds:
                found[name, mark] = row(its, ours, players, partial(Log.worth, epochs=mark))
            elif its.mean_epoch_seconds is not None:
                seconds = round(mark * its.mean_epoch_seconds)
                found[name, seconds] = row(its, ours, players, partial(Log.worth_after, seconds=seconds))
    return found


def table_of(rows: Rows, marks: str, players: dict[str, int]) -> Table:
    """Of players, whose numbers of seeds are given: ours first."""
    table = Table(title="mean regret (of functions) or worth; * a problem that defaults are chosen on")
    for heading in ("problem", marks, *(f"{name} ({seeds})" for name, seeds in players.items())):
        table.add_column(heading, justify="left" if heading == "problem" else "right")
    is_compared = any(its.differences for its in rows.values())
    for heading in ("best rival", *["better than it by", ""] * is_compared):
        table.add_column(heading)
    for (name, mark), its in rows.items():
        cells = [f"{its.shown[player]:.3f}" if player in its.shown else "" for player in players]
        difference = its.differences.get(its.best or "")
        ends = [f"{difference.mean:+.3f} ± {difference.error:.3f}", difference.verdict] if difference else []
        star = " *" if name in CHOSEN_ON else ""
        table.add_row(name + star, str(mark), *cells, its.best or "", *ends)
    return table


def table_of_counts(rows: Rows) -> Table:
    table = Table(title="marks at which ours is ahead, level, behind: of all problems, of those not chosen on")
    for heading in ("rival", "all", "not chosen on"):
        table.add_column(heading, justify="left" if heading == "rival" else "right")
    whole, rest = count(rows.values()), count(not_chosen_on(rows).values())
    for name, its in whole.items():
        table.add_row(name, *("  ".join(map(str, side.values())) for side in (its, rest.get(name, {}))))
    return table


def not_chosen_on(rows: Rows) -> Rows:
    """Those of problems that nothing is chosen on."""
    return {key: its for key, its in rows.items() if key[0] not in CHOSEN_ON}


def figures(results: Results, rows: Rows, ours: str) -> dict[str, Any]:
    """Ratios and counts, for the line of JSON."""
    found: dict[str, Any] = {}
    for suffix, its_rows in (("", rows), ("_not_chosen_on", not_chosen_on(rows))):
        of_best, of_asha = [], []
        for name, mark in its_rows:
            players, best = results[name], rows[name, mark].best
            if mark == MARKS[-1] and best is not None:
                of_best += ratios(players[ours], players[best])
                of_asha += ratios(players[ours], players.get("syne-asha", {}))
        found[f"epochs_ratio_to_best_rival{suffix}"] = median(of_best)
        found[f"epochs_ratio_to_syne_asha{suffix}"] = median(of_asha)
        found[f"ahead_level_behind{suffix}"] = {
            name: list(its.values()) for name, its in count(its_rows.values()).items()
        }
    recorded = results.get("recorded", {})
    of_ray = [
        recorded[ours][seed].needed_complete(log.returned) / log.epochs
        for seed, log in recorded.get(RAY_TO_ITS_END, {}).items()
    ]
    return found | {"epochs_ratio_to_ray_optuna_asha": median(of_ray)}


def told(replay: Replay) -> str:
    """How far a surrogate can be believed, and whether its optimum is flat."""
    surrogate = replay.surrogate
    final = surrogate.curves[:, -1]
    error = np.square(final - surrogate.left_out()[:, -1]).mean()
    finals = replay.final(sobol(len(replay.space.distributions), 0))
    five, one = np.quantile(finals, [0.95, 0.99])
    return (
        f"{replay.name}: {len(final)} curves, left-out final accuracies within {error**0.5:.3f} (root mean square), "
        f"{1 - error / final.var():.0%} of their variance explained; the best 5% of configurations are worth at least "
        f"{five:.3f}, the best 1% {one:.3f}, the best {finals.max():.3f}; one training's luck has a standard deviation "
        f"of {replay.luck:.3f}"
    )


def names_of(text: str, known: tuple[str, ...], field: str) -> list[str]:
    """Names separated by commas. Raises UserError for one that is not known."""
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    for name in names:
        if name not in known:
            raise UserError(f"must be of {', '.join(known)}, not {name!r}", field=field)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.search")
    parser.add_argument(
        "--problems",
        help=f"separated by commas, of {', '.join(PROBLEMS)} (default: these), and of {', '.join(LANDSCAPES)}",
    )
    parser.add_argument(
        "--rivals", help=f"separated by commas, of {', '.join(RIVALS)} (default: all, but none with --choose)"
    )
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--slow-seeds", type=int, default=4, help=f"of {', '.join(SLOW)}")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="searches at a time")
    parser.add_argument("--sampler", default=DEFAULT, help="SAMPLER or SAMPLER/PRUNER, separated by commas")
    parser.add_argument("--choose", action="store_true", help="on seeds and problems for choosing defaults")
    parser.add_argument("--rivals-only", action="store_true", help="play what is missing of the rivals' searches")
    options = parser.parse_args()
    for name in ("seeds", "slow_seeds", "workers"):
        to_count(getattr(options, name), name)
    problems = names_of(
        options.problems or ",".join(CHOSEN_ON if options.choose else PROBLEMS), (*PROBLEMS, *LANDSCAPES), "problems"
    )
    default_rivals = () if options.choose else RIVALS
    rivals = list(default_rivals) if options.rivals is None else names_of(options.rivals, RIVALS, "rivals")
    ways = (
        DEFAULT,
        *(f"{sampler}{end}" for sampler in SAMPLERS for end in ("", *(f"/{rule}" for rule in STOPPING_RULES))),
    )
    ours = [] if options.rivals_only else names_of(options.sampler, ways, "sampler")
    results = outcomes(ours, rivals, problems, options)
    first = ours[0] if ours else DEFAULT
    players = {name: options.slow_seeds if name in SLOW else options.seeds for name in (*ours, *rivals)}
    rows, rows_of_seconds = (rows_of(results, first, in_seconds=in_seconds) for in_seconds in (False, True))
    tables = [table_of(rows, "epochs", players)]
    tables += [table_of(rows_of_seconds, "modelled seconds", players)] if rows_of_seconds else []
    for_tables().print(*tables, *[table_of_counts(rows)] * bool(ours))
    for name in problems:
        if isinstance(replay := problem(name), Replay):
            console.print(told(replay), soft_wrap=True)
    report: dict[str, Any] = {"bench": "search", "problems": problems, "seeds": players}
    print(json.dumps(report | ({"ours": first, **figures(results, rows, first)} if ours else {})))


if __name__ == "__main__":
    cli.run(main)
