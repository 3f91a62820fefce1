"""What is asked of a selection, and the studies that it is asked of, opened and checked before anything is measured."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ensemble.budget import Budget
from ensemble.candidates.full_data import FullData
from ensemble.candidates.opening import open_pools
from ensemble.candidates.pool import Pool
from ensemble.choices import PREFERENCES
from ensemble.selection import scores
from ensemble.tflite.export import PRECISIONS
from ensemble.tflite.latency import Target
from trainer.common.errors import UserError
from trainer.common.fields import shorten, to_place
from trainer.common.files import mistaken, require_writable
from trainer.common.strict import check_type
from trainer.studydir import (
    ENSEMBLE,
    FRONTIER,
    SELECTION,
    STUDY_JSON,
    SUBMISSION,
    Folder,
    StudyDir,
    for_selections,
    no_study,
)

RESULTS: Final = Path("results")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked for. Raises UserError if a field is out of its range."""

    studies: tuple[str, ...] = ()
    """Paths or URIs of the studies whose trials are candidates; empty for the newest study in results/"""
    budget: Budget = dataclasses.field(default_factory=Budget)
    out: Path | None = None
    """Folder to write to; None for the folder ``ensemble`` of the study"""
    ignore: tuple[str, ...] = ()
    """Trials that are no candidates, by their names in a pool: 0007, or of several studies asl/0007"""
    data: str | None = None
    """Path or URI of the packed dataset, if it is no longer where the search had it"""
    ship: str | None = None
    """Study of the same trainings on all participants, whose weights go into the file"""
    metric: str = "blend"
    """A name in scores.SCORES"""
    exact: bool = False
    """Also try every set of candidates, if few enough fit"""
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    prefer: str = "cheapest"
    """A name in PREFERENCES"""
    remeasure: bool = False
    """Time candidates again, whatever the studies have cached"""
    target: Target = dataclasses.field(default_factory=Target)

    def __post_init__(self) -> None:
        for name in ("data", "ship"):
            if (where := getattr(self, name)) is not None:
                object.__setattr__(self, name, to_place(where, name))
        object.__setattr__(self, "studies", tuple(to_place(study, "studies") for study in self.studies))
        for name in ("exact", "remeasure"):
            check_type(name, getattr(self, name), bool)
        for field, names, known in (
            ("metric", (self.metric,), scores.SCORES),
            ("prefer", (self.prefer,), PREFERENCES),
            ("precision", self.precisions, PRECISIONS),
        ):
            if not names or not set(map(str, names)) <= set(known):
                found = ", ".join(map(str, names)) or "nothing"
                raise UserError(f"must be of {', '.join(known)}, not {shorten(found)}", field=field)


@dataclass(frozen=True)
class Opened:
    """The studies of a request, and their candidates."""

    request: Request
    folders: list[Folder]
    pool: Pool
    full_data: FullData | None

    @property
    def out(self) -> Path:
        """The folder to write to."""
        return self.request.out or self.folders[0].path / ENSEMBLE


def newest_study(results: Path) -> Path:
    """The study under a folder that was made last, among those that held participants out.

    Raises UserError if there is none.
    """
    made = []
    for path in results.glob("*/"):
        study = StudyDir(path)
        try:
            about = study.read_request() if study.exists else {"base_config": {"all_participants": True}}
        except UserError:  # broken, or of another version
            continue
        if not about["base_config"].get("all_participants", False):
            made.append((str(about.get("created", "")), path))
    if not made:
        raise UserError(f"{results}/: holds no study; make one with: python -m search.run")
    return max(made)[1]


def open_studies(request: Request) -> Opened:
    """Open the studies of a request, and leave out what cannot be shipped, before anything is measured.

    Raises UserError if they cannot be used together, or nothing can be written.
    """
    where = request.studies or (str(newest_study(RESULTS)),)
    if request.out is None and len(set(where)) > 1:
        raise UserError(f"these are {len(where)} studies: say which folder to write to", field="out")
    if request.out is not None:
        require_writable("out", request.out)
    folders = [Folder.open(study, for_selections) for study in where]
    for folder in folders:
        if not StudyDir(folder.path).exists:
            raise UserError(no_study(folder.shown, STUDY_JSON), field="studies")
    pool = open_pools([(folder.shown, folder.path) for folder in folders]).without(request.ignore)
    if request.data is not None:
        pool = pool.replace(data=request.data)
        try:
            _ = pool.dataset  # opened only now; it may be none, or another
        except UserError as error:
            raise UserError(error.message, field="data") from error
    if request.out is None:  # otherwise checked before anything was read
        require_writable("out", folders[0].path / ENSEMBLE)
    out = request.out or folders[0].path / ENSEMBLE
    for name in (SUBMISSION, FRONTIER, SELECTION):
        if wrong := mistaken(out / name, "file"):
            raise UserError(f"{out / name}: {wrong}; remove it, or give another folder", field="out")
    full_data = None if request.ship is None else FullData(Folder.open(request.ship, for_selections).path, request.ship)
    if full_data is not None:
        full_data.require_like(pool)
        full_data.require_some(pool.that_ship)
    return Opened(request, folders, pool, full_data)
