"""What was asked of a study, as its study.json keeps it, and where its database is."""

import dataclasses
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Self, get_args, get_origin, get_type_hints

from search.problem.latency_estimate import LatencyScale
from search.problem.objective import DEFAULT_OBJECTIVE, Objective
from search.problem.space import Space
from search.record.storage import lacks_password, sqlite_url, without_password
from trainer.common.errors import UserError, in_one_line
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.studydir import STUDY_DB, STUDY_JSON, StudyDir

_ON_DISK: Final = {"recipe_points": "seed_points"}  # fields that study.json has under an older name
_REMOVED: Final = ("budget",)  # fields that version 0.1 wrote
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
    """Whether the recipe's two models are tried first"""
    space: dict[str, Any]
    """The parsed TOML"""
    base_config: dict[str, Any]
    """TrainConfig.to_json() of the fields that the space leaves alone"""
    data: str
    """Absolute path of the packed dataset, or its URI"""
    data_fingerprint: str
    label_names: list[str]
    """Signs; the index is the label"""
    max_params: int | None = None
    """Largest number of parameters of a trial's model"""
    objective: str = DEFAULT_OBJECTIVE
    latency: dict[str, Any] | None = None
    """LatencyScale's fields, where the objective asks for it"""
    points: list[dict[str, Any]] = field(default_factory=list)
    """Parameters of the first trials, in their order, where these were given (search.refit)"""
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

    @classmethod
    def read(cls, study: StudyDir) -> Self:
        """Of a study. Raises UserError if it is broken, or was written by another version of the format."""
        content = study.read_request()
        for name in _REMOVED:
            content.pop(name, None)
        for name, there in _ON_DISK.items():
            if there in content:
                content[name] = content.pop(there)
        try:
            request = cls(**{"git_commit": None, "versions": {}, **content})
            TrainConfig.from_json(request.base_config)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{study.path / STUDY_JSON}: cannot be read ({in_one_line(error)})") from error
        request._check_types(study.path / STUDY_JSON)
        return request

    def _check_types(self, where: Path) -> None:
        """Raise UserError at the first field of another type than it should have."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            parts = get_args(hint) if get_origin(hint) is UnionType else (hint,)
            kinds = tuple(get_origin(part) or part for part in parts)
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                words = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
                raise UserError(f"{where}: {_ON_DISK.get(name, name)}: must be {words}, not {value!r}")

    def write(self, study: StudyDir) -> None:
        """Write study.json; from then on there is a study."""
        study.write_request({_ON_DISK.get(name, name): value for name, value in dataclasses.asdict(self).items()})

    def to_space(self) -> Space:
        space = Space.from_source(self.space, self.to_config(), where=STUDY_JSON)
        return dataclasses.replace(space, max_params=self.max_params)

    def to_config(self) -> TrainConfig:
        """The configuration that all trials have in common."""
        return TrainConfig.from_json(self.base_config)

    def to_objective(self) -> Objective:
        return Objective(self.objective, None if self.latency is None else LatencyScale(**self.latency))


def find_database(study: StudyDir, url: str | None = None) -> tuple[str, str | None]:
    """URL of a study's database, and the study's name there, if study.json is there to tell.

    ``url`` is that URL with its password, where the user gave it. Raises UserError if the study is broken, or the
    password is missing.
    """
    own = sqlite_url(study.path / STUDY_DB)
    if not study.exists:
        return own, None
    request = Request.read(study)
    if url is not None:
        without_password(url)
    found = url or request.storage or own
    if lacks_password(found):
        raise UserError(f"give {found} again with its password, which is not kept", field="storage")
    return found, request.name
