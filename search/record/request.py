"""What was asked of a study, as its study.json keeps it, and where its database is."""

import dataclasses
import json
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

from search.problem.latency_estimate import LatencyScale
from search.problem.objective import DEFAULT_OBJECTIVE, OBJECTIVES, REMOVED, WITH_LATENCY, Objective
from search.problem.ranges import allows
from search.problem.space import Space
from search.record.database_url import sqlite_url, to_keep, usable
from trainer.common.errors import FieldError, UserError
from trainer.common.strict import checked, described
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.rundir import BRING_BACK
from trainer.studydir import STUDY_DB, STUDY_JSON, StudyDir

_ON_DISK: Final = {"recipe_points": "seed_points"}  # fields that study.json has under an older name
_REMOVED: Final = ("budget",)  # fields that version 0.1 wrote
_DECISIVE: Final = (
    *("seed", "epochs", "sampler", "pruner", "recipe_points", "space", "base_config", "data_fingerprint"),
    *("label_names", "max_params", "objective", "points"),
)
ASKED: Final = "asked"  # user attribute of a study: the digest of its request
ASKED_TRIALS: Final = "trials"  # another: how many trials are asked for
_PACKAGES: Final = ("sign-ensemble-search", "torch", "ray", "optuna", "numpy", "pyarrow", "safetensors")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def _git_commit() -> str | None:
    """Of this program's source, or None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides how a study comes out, and where it came from; checked."""

    trials: int
    seed: int
    epochs: int
    sampler: str
    """A name of search.decide.samplers.SAMPLERS"""
    pruner: str
    """A name of search.decide.stopping.STOPPING_RULES"""
    recipe_points: bool
    """Whether the recipe's two shapes are tried first"""
    space: dict[str, Any]
    """The parsed TOML"""
    base_config: dict[str, Any]
    """TrainConfig.to_json() of the fields that the space leaves alone"""
    data: str
    """Absolute path of the packed dataset, or its URI"""
    data_fingerprint: str
    label_names: list[str]
    """Signs; the index is the label"""
    validation_sha256: str | None = None
    """Of validation.parquet; None in studies of 0.1, and before that file is written"""
    max_params: int | None = None
    """Largest number of parameters of a trial's model"""
    earliest_stop: int = 1
    """The epoch before which no trial is stopped: training has not begun to tell"""
    objective: str = DEFAULT_OBJECTIVE
    latency: dict[str, Any] | None = None
    """LatencyScale's fields, where the objective asks for it"""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Parameters of the first trials, in their order, where these were given (search.refit)"""
    tries: list[dict[str, Any]] = field(default_factory=list)
    """Parameters of trials that the user asked for, in the order of asking; the sampler draws the others"""
    warm_start: list[str] = field(default_factory=list)
    """Absolute paths or URIs of the studies whose trials it began with"""
    name: str | None = None
    """The study's name in its database, if not the directory's, which may be renamed"""
    storage: str | None = None
    """URL of the study's database without its password; None for study.db"""
    created: str = field(default_factory=_now)
    """ISO 8601"""
    versions: dict[str, str] = field(default_factory=_versions)
    """Of Python and of the packages that decide results"""
    git_commit: str | None = field(default_factory=_git_commit)

    @classmethod
    def of(cls, *, space: Space, dataset: PackedDataset, objective: Objective | None = None, **asked: Any) -> Self:
        """From a space, a dataset and an objective; ``asked`` are the other fields."""
        scored = objective or Objective()
        return cls(
            epochs=space.base.epochs,
            space=space.source,
            base_config=space.base.to_json(),
            max_params=space.max_params,
            data=dataset.source,
            data_fingerprint=dataset.fingerprint,
            label_names=list(dataset.sign_names),
            objective=scored.name,
            latency=None if scored.latency is None else dataclasses.asdict(scored.latency),
            **asked,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of what decides how trials come out, which stays as it was when the study began."""
        decisive = {name: getattr(self, name) for name in _DECISIVE}
        if self.earliest_stop > 1:  # digests of studies that had no such field stay as they are
            decisive["earliest_stop"] = self.earliest_stop
        return sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, study: StudyDir) -> Self:
        """Of a study. Raises UserError if it is broken, or was written by another version of the format."""
        content = study.read_request()
        for name in _REMOVED:
            content.pop(name, None)
        for name, there in _ON_DISK.items():
            if there in content:
                content[name] = content.pop(there)
        path = study.path / STUDY_JSON
        try:
            request = checked(cls, {"git_commit": None, "versions": {}, **content})
            _check(request)
        except FieldError as error:
            raise UserError(f"{path}: {error}; {BRING_BACK}") from error
        request._check_space(path)
        return request

    def _check_space(self, path: Path) -> None:
        """Raise UserError if the space, or a point of it, is none."""
        distributions = self.to_space(str(path)).distributions
        named = [("points", point) for point in self.points] + [("tries", point) for point in self.tries]
        for where, point in named:
            for name, value in point.items():
                if name in self.space and name not in distributions:  # fixed since: the point's own value is not taken
                    continue
                if name not in distributions or not allows(distributions[name], value):
                    raise UserError(f"{path}: {where}: {name} is never {described(value)} in this space; {BRING_BACK}")

    def write(self, study: StudyDir) -> None:
        """Write study.json; from then on there is a study."""
        study.write_request({_ON_DISK.get(name, name): value for name, value in dataclasses.asdict(self).items()})

    def to_space(self, where: str = STUDY_JSON) -> Space:
        """The space; ``where`` is what an error calls the place that it is from."""
        space = Space.from_source(self.space, self.to_config(), where=where, rotated=self.is_rotated)
        return dataclasses.replace(space, max_params=self.max_params)

    @property
    def is_rotated(self) -> bool:
        """Whether its trials hold out each fold in turn, as those of search.refit --folds all."""
        return bool(self.points) and isinstance(self.space.get("fold"), dict)

    def to_config(self) -> TrainConfig:
        """The configuration that all trials have in common."""
        return TrainConfig.from_json(self.base_config)

    def to_objective(self) -> Objective:
        """Raises FieldError if there is no such objective, or what it needs for latencies is not there."""
        if self.objective not in (*OBJECTIVES, REMOVED):
            raise FieldError(f"{described(self.objective)} is not one of {'; '.join(OBJECTIVES)}", field="objective")
        if (self.objective == WITH_LATENCY) != (self.latency is not None):
            raise FieldError(f"belongs to the objective {WITH_LATENCY}, and to no other", field="latency")
        return Objective(self.objective, None if self.latency is None else LatencyScale.from_json(self.latency))


def _check(request: Request) -> None:
    """Raise FieldError for a number or a name that no study is made with."""
    for name in ("trials", "epochs", "earliest_stop"):
        if getattr(request, name) < 1:
            raise FieldError(f"must be at least 1, not {getattr(request, name)}", field=name)
    if not 0 <= request.seed < 2**32:
        raise FieldError(f"must be at least 0 and below 2**32, not {request.seed}", field="seed")
    if request.max_params is not None and request.max_params < 1:
        raise FieldError(f"must be at least 1, not {request.max_params}", field="max_params")
    if request.name == "":
        raise FieldError("must not be empty", field="name")
    if request.storage is not None:
        try:
            to_keep(request.storage)
        except UserError as error:
            raise FieldError(error.message, field="storage") from error
    request.to_objective()


def find_database(study: StudyDir, url: str | None = None) -> tuple[str, str | None]:
    """URL of a study's database, and the study's name there, if study.json is there to tell.

    ``url`` is that URL with its password, where the user gave it. Raises UserError if the study is broken, or the
    password is missing.
    """
    own = sqlite_url(study.path / STUDY_DB)
    if not study.exists:
        return own, None
    request = Request.read(study)
    given = url or request.storage or own
    if url is not None:
        to_keep(url)
    if (found := usable(given)) is None:
        raise UserError(f"give {given} again with its password, which is not kept", field="storage")
    return found, request.name
