"""What was asked of a study, in its study.json, and the order of its validation predictions, in validation.parquet."""

import dataclasses
import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from search.problem.objective import DEFAULT_OBJECTIVE, LatencyScale, Objective
from search.problem.space import Space
from search.record.storage import lacks_password, sqlite_url
from trainer.common.errors import UserError
from trainer.common.files import atomic_path, write_json
from trainer.config import TrainConfig
from trainer.data.dataset import PackedDataset

FORMAT_VERSION: Final = 1
STUDY_JSON: Final = "study.json"
STUDY_DB: Final = "study.db"
VALIDATION: Final = "validation.parquet"
LOG_FOLDER: Final = "logs"
_REMOVED: Final = ("budget",)  # fields that version 0.1 wrote
_PACKAGES: Final = ("torch", "ray", "optuna", "numpy", "pyarrow", "safetensors")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a study comes to, and where it came from."""

    created: str
    """ISO 8601"""
    trials: int
    """Asked for"""
    seed: int
    epochs: int
    sampler: str
    pruner: str
    seed_points: bool
    max_params: int | None = None
    objective: str = DEFAULT_OBJECTIVE
    latency: dict[str, Any] | None = None
    """LatencyScale's fields, where the objective asks for it"""
    space: dict[str, Any]
    """The parsed TOML"""
    base_config: dict[str, Any]
    """TrainConfig.to_json() of what the space leaves alone"""
    data: str
    """Absolute path of the packed dataset, or its URI"""
    data_fingerprint: str
    label_names: list[str]
    """Signs; the index is the label"""
    versions: dict[str, str]
    git_commit: str | None
    points: list[dict[str, Any]] = field(default_factory=list)
    """Parameters of the first trials, in their order, where these were given (search.refit)"""
    warm_start: list[str] = field(default_factory=list)
    """Absolute paths or URIs of the studies whose trials it began with"""
    name: str | None = None
    """Of the study in its database, if not the directory's, which may be renamed"""
    storage: str | None = None
    """URL of the study's database without its password; None for study.db"""

    @classmethod
    def make(
        cls,
        *,
        space: Space,
        dataset: PackedDataset,
        trials: int,
        seed: int,
        sampler: str,
        pruner: str,
        seed_points: bool,
        points: Sequence[dict[str, Any]] = (),
        objective: Objective = Objective(),  # noqa: B008
        name: str | None = None,
        storage: str | None = None,
    ) -> Self:
        return cls(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            trials=trials,
            seed=seed,
            epochs=space.base.epochs,
            sampler=sampler,
            pruner=pruner,
            seed_points=seed_points,
            max_params=space.max_params,
            objective=objective.name,
            latency=None if objective.latency is None else dataclasses.asdict(objective.latency),
            space=space.source,
            base_config=space.base.to_json(),
            data=dataset.source,
            data_fingerprint=dataset.fingerprint,
            label_names=list(dataset.sign_names),
            versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}},
            git_commit=_git_commit(),
            points=list(points),
            name=name,
            storage=storage,
        )

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Of the study in a directory. Raises UserError if it is broken."""
        path = directory / STUDY_JSON
        try:
            content = json.loads(path.read_text())
            if content.pop("format_version") != FORMAT_VERSION:
                raise UserError(f"{path}: written by another version of this program; it cannot be read")
            for name in _REMOVED:
                content.pop(name, None)
            settings = cls(**content)
            TrainConfig.from_json(settings.base_config)
            return settings
        except FileNotFoundError as error:
            raise UserError(f"{directory}: holds no study (no {STUDY_JSON})") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: cannot be read ({error})") from error

    def write(self, directory: Path) -> None:
        write_json(directory / STUDY_JSON, {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)})

    def to_space(self) -> Space:
        space = Space.from_source(self.space, TrainConfig.from_json(self.base_config), where=STUDY_JSON)
        return dataclasses.replace(space, max_params=self.max_params)

    def to_objective(self) -> Objective:
        return Objective(self.objective, None if self.latency is None else LatencyScale(**self.latency))


def find_study(directory: Path, storage: str | None = None) -> tuple[str, str | None]:
    """URL of a study's database, and its name there, if study.json is there to tell.

    ``storage`` is the URL with its password, where the user gave it. Raises UserError if the study is broken, or the
    password is missing.
    """
    if not (directory / STUDY_JSON).exists():
        return sqlite_url(directory / STUDY_DB), None
    settings = Settings.read(directory)
    url = storage or settings.storage or sqlite_url(directory / STUDY_DB)
    if lacks_password(url):
        raise UserError(f"--storage: give {url} again with its password, which is not kept")
    return url, settings.name


def write_validation(dataset: PackedDataset, config: TrainConfig, directory: Path) -> None:
    """One row a validation sequence, in the order of the rows of every trial's val_probs.npy."""
    _, indices = dataset.split(config.num_folds, config.fold)
    labels = dataset.labels[indices]
    table = pa.table(
        {
            "sequence_id": dataset.sequence_ids[indices],
            "participant_id": dataset.participants[indices],
            "label": labels,
            "sign": [dataset.sign_names[label] for label in labels],
            "length": dataset.lengths[indices],
        }
    )
    with atomic_path(directory / VALIDATION) as temporary:
        pq.write_table(table, temporary)


def _git_commit() -> str | None:
    """Of this program's source, or None outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
