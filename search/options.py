"""The options of python -m search.run."""

import argparse
import math
from pathlib import Path
from typing import Final

from search.decide.samplers import DEFAULT_PRUNER, PRUNERS, SAMPLERS
from search.execute.loggers import LOGS
from search.problem.objective import DEFAULT_OBJECTIVE, OBJECTIVES
from trainer.common import cli
from trainer.common.fields import positive
from trainer.common.units import number, parse_amount

DEFAULT_EPOCHS: Final = 30
DEFAULT_RESULTS: Final = "results"


def parse() -> argparse.Namespace:
    """What was given; exits with status 2 if that cannot be parsed."""
    parser = cli.Parser("search.run", description="Search for good configurations with Ray Tune and Optuna.")
    add = parser.add_argument
    add(
        "--trials",
        type=cli.readable(positive),
        help="trials in the study when it is done; with --resume, default: as asked before",
    )
    add("--data", help="packed dataset, made by trainer.pack, or its URI; default: a small generated one")
    add("--name", help="of the study; default: date and time")
    add("--results", default=DEFAULT_RESULTS, help="folder of all studies, or its URI, s3://... (default: results)")
    add(
        "--epochs",
        type=cli.readable(positive),
        help=f"of every trial that is not stopped early (default: {DEFAULT_EPOCHS})",
    )
    add("--seed", type=int, help="of the search and its trials (default: 0)")
    add("--space", type=Path, help="TOML file that says what to search; README has an example")
    add(
        "--sampler",
        choices=SAMPLERS,
        help="how configurations are proposed (default: cmaes; tpe for conditions, mostly choices, other objectives)",
    )
    add("--pruner", choices=PRUNERS, help=f"how Optuna stops trials early (default: {DEFAULT_PRUNER})")
    add("--no-seed-points", action="store_true", help="do not try the two configurations of the seed first")
    add(
        "--warm-start",
        nargs="+",
        metavar="STUDY",
        help="begin with what these studies of the same space found; directories or URIs",
    )
    add(
        "--objective",
        choices=OBJECTIVES,
        metavar="OBJECTIVE",
        help=f"what trials are scored by: {', or '.join(OBJECTIVES)} (default: {DEFAULT_OBJECTIVE})",
    )
    add("--max-params", type=_parameters, help="train no model of more parameters, such as 2M or 800K")
    add("--storage", help="database for the study: any URL that Optuna takes (default: study.db beside the trials)")
    add("--resume", action="store_true", help="go on with the study of this --name, as it was asked for")
    add_ray_options(parser)
    return parser.parse_args()


def add_ray_options(parser: argparse.ArgumentParser) -> None:
    """Where trials run, and what each occupies."""
    add = parser.add_argument
    add("--log", choices=LOGS, help="also write what trials report under STUDY/logs, for this tool")
    add("--address", help="of a Ray cluster, such as auto; default: start Ray on this machine")
    add("--workers", type=cli.readable(positive), help="trials at a time; default: as many as fit")
    add("--time-budget", type=_seconds, help="stop after this time, such as 8h or 90m; --resume goes on")
    add("--cpus-per-trial", type=cli.readable(positive), default=1, help="CPUs, and threads, of a trial (default: 1)")
    add("--gpus-per-trial", type=_share, default=0.0, help="GPUs of a trial, such as 0.25 (default: 0)")


def ray_options(options: argparse.Namespace) -> list[str]:
    """The words that ask for the same once more, without the time budget."""
    words = []
    defaults = {"log": None, "address": None, "workers": None, "cpus_per_trial": 1, "gpus_per_trial": 0.0}
    for name, default in defaults.items():
        if (value := getattr(options, name)) != default:
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def _parameters(text: str) -> int:
    try:
        amount, _ = parse_amount(text, {"k": 1e3, "m": 1e6})
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write for example 2M") from error
    if amount < 1:
        raise argparse.ArgumentTypeError(f"{text!r} leaves room for nothing; write for example 2M")
    return int(amount)


def _seconds(text: str) -> float:
    try:
        seconds = parse_amount(text, {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})[0]
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time to search in; write for example 8h or 90m")
    return seconds


def _share(text: str) -> float:
    value = number(text)
    if not 0 <= value < math.inf or (value > 1 and not value.is_integer()):
        raise argparse.ArgumentTypeError(f"must be a share of one GPU or a whole number, not {text}")
    return value
