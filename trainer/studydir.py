"""A study's directory: the only place that knows its files' names, formats and versions.

    study.json               what was asked; written before the first trial
    study.db                 the Optuna study, unless that is in another database
    validation.parquet       one row a held-out sequence, in the order of every trial's val_probs.npy
    trials/0007/             one trial (trainer.rundir)
    trials.parquet           one row a trial
    notes.json               what the user noted of trials
    report.html              written by search.report
    logs/                    written by --log
    ensemble/                written by ensemble.select: selection.json, frontier.parquet, submission.zip;
                             costs.json and val_probs/ keep what was measured of candidates

search writes a study, ensemble reads it: they meet here, and import nothing of each other.
"""

import difflib
import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.common.errors import FieldError, UserError, first_line
from trainer.common.fields import shorten, to_count, to_place
from trainer.common.files import (
    LOCK,
    atomic_path,
    is_locked,
    mistaken,
    require_writable,
    sha256,
    to_path,
    write_json,
)
from trainer.common.storage import Remote, base_name, copy_folder, is_uri, join, parent
from trainer.common.strict import check_type, described, read_object
from trainer.config import TrainConfig
from trainer.rundir import BRING_BACK, CONFIG, DONE, METRICS, RunDir
from trainer.validation import Validation

STUDY_JSON: Final = "study.json"
STUDY_DB: Final = "study.db"
VALIDATION: Final = "validation.parquet"
TRIALS: Final = "trials"
TRIALS_PARQUET: Final = "trials.parquet"
NOTES: Final = "notes.json"
REPORT: Final = "report.html"
LOGS: Final = "logs"
ENSEMBLE: Final = "ensemble"
SELECTION: Final = "selection.json"
FRONTIER: Final = "frontier.parquet"
SUBMISSION: Final = "submission.zip"
COSTS: Final = "costs.json"
CHECKSUM: Final = "checksum"  # of selection.json's other fields
FILE_PROBS: Final = "val_probs"  # of candidates' own files, in ENSEMBLE

REQUEST_VERSION: Final = 1  # of study.json
SELECTION_VERSION: Final = 2  # of selection.json


@dataclass(frozen=True)
class StudyDir:
    """Reader and writer of a study's files. Reading raises UserError naming a file that is missing or broken.

    >>> StudyDir(Path("results/asl")).trial(7).path.as_posix()
    'results/asl/trials/0007'
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", to_path(self.path, "path"))

    @property
    def exists(self) -> bool:
        """Whether there is a study here."""
        return (self.path / STUDY_JSON).is_file()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    def trial(self, number: int) -> RunDir:
        return RunDir(self.path / TRIALS / f"{to_count(number, 'number', least=0):04d}")

    def trials(self) -> list[RunDir]:
        """All trials that have a directory, by number."""
        found = [path for path in (self.path / TRIALS).glob("*/") if path.name.isdecimal()]
        own = [path for path in found if path.name == f"{int(path.name):04d}"]  # not a copy, 00003
        return [RunDir(path) for path in sorted(own, key=lambda path: int(path.name))]

    def read_request(self) -> dict[str, Any]:
        """The fields of study.json, but for its version."""
        path = self.path / STUDY_JSON
        if wrong := mistaken(self.path, "folder"):
            raise UserError(f"{self.path}: {wrong}; give a study's")
        if not path.exists():
            raise UserError(no_study(str(self.path), STUDY_JSON))
        content = _read_versioned(path, REQUEST_VERSION)
        try:
            for name, hint in {"label_names": list[str], "data": str, "base_config": dict[str, Any]}.items():
                if name not in content:
                    raise FieldError("is missing", field=name)
                check_type(name, content[name], hint)
            TrainConfig.from_json(content["base_config"])
        except FieldError as error:
            raise UserError(f"{path}: {error}; {BRING_BACK}") from error
        return content

    def write_request(self, fields: dict[str, Any]) -> None:
        write_json(self.path / STUDY_JSON, {"format_version": REQUEST_VERSION, **fields})

    def read_validation(self, num_signs: int, digest: str | None = None) -> Validation:
        """What is held out, as ``Validation.read`` does; ``digest`` is its SHA-256, where study.json has it."""
        return Validation.read(self.path / VALIDATION, num_signs, digest)

    def require_own(self, run: RunDir, config: TrainConfig, request: dict[str, Any]) -> None:
        """Raises UserError if a trial's configuration is not one that study.json, read as ``request``, asks for."""
        number, space, asked = int(run.path.name), request.get("space"), request.get("trials")
        if not request.get("warm_start") and isinstance(asked, int) and number >= asked:
            raise UserError(f"is not one of the {asked} trials that {STUDY_JSON} asks for: of another study, or a copy")
        searched = {name for name, value in space.items() if isinstance(value, dict | list)} if space else set()
        base = TrainConfig.from_json(request["base_config"])
        expected, found = base.to_flat(), config.to_flat()
        if isinstance(space, dict) and "seed" not in space:
            expected["seed"] += number  # each trial trains with one of its own
        for name in expected.keys() - searched if isinstance(space, dict) else ():
            if found[name] != expected[name]:
                raise UserError(f"config.json: {name}: {found[name]!r}, but {STUDY_JSON} has {expected[name]!r} for it")

    def require_signs(self, label_names: Sequence[str]) -> None:
        """Raises UserError if validation.parquet names its labels otherwise than study.json does."""
        named = Validation.signs_of(self.path / VALIDATION)
        for label, sign in named.items():
            if label_names[label] != sign:
                raise UserError(
                    f"{self.path / STUDY_JSON}: label_names: sign {label} is {label_names[label]!r}, but {VALIDATION} "
                    f"calls it {sign!r}; {BRING_BACK}"
                )

    def write_validation(self, validation: Validation, label_names: tuple[str, ...]) -> None:
        validation.write(self.path / VALIDATION, label_names)

    def read_selection(self) -> dict[str, Any] | None:
        """The fields of ensemble/selection.json; None if nothing was selected yet."""
        return read_selection(self.path / ENSEMBLE)

    def read_frontier(self) -> list[dict[str, Any]]:
        """The rows of ensemble/frontier.parquet, as ensemble.evaluation.frontier wrote them."""
        path = self.path / ENSEMBLE / FRONTIER
        try:
            rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); run ensemble.select again") from error
        return rows


def no_study(folder: str, missing: str) -> str:
    """What is said of a folder that is no study, as it lacks a file: which studies are in it, or how to make one.

    ``folder`` is a path or URI; what is behind a URI is not looked at.
    """
    said = f"{folder}: holds no study (no {missing})"
    if not is_uri(folder) and (names := studies_in(Path(folder))):
        more = f" or one of {len(names) - 3} more" if len(names) > 3 else ""
        return f"{said}; it holds studies: give {', '.join(join(folder, name) for name in names[:3])}{more}"
    if not is_uri(folder) and not Path(folder).exists():
        names = studies_in(Path(folder).absolute().parent, like=Path(folder).name)[:3]
        near = ", ".join(join(parent(folder), name) for name in names)
        said += f"; there are {near}" if near else ""
    return f"{said}; make one with: python -m search.run"


def studies_in(folder: Path, like: str | None = None) -> list[str]:
    """Names of the studies right in a folder: the last made first, or those called most ``like`` a name."""
    found = [path.parent for path in folder.glob(f"*/{STUDY_JSON}")]
    if like is not None:
        names = sorted(path.name for path in found)
        return difflib.get_close_matches(like, names, n=max(len(names), 1), cutoff=0)
    return [path.name for path in sorted(found, key=lambda path: (path / STUDY_JSON).stat().st_mtime, reverse=True)]


def resume_command(where: str, *, retry_failed: bool = False) -> str:
    """The command that goes on with a study in a folder or behind a URI.

    >>> resume_command("results/asl", retry_failed=True)
    'python -m search.run --resume --retry-failed --name asl'
    """
    again = ["--retry-failed"] if retry_failed else []
    if not is_uri(where) and Path(where).name in ("", ".."):
        where = str(Path(where).resolve())
    results = [] if (folder := parent(where)) == "results" else ["--results", folder]
    return shlex.join(["python", "-m", "search.run", "--resume", *again, "--name", base_name(where), *results])


def read_selection(folder: Path) -> dict[str, Any] | None:
    """The fields of selection.json in the folder of an ensemble; None if there is none."""
    path = folder / SELECTION
    return _read_versioned(path, SELECTION_VERSION) if path.exists() else None


@dataclass(frozen=True)
class Folder:
    """A study's folder to work on here, wherever it lies."""

    shown: str
    """As it was given, without keys"""
    path: Path
    """Itself, or this machine's copy"""
    remote: Remote | None

    @classmethod
    def open(cls, where: str | Path, needed: Callable[[str], bool] = lambda _: True) -> Self:
        """Raises StorageError if it is a URI and cannot be read.

        Of a study behind a URI, files whose names in it are ``needed`` are copied, but never checkpoints and locks.
        """
        where = to_place(where, "study")
        if not is_uri(where):
            if wrong := mistaken(Path(where), "folder"):
                raise UserError(f"{where}: {wrong}; give a study's")
            return cls(where, Path(where), None)
        remote, path = Remote.open(where), copy_folder("copies", where)
        remote.copy_to(path, lambda name: "checkpoint" not in name and not name.startswith(LOCK) and needed(name))
        return cls(where, path, remote)

    @property
    def is_at_work(self) -> bool:
        """Whether a search is at work on it; behind a URI also for one that was killed, until it is resumed."""
        return is_locked(self.path) if self.remote is None else bool(self.remote.child(LOCK).files())

    def fetch(self, name: str) -> None:
        """Have one more file of a study behind a URI here; one that is not there is not missed."""
        if self.remote is not None and not (self.path / name).is_file() and name in self.remote.files():
            self.remote.download(name, self.path / name)

    def publish(self, *names: str) -> None:
        """Bring files, or all that a folder holds, to where they belong."""
        for name in names if self.remote is not None else ():
            path = self.path / name
            for file in [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]:
                assert self.remote is not None
                self.remote.upload(file, str(file.relative_to(self.path)))

    def can_write(self, *names: str) -> bool:
        """Whether files can be put where they belong, into its folders ``names``."""
        try:
            if self.remote is not None:
                self.remote.check_writable(self.path)
            else:
                for name in names:
                    require_writable("", self.path / name)
        except UserError:
            return False
        return True

    def show(self, path: Path) -> str:
        """A path below this folder as the user knows it."""
        if self.remote is None or not path.is_relative_to(self.path):
            return str(path)
        return join(self.shown, str(path.relative_to(self.path)))


def for_tables(name: str) -> bool:
    """Whether a table of all trials needs a file of a study: kilobytes a trial.

    >>> for_tables("trials/0007/config.json"), for_tables("trials/0007/weights.safetensors")
    (True, False)
    """
    return name in (STUDY_JSON, STUDY_DB, NOTES) or (name.startswith(f"{TRIALS}/") and name.endswith((CONFIG, DONE)))


def for_reports(name: str) -> bool:
    """Whether a report needs a file of a study: what a table needs, what was recorded of epochs, what was selected."""
    return for_tables(name) or name.endswith(METRICS) or name in (f"{ENSEMBLE}/{SELECTION}", f"{ENSEMBLE}/{FRONTIER}")


def for_selections(name: str) -> bool:
    """Whether selecting an ensemble needs a file of a study: all but its database, logs, and what is shown of it."""
    shown = (STUDY_DB, TRIALS_PARQUET, NOTES, REPORT)
    return name not in shown and not name.startswith(f"{LOGS}/") and not name.endswith(METRICS)


def write_selection(folder: Path, fields: dict[str, Any]) -> None:
    """Write selection.json into the folder of an ensemble, a study's own or another, last of its files.

    It states their SHA-256, and its own content's.
    """
    files = {name: sha256(folder / name) for name in (SUBMISSION, FRONTIER) if (folder / name).is_file()}
    fields = {**fields, "files": files}
    write_json(folder / SELECTION, {"format_version": SELECTION_VERSION, **fields, CHECKSUM: _checksum(fields)})


def require_as_written(folder: Path, fields: dict[str, Any], files: Sequence[str] = (SUBMISSION, FRONTIER)) -> None:
    """Raises UserError if selection.json, read as ``fields``, or one of these files is not what was written.

    A file that is gone is not missed. What versions before 0.2 wrote is believed.
    """
    again = "run ensemble.select again"
    if fields.get(CHECKSUM, _checksum(fields)) != _checksum(fields):
        raise UserError(f"{folder / SELECTION}: was changed since it was written; {again}")
    expected = fields.get("files", {})
    for name in files:
        path = folder / name
        if name in expected and path.is_file() and sha256(path) != expected[name]:
            raise UserError(f"{path}: is not the file that {SELECTION} tells of; {again}")


def _checksum(fields: dict[str, Any]) -> str:
    content = {name: value for name, value in fields.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_frontier(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Write frontier.parquet into the folder of an ensemble, a study's own or another."""
    with atomic_path(folder / FRONTIER) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def _read_versioned(path: Path, version: int) -> dict[str, Any]:
    """A JSON object that was written in this version of its format, without the field that says so."""
    content = read_object(path, BRING_BACK)
    found = content.pop("format_version", None)
    if found != version or isinstance(found, bool):
        found = described(found)
        versions = content.get("versions")
        by = versions.get("sign-ensemble-search") if isinstance(versions, dict) else None
        if by == metadata.version("sign-ensemble-search"):
            raise UserError(
                f"{path}: format_version is {found} and not {version}, though this version wrote the file: it was "
                f"changed or damaged since; write {version} there if the rest is whole"
            )
        writer = "another version of sign-ensemble-search" if by is None else f"sign-ensemble-search {shorten(str(by))}"
        raise UserError(f"{path}: format_version is {found}, written by {writer}; this version reads {version}")
    return content
