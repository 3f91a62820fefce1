"""What a search is asked for and where it runs: the options of search.run, which are the keywords of search.search.

Imports nothing that takes long, so that --help answers at once.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from search.decide.samplers import SAMPLERS
from search.decide.stopping import STOPPING_RULES
from trainer.common.errors import UserError
from trainer.common.fields import MOST, check_count, option, positive, shorten, suggestion, to_count, to_place
from trainer.common.files import to_path
from trainer.common.strict import MOST_INT, check_type, described
from trainer.common.units import number, parse_amount

DEFAULT_TRIALS: Final = 64
DEFAULT_EPOCHS: Final = 30
MORE_EPOCHS: Final = 60  # of fewer than 1,000 sequences, where an epoch takes seconds
DEFAULT_RESULTS: Final = "results"
MOST_SECONDS: Final = 36_525 * 86_400  # 100 years
SEEDS: Final = 2**32  # how many NumPy's generators take

Log = Literal["tensorboard", "mlflow", "wandb"]
ObjectiveName = Literal["accuracy", "accuracy,params", "accuracy,latency"]

_WHERE: Final = "where it runs"
_WHAT: Final = "what is searched"
_HOW: Final = "how it is searched"


def _parameters(text: str) -> int:
    try:
        amount, _ = parse_amount(text, {"k": 1e3, "m": 1e6})
    except ValueError as error:
        raise ValueError(f"{error}; write for example 2M") from error
    if amount < 1:
        raise ValueError(f"{shorten(text)!r} leaves room for nothing; write for example 2M")
    return int(amount)


def _configuration(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (word.strip() for word in part.partition("="))
        if not name or not value:
            raise ValueError(f"{shorten(part.strip())!r} sets no field; write for example num_heads=3,dropout=0.2")
        if name in found:
            raise ValueError(f"names {shorten(name)} twice")
        found[name.replace("-", "_")] = value
    return found


def _seconds(text: str) -> float:
    try:
        seconds = parse_amount(text, {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})[0]
    except ValueError:
        seconds = 0.0
    if seconds > MOST_SECONDS:
        raise ValueError(f"{shorten(text)!r} is more than 100 years; leave it out to search without a limit")
    if seconds <= 0:
        raise ValueError(f"{shorten(text)!r} is no time to search in; write for example 8h or 90m")
    return seconds


def _gpus(text: str) -> float:
    share = number(text)
    if math.isnan(share):
        raise ValueError(f"must be a share of one GPU or a whole number, not {shorten(text)}")
    return share


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where trials run, and what each of them occupies."""

    log: Log | None = option(None, group=_WHERE)
    """Tool for which the trials' epochs are also written, under STUDY/logs."""
    address: str | None = option(None, group=_WHERE)
    """Address of a Ray cluster, such as auto; default: Ray is started on this machine."""
    workers: int | None = option(None, parse=positive, group=_WHERE)
    """Trials that run at a time; default: as many as fit."""
    time_budget: float | None = option(None, parse=_seconds, metavar="TIME", group=_WHERE)
    """Time after which the search stops, such as 8h or 90m; it can be resumed. In Python also seconds."""
    cpus_per_trial: int = option(1, parse=positive, group=_WHERE)
    """CPUs, and threads, of each trial."""
    gpus_per_trial: float = option(0.0, parse=_gpus, group=_WHERE)
    """GPUs of each trial; a share such as 0.25 lets four trials use one GPU."""
    trials_per_gpu: int | None = option(None, parse=positive, group=_WHERE)
    """Trials that share each GPU, trained side by side by one process, with replayed steps (CUDA graphs). In place of
    --gpus-per-trial. New: not yet tried on a GPU."""
    one_process: bool = option(False, hidden=True, group=_WHERE)
    """Have one process train all trials of a machine, on its CPUs too."""

    def __post_init__(self) -> None:
        """Raises UserError with the field that is out of range."""
        for name in ("workers", "cpus_per_trial", "trials_per_gpu"):
            _check_count(name, getattr(self, name))
        self._set("time_budget", _read("time_budget", _seconds, self.time_budget))
        may_be: dict[str, Any] = {
            "address": str | None,
            "gpus_per_trial": int | float,
            "time_budget": int | float | None,
        }
        for name, kinds in may_be.items():
            if not isinstance(value := getattr(self, name), kinds):
                check_type(name, value, str if name == "address" else float)
        if self.time_budget is not None and not 0 < self.time_budget <= MOST_SECONDS:
            rule = f"must be more than 0 seconds, and at most {MOST_SECONDS:,}"
            raise UserError(f"{rule}, not {described(self.time_budget)}", field="time_budget")
        share = self.gpus_per_trial
        if not 0 <= share <= MOST or (share > 1 and not float(share).is_integer()):
            raise UserError(f"must be a share of one GPU or a whole number, not {share}", field="gpus_per_trial")
        if self.trials_per_gpu is not None and self.gpus_per_trial:
            raise UserError("says how many GPUs a trial has; leave out one of both", field="trials_per_gpu")
        _check_choice("log", self.log, get_args(Log))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(RunOptions):
    """Search for good configurations: Optuna decides what to try and what to stop, Ray Tune runs the trials.

    Everything is written into RESULTS/NAME. A search that was interrupted, in whatever way, is resumed with --resume
    --name NAME: finished trials stay, interrupted ones go on from their last epoch. Without --data, a small dataset is
    generated and searched on."""

    trials: int | None = option(None, parse=positive)
    """Trials that the study has when it is done; default: 64, or with --resume as asked before."""
    data: str | None = option(None, metavar="FOLDER")
    """Packed dataset made by trainer.pack: a folder or a URI; default: a small generated one."""
    name: str | None = option(None)
    """Name of the study; default: date and time."""
    results: str = option(DEFAULT_RESULTS, metavar="FOLDER")
    """Folder of all studies, or its URI, such as s3://bucket/results."""
    resume: bool = option(False)
    """Go on with the study of this name, as it was asked for."""
    retry_failed: bool = option(False)
    """With --resume: try the failed trials again, from their last epoch, as they were."""
    storage: str | None = option(None, metavar="URL")
    """Database of the study: any URL that Optuna takes; default: study.db in the study's folder."""

    space: Any = option(None, parse=Path, metavar="FILE", group=_WHAT)
    """TOML file that says what to search; docs/search.md describes it. In Python also a dict or a Space."""
    epochs: int | None = option(None, parse=positive, group=_WHAT)
    """Epochs of each trial that is not stopped early; default: 30, or 60 with fewer than 1,000 sequences."""
    max_params: int | None = option(None, parse=_parameters, metavar="N", group=_WHAT)
    """Largest number of parameters that a trial's model may have, such as 2M or 800K."""
    objective: ObjectiveName | None = option(None, group=_WHAT)
    """What trials are scored by; with two values, the search looks for their Pareto front; default: accuracy."""

    sampler: str | None = option(None, choices=SAMPLERS, group=_HOW)
    """How configurations are proposed; default: gp, or tpe where the objective has two values."""
    pruner: str | None = option(None, choices=STOPPING_RULES, group=_HOW)
    """How trials are stopped early; default: predictive-halving, or none where the objective has two values."""
    recipe_points: bool = option(True, aliases=("--no-seed-points",), group=_HOW)
    """Try the recipe's two shapes, 2 heads x 6 layers and 6 x 5 of the contest's 26th place, first."""
    warm_start: tuple[str, ...] = option((), metavar="STUDY", group=_HOW)
    """Studies of the same space and dataset whose trials this one begins with: folders or URIs."""
    seed: int | None = option(None, group=_HOW)
    """Random seed of the search and its trials; default: 0."""
    try_: tuple[Any, ...] = option((), parse=_configuration, metavar="FIELD=VALUE,...", group=_HOW, repeated=True)
    """Try this configuration next, such as num_heads=3,dropout=0.2; what it does not name is drawn. Give the option
    again for more. In Python a list of dicts."""

    def __post_init__(self) -> None:
        """Raises UserError with the field that is out of range."""
        super().__post_init__()
        for name in ("trials", "epochs"):
            _check_count(name, getattr(self, name))
        seed: Any = self.seed  # from Python anything
        check_type("seed", seed, int | None)
        if seed is not None and not 0 <= seed < SEEDS:
            raise UserError(f"must be at least 0 and less than 2**32, not {self.seed}", field="seed")
        for name in ("resume", "retry_failed", "recipe_points"):
            check_type(name, getattr(self, name), bool)
        for name in ("storage", "name"):
            value = getattr(self, name)
            if value is not None:
                check_type(name, value, str)
                if not value.strip():
                    raise UserError("must not be empty", field=name)
        if self.data is not None:
            self._set("data", to_place(getattr(self.data, "source", self.data), "data"))
        self._set("results", to_place(self.results, "results"))
        self._set("max_params", _read("max_params", _parameters, self.max_params))
        if self.max_params is not None:
            to_count(self.max_params, "max_params", most=MOST_INT)
        begun: Any = self.warm_start  # from Python also one study, or None
        studies = begun if isinstance(begun, list | tuple) else () if begun is None else (begun,)
        self._set("warm_start", tuple(to_place(getattr(study, "path", study), "warm_start") for study in studies))
        self._set("try_", _configurations(self.try_))
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_choice("pruner", self.pruner, STOPPING_RULES)
        _check_choice("objective", self.objective, get_args(ObjectiveName))
        if self.resume and self.name is None:
            raise UserError("name the study to go on with", field="name")
        if self.retry_failed and not self.resume:
            raise UserError(
                "a new study has no failed trials; name an old one and resume it (resume)", field="retry_failed"
            )


def _configurations(given: Any) -> tuple[dict[str, Any], ...]:
    """Configurations as Python's users give them: one or several, as dicts or as on the command line."""
    several = given if isinstance(given, list | tuple) else () if given is None else (given,)
    points = tuple(_read("try_", _configuration, point) for point in several)
    for point in points:
        if not isinstance(point, dict) or not point or not all(isinstance(name, str) for name in point):
            raise UserError(f"must be values by the names of fields, not {described(point)}", field="try_")
    return points


def _check_count(field: str, value: Any) -> None:
    if value is None:
        return
    try:
        check_count(
            value if isinstance(value, int) and not isinstance(value, bool) else 0,
            str(value) if value is True else described(value),
        )
    except ValueError as error:
        raise UserError(str(error), field=field) from error


def _check_choice(field: str, value: Any, known: Any) -> None:
    if value is not None and not (isinstance(value, str) and value in known):
        raise UserError(
            f"{described(value)} is not one of {', '.join(known)}{suggestion(str(value), [*known])}", field=field
        )


def _read(field: str, parse: Any, value: Any) -> Any:
    """A value that may be given as the command line has it, with a unit."""
    try:
        return parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise UserError(str(error), field=field) from error


@dataclass(frozen=True, kw_only=True)
class RefitOptions(RunOptions):
    """Train the best configurations of a study again: at full length, each with several seeds.

    They become a study of their own, beside the old one, which everything reads as any other. Interrupted, it is
    resumed by search.run --resume. With --folds all, each is trained with every fold of participants held out in turn:
    ensemble.select then judges configurations on all participants. With --ship-of, what an ensemble was selected of is
    trained on everyone: nothing can be selected from such a study, but ensemble.select --ship takes its weights in
    place of those of the same members."""

    study: str = option(positional=True)
    """Folder of the study, such as results/STUDY, or its URI."""
    top: int | None = option(None, parse=positive)
    """Configurations to train, best first; default: 8."""
    seeds: int | None = option(None, parse=positive)
    """Trainings of each configuration, and of each fold; default: 3."""
    epochs: int | None = option(None, parse=positive)
    """Epochs of each training; default: 100."""
    folds: str = option("own", choices=("own", "all"))
    """Hold out the participants that the study held out (own), or each fold in turn (all)."""
    ship_of: Path | None = option(None, metavar="SELECTION")
    """Train the members of an ensemble, by its selection.json, on all participants, each with its own seed."""
    all_participants: bool = option(False)
    """Train the best configurations on all participants: weights to ship, not to select by."""
    name: str | None = option(None)
    """Name of the new study; default: STUDY-refit, STUDY-folds, STUDY-ship, or STUDY-refit-all."""
    data: str | None = option(None, metavar="FOLDER")
    """Packed dataset: a folder or a URI; default: where it lay when the study was made."""
    storage: str | None = option(None, metavar="URL")
    """Database of the old study, needed only if its URL has a password."""

    def __post_init__(self) -> None:
        """Raises UserError with the option that does not go with another."""
        super().__post_init__()
        for name in ("top", "seeds", "epochs"):
            _check_count(name, getattr(self, name))
        _check_choice("folds", self.folds, ("own", "all"))
        if self.ship_of is not None:
            self._set("ship_of", to_path(self.ship_of, "ship_of"))
            for name in ("top", "seeds", "epochs"):
                if getattr(self, name) is not None:
                    raise UserError("is that of the members to be shipped (ship_of); leave it out", field=name)
        for name, is_given in (("folds", self.folds == "all"), ("all_participants", self.all_participants)):
            if is_given and self.ship_of is not None:
                raise UserError("does not go with ship_of, which trains on all participants", field=name)
        if self.folds == "all" and self.all_participants:
            raise UserError("does not go with folds all, which holds participants out", field="all_participants")

    @property
    def suffix(self) -> str:
        """What is put behind the old study's name for the new one's."""
        if self.ship_of is not None:
            return "-ship"
        if self.folds == "all":
            return "-folds"
        return "-refit-all" if self.all_participants else "-refit"
