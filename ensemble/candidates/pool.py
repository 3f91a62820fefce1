"""Studies' directories -> the candidates that an ensemble is chosen from: each finished trial's model and predictions.

Which .tflite files these make, and what those cost and predict, is for ensemble.candidates.measure.
"""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble.tflite import export
from trainer.common.errors import StorageError, UserError
from trainer.common.storage import base_name
from trainer.config import ModelConfig
from trainer.data.dataset import PackedDataset
from trainer.landmarks import NUM_ROWS, ROWS
from trainer.metrics import accuracy, log_loss
from trainer.rundir import RunDir

STUDY: Final = "study.json"
VALIDATION: Final = "validation.parquet"
TRIALS: Final = "trials"
ROUNDING: Final = 0.02  # a row of float16 probabilities may miss 1 by this much


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
    """float32 as trained, or that of its file"""
    probs: Path | None
    """Where its own val_probs are, if they are not its trial's"""
    num_parameters: int
    val_accuracy: float
    val_log_loss: float

    @property
    def study(self) -> Path:
        """Whose trial it is."""
        return self.run.path.parents[1]

    def val_probs(self) -> np.ndarray:
        """float16 [N, signs], memory-mapped."""
        if self.probs is None:
            return self.run.read_val_probs()
        probs: np.ndarray = np.load(self.probs, mmap_mode="r", allow_pickle=False)
        return probs


@dataclass(frozen=True)
class Pool:
    """Candidates of one or more studies, and the validation sequences that all of them predicted, in one order."""

    studies: tuple[Path, ...]
    candidates: list[Candidate]
    left_out: dict[str, str]
    """Trials that are no candidates, by name, with the reason"""
    label_names: tuple[str, ...]
    labels: np.ndarray
    """int64 [N]"""
    participants: np.ndarray
    """int64 [N]"""
    lengths: np.ndarray
    """int64 [N], frames"""
    sequence_ids: np.ndarray
    """int64 [N]"""
    data: str
    """The packed dataset: path or URI, where it lay when the (first) study was made, or lies now"""
    fingerprint: str | None
    """Of the packed dataset"""

    @property
    def max_frames(self) -> int:
        """Of every candidate's model."""
        return self.candidates[0].model.max_frames

    @functools.cached_property
    def dataset(self) -> PackedDataset:
        """Raises DatasetGoneError if it is not there or another, and StorageError if that cannot be told."""
        try:
            dataset = PackedDataset.open(self.data)
        except StorageError:
            raise
        except UserError as error:
            raise DatasetGoneError(f"{error}; if it was moved, say with --data where it lies now") from error
        is_another = (
            f"{self.data}: is not the packed dataset that the study was made on; say with --data where that lies"
        )
        if self.fingerprint not in (None, dataset.fingerprint):
            raise DatasetGoneError(is_another)
        if not np.isin(self.sequence_ids, dataset.sequence_ids).all():
            raise DatasetGoneError(is_another)
        return dataset

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """int64 [N]: where each validation sequence stands in ``dataset``"""
        order = np.argsort(self.dataset.sequence_ids)
        return order[np.searchsorted(self.dataset.sequence_ids, self.sequence_ids, sorter=order)]

    def raw_sequences(self, places: Iterable[int]) -> Iterator[np.ndarray]:
        """Landmarks as a file gets them, float32 [n, 543, 3], of validation sequences by their place.

        They come from the packed dataset: centred, with NaN for all that it does not keep. Raises what ``dataset``
        does.
        """
        for place in places:
            points = self.dataset.sequence(int(self._rows[place]))
            raw = np.full((len(points), NUM_ROWS, 3), np.nan, np.float32)
            raw[:, np.array(ROWS), :2] = np.where((points == 0).all(axis=2, keepdims=True), np.float32(np.nan), points)
            yield raw

    @property
    def val_probs(self) -> "ValProbs":
        return ValProbs(self.candidates)


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


def open_pool(study: Path) -> Pool:
    """Read a study. A broken trial is left out with its reason; a broken study raises UserError."""
    about = _read_study(study)
    try:
        table = pq.read_table(study / VALIDATION)
        columns = {
            name: table[name].to_numpy().astype(np.int64)
            for name in ("label", "participant_id", "length", "sequence_id")
        }
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{study / VALIDATION}: cannot be read ({error}); is this a study of search.run?") from error
    label_names = tuple(about["label_names"])
    if not len(columns["label"]) or not set(np.unique(columns["label"])) <= set(range(len(label_names))):
        raise UserError(f"{study / VALIDATION}: label: must be indices of the {len(label_names)} signs of {STUDY}")
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    for path in sorted((study / TRIALS).glob("*/")):
        try:
            candidate = _read_trial(RunDir(path), columns["label"], len(label_names))
            if candidates and candidate.model.max_frames != candidates[0].model.max_frames:
                raise UserError("config.json: another max_frames than the first candidate's")
            candidates.append(candidate)
        except UserError as error:
            left_out[path.name] = reason_of(error, path)
    if not candidates:
        raise UserError(f"{study}: no trial can be used{listed(left_out)}")
    return Pool(
        studies=(study,),
        candidates=candidates,
        left_out=left_out,
        label_names=label_names,
        labels=columns["label"],
        participants=columns["participant_id"],
        lengths=columns["length"],
        sequence_ids=columns["sequence_id"],
        data=str(about["data"]),
        fingerprint=about.get("data_fingerprint"),
    )


def open_pools(studies: Sequence[tuple[str, Path]]) -> Pool:
    """Read studies, each with how the user calls it, as one pool; of several, trials are named asl/0007.

    A trial that an earlier study holds too, as of a study and its copy, is left out. Raises UserError as ``open_pool``
    does, or if two are the same, or were not validated on the same sequences.
    """
    if len(studies) == 1:
        return open_pool(studies[0][1])
    if len({path.resolve() for _, path in studies}) < len(studies):
        raise UserError(f"--results: the same study twice ({', '.join(shown for shown, _ in studies)})")
    names = [base_name(str(path.resolve())) for _, path in studies]
    if len(set(names)) < len(names):
        names = [shown for shown, _ in studies]
    first, *others = pools = [open_pool(path) for _, path in studies]
    for (shown, _), other in zip(studies[1:], others, strict=True):
        if different := _difference(first, other):
            raise UserError(
                f"--results {shown}: {different} than {studies[0][0]}; only models validated on the same sequences can "
                "be chosen among"
            )
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    holders: dict[str, str] = {}  # of predictions, by their hash
    for name, pool in zip(names, pools, strict=True):
        left_out |= {f"{name}/{trial}": reason for trial, reason in pool.left_out.items()}
        for candidate in pool.candidates:
            holder = holders.setdefault(sha256(candidate.val_probs().tobytes()).hexdigest(), name)
            if pool.max_frames != first.max_frames:
                left_out[f"{name}/{candidate.name}"] = "config.json: another max_frames than the first candidate's"
            elif holder != name:
                left_out[f"{name}/{candidate.name}"] = f"{holder} holds the same trial"
            else:
                candidates.append(dataclasses.replace(candidate, name=f"{name}/{candidate.name}"))
    paths = tuple(path for _, path in studies)
    return dataclasses.replace(first, studies=paths, candidates=candidates, left_out=left_out)


def _difference(first: Pool, other: Pool) -> str | None:
    """What the studies do not have in common, if anything, though all candidates of one ensemble must."""
    if other.label_names != first.label_names:
        return "has other signs"
    if other.fingerprint != first.fingerprint:
        return "was searched on another packed dataset"
    if not np.array_equal(other.sequence_ids, first.sequence_ids):
        held_out = ", ".join(map(str, np.unique(other.participants)))
        return f"holds out other participants ({held_out})"
    return None


def reason_of(error: UserError, path: Path) -> str:
    """The error without the trial's directory, for where its name stands beside it."""
    return str(error).replace(f"{path}/", "")


def listed(left_out: dict[str, str]) -> str:
    """A line for each reason why trials were left out."""
    return "".join(f"\n  {' '.join(names)}: {reason}" for reason, names in by_reason(left_out).items())


def by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    """The names of what was left out for the same reason, by that."""
    found: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        found.setdefault(reason, []).append(name)
    return found


def _read_study(study: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((study / STUDY).read_text())
    except FileNotFoundError as error:
        raise UserError(f"{study}: holds no study (no {STUDY}); make one with: python -m search.run") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{study / STUDY}: cannot be read ({error})") from error
    if not isinstance(about, dict):
        raise UserError(f"{study / STUDY}: must be an object; is this a study of search.run?")
    for name, kind in (("label_names", list), ("data", str)):
        if not isinstance(about.get(name), kind):
            raise UserError(f"{study / STUDY}: the field {name!r} is missing, or no {kind.__name__}")
    return about


def _read_trial(run: RunDir, labels: np.ndarray, num_signs: int) -> Candidate:
    """Raises UserError if the trial is unfinished or any of its files is broken or of another study."""
    if not run.is_done:
        raise UserError("not finished: no done.json (stopped early, failed, or still running)")
    config, result = run.read_config(), run.read_result()
    if config.all_participants:
        raise UserError("trained on all participants: nothing to select it by; ship it with --ship")
    probs = run.read_val_probs()
    if probs.shape != (len(labels), num_signs):
        raise UserError(f"val_probs.npy: shape {list(probs.shape)}, not {[len(labels), num_signs]}")
    if not np.allclose(probs.sum(axis=1, dtype=np.float32), 1, atol=ROUNDING):  # a NaN fails too
        raise UserError("val_probs.npy: rows that are no probabilities")
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


def to_member(candidate: Candidate, count: int) -> export.Member:
    """Raises UserError if the weights cannot be read or are not a classifier's."""
    weights = {name: tensor.numpy() for name, tensor in candidate.run.read_weights().items()}
    parameters = sum(weight.size for weight in weights.values())
    if parameters != candidate.num_parameters:
        raise UserError(f"weights.safetensors: not a classifier's of {candidate.num_parameters} parameters")
    return export.Member(candidate.model, weights, count, candidate.precision)
