"""The candidates that an ensemble is chosen from: the model and predictions of each finished trial.

ensemble.candidates.opening reads them; ensemble.candidates.measure builds their .tflite files and measures what those
cost and predict.
"""

import dataclasses
import functools
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from ensemble.tflite import export
from trainer.common.errors import StorageError, UserError
from trainer.common.fields import require_trials
from trainer.common.strict import read_array
from trainer.config import ModelConfig
from trainer.data.dataset import PackedDataset
from trainer.landmarks import NUM_ROWS, ROWS
from trainer.model.classifier import num_parameters, weight_shapes
from trainer.rundir import RunDir
from trainer.studydir import STUDY_JSON, VALIDATION, resume_command
from trainer.validation import Validation

NOT_FINISHED: Final = "not finished: no done.json (stopped early, failed, still running, or the file was removed)"
IGNORED: Final = "ignored, as asked"
_OPENING: Final = threading.Lock()  # np.load parses a header with ast, which fails in threads (CPython gh-106905)


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
    fold: int = 0
    """Whose participants it did not see"""

    @property
    def itself(self) -> "Candidate":
        """The trial whose file ships; another than this where this stands for several (ensemble.candidates.folds)."""
        return self

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
    of_files: "Pool | None" = None
    """The trials whose files ship; None if these are the candidates themselves (ensemble.candidates.folds)"""

    @property
    def itself(self) -> "Pool":
        """The pool that each candidate's ``itself`` is of."""
        return self if self.of_files is None else self.of_files

    @property
    def that_ship(self) -> list[Candidate]:
        """The trials whose files may ship: where folds were held out in turn, those of the first fold."""
        first = min(candidate.fold for candidate in self.candidates)
        return [candidate for candidate in self.candidates if candidate.fold == first]

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

    def without(self, names: Collection[str]) -> "Pool":
        """The pool without the candidates of these names. Raises UserError for another's, or if none is left."""
        if not names:
            return self
        require_trials(names, [*(candidate.name for candidate in self.candidates), *self.left_out], "ignore")
        left_out = dict(sorted({**self.left_out, **dict.fromkeys(names, IGNORED)}.items()))
        candidates = [candidate for candidate in self.candidates if candidate.name not in names]
        require_any(self.studies, candidates, left_out)
        return self.replace(candidates=candidates, left_out=left_out)

    def replace(self, **changes: Any) -> "Pool":
        """The pool with other fields; a dataset that was opened, and hashed, stays so if it is still the one."""
        other = dataclasses.replace(self, **changes)
        if "dataset" in self.__dict__ and "data" not in changes:
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


def require_any(studies: Sequence[Path], candidates: Sequence[Candidate], left_out: dict[str, str]) -> None:
    """Raises UserError, with the reasons, if no candidate is left."""
    if not candidates:
        unfinished = not left_out or NOT_FINISHED in left_out.values()
        hint = f"; if the search was stopped, go on with: {resume_command(str(studies[0]))}" if unfinished else ""
        why = listed(left_out) or ", as none is complete"
        raise UserError(f"{', '.join(map(str, studies))}: no trial can be used{why}{hint}")


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
