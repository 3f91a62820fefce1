"""Candidates -> the cost and the predictions of each one's .tflite file at each precision, measured on the files.

Costs are cached in the trial's study, in ensemble/costs.json, under the SHA-256 of the very file that was timed: in one
setting (machine, runtime, threads, lengths) nothing is timed twice, and no stale number is used. Files that round the
trained weights are run on the validation sequences; their own probabilities, cached under the same hash, are what they
are selected by. Without the packed dataset, precisions close to the training's are selected by the trial's predictions,
and others are left out. If a study is read-only, the caches are kept in the output folder.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from rich.markup import escape

from ensemble.budget import BuiltFile, Cost
from ensemble.candidates.folds import by_fold, combined
from ensemble.candidates.kept import find, keep, key_of
from ensemble.candidates.opening import require_probabilities
from ensemble.candidates.pool import Candidate, DatasetGoneError, Pool, require_any, without_folder
from ensemble.candidates.priced import PricedPool
from ensemble.candidates.reproduction import deviation, predict_all, reproducible
from ensemble.tflite import export, latency
from ensemble.tflite.latency import Target
from ensemble.tflite.submission import with_labels
from trainer import studydir
from trainer.common.console import console
from trainer.common.errors import StorageError, UserError
from trainer.common.files import write_json
from trainer.common.storage import base_name
from trainer.common.strict import check_type, checked, read_array, read_object
from trainer.metrics import accuracy, log_loss, to_half
from trainer.studydir import ENSEMBLE, Folder

COSTS: Final = f"{ENSEMBLE}/{studydir.COSTS}"
PROBS: Final = f"{ENSEMBLE}/{studydir.FILE_PROBS}"
TRIAL_PROBS: Final = f"{PROBS}/trials"  # of some sequences, by which trials are believed
FASTEST, SLOWEST = 1e-4, 1e7  # milliseconds that a kept time of a sequence may be
COMPARED: Final = 1000  # sequences on which a file is compared with its trial


def keeping_roots(folders: Sequence[Folder], out: Path | None) -> dict[Path, Path]:
    """The folder that caches each study's measurements, by the study's path on this machine.

    It is the study itself, or a folder under ``out`` if the study is read-only and ``out`` is given.
    """
    roots = {}
    for folder in folders:
        root = folder.path
        if out is not None and not folder.can_write(str(Path(COSTS).parent), PROBS):
            where = folder.shown if folder.remote else str(folder.path.resolve())
            root = out / "measured" / f"{base_name(where)}-{sha256(where.encode()).hexdigest()[:8]}"
        roots[folder.path] = root
    return roots


def measure(
    pool: Pool,
    precisions: Sequence[str],
    target: Target,
    anew: bool = False,
    roots: Mapping[Path, Path] = MappingProxyType({}),
) -> PricedPool:
    """Build, weigh and time a .tflite file of each candidate at each precision; shows a progress bar.

    The pool that comes back has one candidate per file. Trials that cannot be made again are left out, and so are files
    that cannot be built, or predict too little of what the trial does. What the studies have cached is used, except
    that ``anew`` times every file again; new measurements are cached in each study, or in the folder that ``roots``
    names for it. Raises UserError if no candidate is left, and StorageError if it cannot be told whether the packed
    dataset is there.

    Where the folds were held out in turn, the candidates that come back are configurations (ensemble.candidates.folds);
    only the files of fold 0, which may ship, are timed.
    """
    if pool.validation.folds is None:
        return _measure(pool, precisions, target, anew, roots)
    measured = (_measure(its, precisions, target, anew, roots, is_timed=not k) for k, its in enumerate(by_fold(pool)))
    return combined(pool, list(measured))


def _measure(
    pool: Pool,
    precisions: Sequence[str],
    target: Target,
    anew: bool,
    roots: Mapping[Path, Path],
    is_timed: bool = True,
) -> PricedPool:
    """The same of the trials of one fold; costs are all 0 if nothing ``is_timed``."""
    places = {study: tuple(dict.fromkeys((roots.get(study, study), study))) for study in pool.studies}
    caches = {study: _Cache(its, pool, target, anew) for study, its in places.items()}
    kept = {study: [root / TRIAL_PROBS for root in its] for study, its in places.items()}
    base = caches[pool.studies[0]].cost(export.build_shared(pool.max_frames), 0, 0) if is_timed else Cost()
    candidates, costs, left_out, changed = [], [], dict(pool.left_out), dict(pool.changed)
    gone: list[DatasetGoneError] = []
    for files in reproducible(pool, left_out, kept):
        if files.change is not None:
            changed[files.candidate.name] = files.change
        for precision in precisions:
            variant = dataclasses.replace(files.candidate, precision=precision)
            label = variant.name if len(precisions) == 1 else f"{variant.name} {precision}"
            try:
                content = files.at(precision)
                candidate = _with_own_probs(variant, pool, content, places[variant.study])
            except DatasetGoneError as error:
                if export.PRECISIONS[precision].trial_predictions == "far":
                    left_out[label] = error.message
                    continue
                gone.append(error)
                candidate = variant
            except StorageError:
                raise
            except UserError as error:
                left_out[label] = without_folder(error, variant.run.path)
                continue
            candidates.append(candidate)
            cost = caches[candidate.study].cost(content, candidate.num_parameters, 1) if is_timed else base
            costs.append(np.maximum(cost.to_array() - base.to_array(), 0))
    require_any(pool.studies, candidates, left_out)
    if gone:
        console.print(
            f"[yellow]{len(gone)} files cannot be run; as their precision is close to the training's, the trials' "
            f"predictions stand for theirs:[/] {escape(gone[0].message)}",
            soft_wrap=True,
        )
    return PricedPool(pool.replace(candidates=candidates, left_out=left_out, changed=changed), base, np.array(costs))


def _with_own_probs(variant: Candidate, pool: Pool, content: bytes, roots: Sequence[Path]) -> Candidate:
    """The variant with the probabilities that its file gives the validation sequences, computed once.

    They are cached in the first of the roots, unless one of them has them. Raises what ``Pool.dataset`` does, and
    UserError if they are further from the trial's than the precision explains.
    """
    if export.PRECISIONS[variant.precision].trial_predictions == "exact":
        return variant
    key = key_of(content)
    kept = find([root / PROBS for root in roots], key)
    path = next((found for found in kept if _may_be_of(found, variant, pool)), None)
    if path is None:
        probs = to_half(predict_all(content, pool))
        _require_near(probs, variant, pool)
        path = keep(roots[0] / PROBS, key, probs)
    own = dataclasses.replace(variant, probs=path)
    probs = own.val_probs()
    return dataclasses.replace(
        own, val_accuracy=accuracy(probs, pool.validation.labels), val_log_loss=log_loss(probs, pool.validation.labels)
    )


def _may_be_of(path: Path, variant: Candidate, pool: Pool) -> bool:
    """Whether kept probabilities may be those of the variant's file."""
    try:
        probs = read_array(path)
        require_probabilities(probs, (len(pool.validation.labels), len(pool.label_names)), path.name)
        _require_near(probs, variant, pool)
    except (OSError, ValueError, UserError):
        return False
    return True


def _require_near(probs: np.ndarray, variant: Candidate, pool: Pool) -> None:
    """Raises UserError if the file's probabilities are further from the trial's than its precision explains.

    Some sequences tell.
    """
    places = pool.spread(COMPARED)
    most = export.PRECISIONS[variant.precision].largest_deviation
    off = deviation(probs[places].astype(np.float64), variant.val_probs()[places])
    if not off <= most:  # a NaN is not
        raise UserError(
            f"its {variant.precision} file does not predict what the trial does (they deviate by {off:.1e}, of at most "
            f"{most:.0e})"
        )


@dataclass(frozen=True)
class _Entry:
    """An entry of costs.json."""

    setting: dict[str, Any]
    milliseconds: dict[str, float]
    """By the SHA-256 of the file"""


def _read_costs(path: Path) -> list[_Entry]:
    """The entries of costs.json, if there is one. Times that no file takes are left out, or else all; that is said."""
    if not path.exists():
        return []
    found: list[_Entry] = []
    wrong: list[float] = []
    try:
        settings: Any = read_object(path).get("settings")
        check_type("settings", settings, list[dict[str, Any]])
        for entry in [checked(_Entry, fields) for fields in settings]:
            timed = {key: float(value) for key, value in entry.milliseconds.items() if FASTEST <= value <= SLOWEST}
            found.append(_Entry(entry.setting, timed))
            wrong += [value for key, value in entry.milliseconds.items() if key not in timed]
        reason = f"milliseconds: {wrong[0]:g} is no time that a file takes; {len(wrong)} left out" if wrong else ""
    except UserError as error:
        reason = f"{str(error).removeprefix(f'{path}: ')}; all of it is left out"
    if reason:
        again = "their files are timed again (remeasure has all timed again)"
        console.print(f"[yellow]{escape(f'{path}: {reason}')}; {again}[/]", soft_wrap=True)
    return found


class _Cache:
    """Latencies of files in one setting, by the SHA-256 of their content; other settings' latencies are kept too."""

    def __init__(self, roots: Sequence[Path], pool: Pool, target: Target, anew: bool) -> None:
        """Read the caches of all roots; new latencies go to the first."""
        self._path = roots[0] / COSTS
        self._pool = pool
        self._target = target
        self._lengths = latency.typical_lengths(pool.validation.lengths)
        setting = {
            "machine": latency.machine(),
            "litert": version("ai-edge-litert"),
            "threads": target.threads,
            "lengths": self._lengths,
        }
        self._settings: list[dict[str, Any]] = []
        for root in roots:
            for entry in _read_costs(root / COSTS):
                self._add(entry.setting, entry.milliseconds)
        of_this = [entry for entry in self._settings if entry["setting"] == setting]
        if anew:
            self._settings = [entry for entry in self._settings if entry not in of_this]
        if anew or not of_this:
            of_this = [{"setting": setting, "milliseconds": {}}]
            self._settings += of_this
        self._milliseconds: dict[str, float] = of_this[0]["milliseconds"]

    def _add(self, setting: dict[str, Any], milliseconds: dict[str, float]) -> None:
        known = next((entry for entry in self._settings if entry["setting"] == setting), None)
        if known is None:
            self._settings.append({"setting": setting, "milliseconds": milliseconds})
        else:
            known["milliseconds"] = milliseconds | known["milliseconds"]

    def cost(self, model: bytes, parameters: int, members: int) -> Cost:
        """Cost of a .tflite file once the signs' names are attached; it is timed unless it was before."""
        model = with_labels(model, self._pool.label_names)
        key = sha256(model).hexdigest()
        if key not in self._milliseconds:
            self._milliseconds[key] = latency.measure(model, self._lengths, threads=self._target.threads).mean
            write_json(self._path, {"settings": self._settings})
        milliseconds = self._target.latency_scale * self._milliseconds[key]
        return Cost.of(BuiltFile(content=model, parameters=parameters, members=members, milliseconds=milliseconds))
