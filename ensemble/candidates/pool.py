"""Studies -> the candidates that an ensemble is chosen from: the model and predictions of each finished trial.

ensemble.candidates.measure builds their .tflite files and measures what those cost and predict.
"""

import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from ensemble.tflite import export
from trainer.common.errors import StorageError, UserError
from trainer.common.storage import base_name
from trainer.common.strict import read_array
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset
from trainer.landmarks import NUM_ROWS, ROWS
from trainer.metrics import accuracy, log_loss
from trainer.model.classifier import num_parameters, weight_shapes
from trainer.rundir import Result, RunDir
from trainer.studydir import STUDY_JSON, TRIALS, VALIDATION, StudyDir, Validation

NOT_FINISHED: Final = "not finished: no done.json (stopped early, failed, still running, or the file was removed)"
OTHER_MAX_FRAMES: Final = "config.json: another max_frames than most candidates have"
_OPENING: Final = threading.Lock()  # np.load parses a header with ast, which fails in threads (CPython gh-106905)
ROUNDING: Final = 0.02  # a row of float16 probabilities may miss 1 by this much
LOG_LOSS_ROUNDING: Final = 0.02  # of the log loss of float16 probabilities plus 1: those below 6e-5 have few digits


class DatasetGoneError(UserError):
    """The packed dataset that a study was made on is not where it was, or is another."""


@dataclass(frozen=True)
class Candidate:
    """A finished trial's model, at one precision."""

    name: str
    """The trial's number, as its directory has it: 0007; where there are several studies, asl/0007"""
    run: RunDir
    model: ModelConfig
    precision: str
    """A name in export.PRECISIONS"""
    probs: Path | None
    """The predictions of its own file; None if those of the trial stand for them"""
    num_parameters: int
    val_accuracy: float
    val_log_loss: float

    @property
    def study(self) -> Path:
        """Directory of the trial's study."""
        return self.run.path.parents[1]

    def val_probs(self) -> np.ndarray:
        """float16 [N, signs], memory-mapped."""
        with _OPENING:
            if self.probs is None:
                return self.run.read_val_probs()
            probs: np.ndarray = read_array(self.probs)
            return probs


@dataclass(frozen=True)
class Pool:
    """Candidates of one or more studies, and the validation sequences that all of them predicted, in one order."""

    studies: tuple[Path, ...]
    candidates: list[Candidate]
    left_out: dict[str, str]
    """Why trials are no candidates, by their names"""
    label_names: tuple[str, ...]
    validation: Validation
    """The sequences that all candidates predicted, N of them, in the order of the rows of their predictions"""
    data: str
    """Path or URI of the packed dataset: where it was for the first study, or where it is now"""
    fingerprint: str | None
    """Fingerprint of the packed dataset; None if the study does not say"""
    changed: dict[str, str] = dataclasses.field(default_factory=dict)
    """How files of candidates are not those that the training left, by their names, once they are measured"""

    @property
    def max_frames(self) -> int:
        """Of every candidate's model."""
        return self.candidates[0].model.max_frames

    @functools.cached_property
    def dataset(self) -> PackedDataset:
        """Hashed whole, as what it says decides what ships.

        Raises DatasetGoneError if it is not there or another, and StorageError if that cannot be told or if its files
        are not what its manifest says.
        """
        try:
            dataset = PackedDataset.open(self.data)
            dataset.verify()
        except StorageError:
            raise
        except UserError as error:
            raise DatasetGoneError(f"{error}; if it was moved, say where it is now", field="data") from error
        is_known = bool(np.isin(self.validation.sequence_ids, dataset.sequence_ids).all())
        if self.fingerprint != dataset.fingerprint and not (self.fingerprint is None and is_known):
            raise DatasetGoneError(
                f"{self.data}: is not the packed dataset that the study was made on; say where that is", field="data"
            )
        if not is_known:
            raise self._not_of_dataset("sequence_ids")
        if dataset.sign_names != self.label_names:
            raise UserError(
                f"{self.studies[0] / STUDY_JSON}: label_names: are not the signs of {self.data}, by its manifest.json; "
                "bring back whichever was changed"
            )
        rows = _rows(dataset, self.validation)
        for name in ("labels", "participants", "lengths"):
            if not np.array_equal(getattr(dataset, name)[rows], getattr(self.validation, name)):
                raise self._not_of_dataset(name)
        return dataset

    def _not_of_dataset(self, name: str) -> UserError:
        where = f"{self.studies[0] / VALIDATION}: {name}"
        return UserError(f"{where}: are not those of {self.data}; bring the file back as the search left it")

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """The place of each validation sequence in ``dataset``: int64 [N]."""
        return _rows(self.dataset, self.validation)

    def replace(self, **changes: Any) -> "Pool":
        """The pool with other fields; a dataset that was opened, and hashed, stays so if it is still the one."""
        other = dataclasses.replace(self, **changes)
        if "dataset" in self.__dict__ and changes.keys() <= {"studies", "candidates", "left_out"}:
            other.__dict__["dataset"] = self.dataset
        return other

    def raw_sequences(self, places: Iterable[int]) -> Iterator[np.ndarray]:
        """Landmarks of validation sequences, by their places in 0 .. N - 1, as a .tflite file takes them.

        Yields float32 [n, 543, 3]. A packed dataset keeps x and y of 85 landmarks, centred, with (0, 0) for missing
        ones. These are put back at their rows of a frame; everything else, and what was missing, is NaN. As a file
        centres its input itself, it predicts what it would for the original. Raises what ``dataset`` does.
        """
        for place in places:
            points = self.dataset.sequence(int(self._rows[place]))
            is_missing = (points == 0).all(axis=2, keepdims=True)
            raw = np.full((len(points), NUM_ROWS, 3), np.nan, np.float32)
            raw[:, np.array(ROWS), :2] = np.where(is_missing, np.float32(np.nan), points)
            yield raw

    def spread(self, count: int) -> np.ndarray:
        """Places of ``count`` validation sequences, or of all if there are fewer: int64, ascending.

        Evenly spread over the sequences by length: the shortest and the longest are among them.
        """
        total = len(self.validation.labels)
        by_length = np.argsort(self.validation.lengths, kind="stable")
        return np.sort(by_length[np.linspace(0, total - 1, min(count, total)).astype(np.int64)])

    @property
    def val_probs(self) -> "ValProbs":
        """Every candidate's predictions, opened when asked for."""
        return ValProbs(self.candidates)


def _rows(dataset: PackedDataset, validation: Validation) -> np.ndarray:
    """The place of each validation sequence in the dataset, which has them all: int64 [N]."""
    order = np.argsort(dataset.sequence_ids)
    return order[np.searchsorted(dataset.sequence_ids, validation.sequence_ids, sorter=order)]


class ValProbs(Sequence[np.ndarray]):
    """Every candidate's val_probs, float16 [N, signs]: each memory map is opened when asked for, and let go after."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self._candidates = candidates

    def __len__(self) -> int:
        return len(self._candidates)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> "ValProbs": ...

    def __getitem__(self, index: int | slice) -> "np.ndarray | ValProbs":
        return ValProbs(self._candidates[index]) if isinstance(index, slice) else self._candidates[index].val_probs()


def _missing(study: StudyDir, request: dict[str, Any]) -> list[str]:
    """Trials that must have been, as later ones are there, but have no folder."""
    asked, numbers = request.get("trials"), {int(run.path.name) for run in study.trials()}
    if request.get("warm_start") or not isinstance(asked, int):  # the first may be of earlier studies
        return []
    return [f"{number:04d}" for number in range(min(max(numbers, default=0), asked)) if number not in numbers]


def open_pool(path: Path) -> Pool:
    """Read a study. A broken trial is left out with its reason; a broken study raises UserError."""
    study = StudyDir(path)
    request = study.read_request()
    label_names = tuple(request["label_names"])
    validation = study.read_validation(len(label_names), request.get("validation_sha256"))
    study.require_signs(label_names)
    base = {"num_folds": TrainConfig().num_folds, "fold": TrainConfig().fold, **request["base_config"]}
    split = (base["num_folds"], base["fold"])  # held out by all trials, or their predictions could not be compared
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    for run in study.trials():
        try:
            fingerprint = request.get("data_fingerprint")
            candidate = _read_trial(run, validation.labels, len(label_names), fingerprint, split)
            study.require_own(run, run.read_config(), request)
            if request.get("validation_sha256") is not None and not run.has_hashes:  # 0.1 left neither
                raise UserError("done.json: sha256: is missing; bring the file back as the training left it")
            candidates.append(candidate)
        except UserError as error:
            left_out[run.path.name] = without_folder(error, run.path)
    left_out |= dict.fromkeys(_missing(study, request), f"has no folder in {TRIALS}: its files were removed")
    most = Counter(candidate.model.max_frames for candidate in candidates).most_common(1)
    left_out |= {item.name: OTHER_MAX_FRAMES for item in candidates if item.model.max_frames != most[0][0]}
    candidates = [item for item in candidates if item.name not in left_out]
    require_any((path,), candidates, left_out)
    left_out = dict(sorted(left_out.items()))
    return Pool(
        studies=(path,),
        candidates=candidates,
        left_out=left_out,
        label_names=label_names,
        validation=validation,
        data=request["data"],
        fingerprint=request.get("data_fingerprint"),
    )


def require_any(studies: Sequence[Path], candidates: Sequence[Candidate], left_out: dict[str, str]) -> None:
    """Raises UserError, with the reasons, if no candidate is left."""
    if not candidates:
        ended = not any(reason == NOT_FINISHED for reason in left_out.values())
        hint = "" if ended else "; if the search was stopped, go on with it: python -m search.run --resume"
        raise UserError(f"{', '.join(map(str, studies))}: no trial can be used{listed(left_out)}{hint}")


def open_pools(studies: Sequence[tuple[str, Path]]) -> Pool:
    """Read studies, each given with the user's name for it, as one pool.

    If there are several, trials are named asl/0007. A trial that an earlier study holds too is left out, so that a
    study and its copy have each trial once. Raises UserError as ``open_pool`` does, or if two studies are the same or
    were not validated on the same sequences.
    """
    if len(studies) == 1:
        return open_pool(studies[0][1])
    if len({path.resolve() for _, path in studies}) < len(studies):
        raise UserError(f"the same study twice ({', '.join(shown for shown, _ in studies)})", field="studies")
    names = [base_name(str(path.resolve())) for _, path in studies]
    if len(set(names)) < len(names):
        names = [shown for shown, _ in studies]
    first, *others = pools = [open_pool(path) for _, path in studies]
    for (shown, _), other in zip(studies[1:], others, strict=True):
        if different := _difference(first, other):
            raise UserError(
                f"{shown}: {different} than {studies[0][0]}; only models validated on the same sequences can be chosen "
                "among",
                field="studies",
            )
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    holders: dict[str, str] = {}  # of predictions, by their hash
    for name, pool in zip(names, pools, strict=True):
        left_out |= {f"{name}/{trial}": reason for trial, reason in pool.left_out.items()}
        for candidate in pool.candidates:
            holder = holders.setdefault(sha256(candidate.val_probs().tobytes()).hexdigest(), name)
            if pool.max_frames != first.max_frames:
                left_out[f"{name}/{candidate.name}"] = OTHER_MAX_FRAMES
            elif holder != name:
                left_out[f"{name}/{candidate.name}"] = f"{holder} holds the same trial"
            else:
                candidates.append(dataclasses.replace(candidate, name=f"{name}/{candidate.name}"))
    paths = tuple(path for _, path in studies)
    return first.replace(studies=paths, candidates=candidates, left_out=left_out)


def _difference(first: Pool, other: Pool) -> str | None:
    """How another study differs in what all candidates of an ensemble must share; None if it does not."""
    if other.label_names != first.label_names:
        return "has other signs"
    if other.fingerprint != first.fingerprint:
        return "was searched on another packed dataset"
    if not np.array_equal(other.validation.sequence_ids, first.validation.sequence_ids):
        held_out = ", ".join(map(str, np.unique(other.validation.participants)))
        return f"holds out other participants ({held_out})"
    return None


def without_folder(error: UserError, path: Path) -> str:
    """The message of an error without the trial's directory, to be shown beside the trial's name."""
    return error.message.replace(f"{path}/", "")


def listed(left_out: dict[str, str]) -> str:
    """Why trials were left out, to be put behind a message in its line; empty if none was."""
    reasons = [f"{' '.join(names)}: {reason}" for reason, names in by_reason(left_out).items()]
    return f" ({'; '.join(reasons)})" if reasons else ""


def by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    """Names by their reason: the inverse of ``left_out``."""
    found: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        found.setdefault(reason, []).append(name)
    return found


def _read_trial(
    run: RunDir, labels: np.ndarray, num_signs: int, fingerprint: str | None, split: tuple[int, int]
) -> Candidate:
    """Raises UserError if the trial is unfinished, or any of its files is broken, of another study or changed."""
    if not run.is_done:
        raise UserError(NOT_FINISHED)
    config, result = run.read_config(), run.read_result()
    if (config.num_folds, config.fold) != split:
        raise UserError(
            f"config.json: fold: {config.fold} of {config.num_folds}, but the study's is {split[1]} of {split[0]}"
        )
    if config.all_participants:
        raise UserError(
            "trained on all participants: nothing to select it by; it can be shipped for the trial that it repeats"
        )
    run.require_own_result(config, result)
    if fingerprint not in (None, result.data_fingerprint):
        raise UserError(f"done.json: data_fingerprint: is another packed dataset's than {STUDY_JSON} has")
    probs = run.read_val_probs()
    require_probabilities(probs, (len(labels), num_signs), "val_probs.npy")
    _require_result(result, probs, labels)
    return Candidate(
        name=run.path.name,
        run=run,
        model=config.model,
        precision="float32",
        probs=None,
        num_parameters=result.num_parameters,
        val_accuracy=accuracy(probs, labels),
        val_log_loss=log_loss(probs, labels),
    )


def require_probabilities(probs: np.ndarray, shape: tuple[int, int], name: str) -> None:
    """Raises UserError, which calls them ``name``, if they are not of a shape [n, signs] or no probabilities."""
    if probs.shape != shape:
        raise UserError(f"{name}: shape {list(probs.shape)}, not {list(shape)} as {VALIDATION} says")
    rows = probs.sum(axis=1, dtype=np.float32)
    if not (np.allclose(rows, 1, atol=ROUNDING) and (probs >= 0).all()):  # a NaN fails too
        raise UserError(f"{name}: rows that are no probabilities")


def _require_result(result: Result, probs: np.ndarray, labels: np.ndarray) -> None:
    """Raises UserError if a result is not what the trial's own predictions give.

    float16 keeps the likeliest sign (trainer.metrics.to_half), but one that ties with others may count either way.
    """
    of_label = probs[np.arange(len(labels)), labels]
    is_largest = of_label == probs.max(axis=1)
    is_alone = (probs == of_label[:, None]).sum(axis=1) == 1
    least, most = float(np.mean(is_largest & is_alone)), float(np.mean(is_largest))
    if not least - 1e-9 <= result.val_accuracy <= most + 1e-9:
        raise UserError(
            f"done.json: val_accuracy: {result.val_accuracy:.4f}, but val_probs.npy gives {accuracy(probs, labels):.4f}"
        )
    found = log_loss(probs, labels)
    if not abs(found - result.val_log_loss) <= LOG_LOSS_ROUNDING * (1 + found):  # a NaN is not
        raise UserError(f"done.json: val_log_loss: {result.val_log_loss:.4f}, but val_probs.npy gives {found:.4f}")


def to_member(candidate: Candidate, count: int) -> export.Member:
    """Raises UserError if the weights cannot be read or are not a classifier's of its configuration."""
    weights = {name: tensor.numpy() for name, tensor in candidate.run.read_weights().items()}
    stored, stated = sum(weight.size for weight in weights.values()), candidate.num_parameters
    if stored == num_parameters(candidate.model) != stated:
        raise UserError(f"done.json: num_parameters: {stated}, but the weights have {stored}")
    if stored != num_parameters(candidate.model):
        raise UserError(f"weights.safetensors: not a classifier's of {stated} parameters")
    expected = weight_shapes(candidate.model)
    for name in sorted({*expected, *weights}):
        shape = weights[name].shape if name in weights else None
        if shape != expected.get(name):
            raise UserError(
                f"weights.safetensors: {name}: has the shape {shape}, not {expected.get(name)}: another model's"
            )
    if broken := [name for name, weight in weights.items() if not np.isfinite(weight).all()]:
        raise UserError(f"weights.safetensors: {broken[0]}: holds numbers that are not finite")
    return export.Member(candidate.model, weights, count, candidate.precision)
