"""Studies' directories -> the candidates that an ensemble is chosen from, each with its measured cost.

A candidate is a trial's model at one precision. Costs are kept in its study, in ensemble/costs.json, under the SHA-256
of the very file that was timed, so nothing is timed twice in one setting (machine, runtime, threads, lengths), and
nothing stale is ever used. float16 files predict what the trial did (ensemble.verify holds them to it); int8 files are
run on the validation sequences, and their own probabilities, kept under the same hash, are what they are selected by.
"""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ensemble import latency, tflite
from ensemble.budget import Cost
from ensemble.latency import Target
from ensemble.runtime import Model
from ensemble.submission import with_labels
from trainer.cli import UserError, track
from trainer.config import ModelConfig
from trainer.files import atomic_path, write_json
from trainer.landmarks import NUM_ROWS, ROWS
from trainer.metrics import accuracy, log_loss
from trainer.remote import base_name, open_dataset
from trainer.rundir import RunDir

STUDY: Final = "study.json"
VALIDATION: Final = "validation.parquet"
TRIALS: Final = "trials"
COSTS: Final = "ensemble/costs.json"
PROBS: Final = "ensemble/val_probs"
ROUNDING: Final = 0.02  # a row of float16 probabilities may miss 1 by this much


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
    """The packed dataset: path or URI, where it lay when the (first) study was made"""
    fingerprint: str | None
    """Of the packed dataset"""

    @property
    def max_frames(self) -> int:
        """Of every candidate's model."""
        return self.candidates[0].model.max_frames

    def raw_sequences(self, places: Iterable[int]) -> Iterator[np.ndarray]:
        """Landmarks as a file gets them, float32 [n, 543, 3], of validation sequences by their place.

        They come from the packed dataset: centred, with NaN for all that it does not keep. Raises UserError if that is
        gone or another.
        """
        dataset = open_dataset(self.data)
        if self.fingerprint not in (None, dataset.fingerprint):
            raise UserError(f"{self.data}: is not the packed dataset that the study was made on (another fingerprint)")
        rows = {int(sequence): row for row, sequence in enumerate(dataset.sequence_ids)}
        for place in places:
            if (row := rows.get(int(self.sequence_ids[place]))) is None:
                raise UserError(f"{self.data}: is not the packed dataset that the study was made on")
            points = dataset.sequence(row)
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
            left_out[path.name] = _reason(error, path)
    if not candidates:
        raise UserError(f"{study}: no trial can be used{_listed(left_out)}")
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


def _reason(error: UserError, path: Path) -> str:
    return str(error).replace(f"{path}/", "")


def _listed(left_out: dict[str, str]) -> str:
    return "".join(f"\n  {name}: {reason}" for name, reason in left_out.items())


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


def to_member(candidate: Candidate, count: int) -> tflite.Member:
    """Raises UserError if the weights cannot be read or are not a classifier's."""
    weights = {name: tensor.numpy() for name, tensor in candidate.run.read_weights().items()}
    parameters = sum(weight.size for weight in weights.values())
    if parameters != candidate.num_parameters:
        raise UserError(f"weights.safetensors: not a classifier's of {candidate.num_parameters} parameters")
    return tflite.Member(candidate.model, weights, count, candidate.precision)


def measure(
    pool: Pool, precisions: Sequence[str], target: Target, anew: bool = False
) -> tuple[Pool, np.ndarray, np.ndarray]:
    """Build, weigh and time a .tflite file of each candidate at each precision; shows a progress bar.

    Gives the pool with a candidate a file, without those whose file cannot be built; what every ensemble takes before
    it has a member, float64 [4] in the order of Cost's fields; and what each candidate adds to that, float64 [K, 4].
    Latencies that the studies keep are taken from there, unless they are to be measured anew.
    """
    caches = {study: _Cache(study, pool, target, anew) for study in pool.studies}
    base = caches[pool.studies[0]].cost(tflite.build_shared(pool.max_frames), 0, 0).to_array()
    variants = [
        dataclasses.replace(candidate, precision=precision) for candidate in pool.candidates for precision in precisions
    ]
    candidates, costs, left_out = [], [], dict(pool.left_out)
    for variant in track(variants, len(variants), "measuring candidates"):
        label = variant.name if len(precisions) == 1 else f"{variant.name} {variant.precision}"
        try:
            content = tflite.build([to_member(variant, 1)])
            candidate = _with_own_probs(variant, pool, content) if variant.precision == "int8" else variant
        except (KeyError, ValueError) as error:
            left_out[label] = f"weights.safetensors: not a classifier's ({error})"
        except UserError as error:
            left_out[label] = _reason(error, variant.run.path)
        else:
            candidates.append(candidate)
            cost = caches[candidate.study].cost(content, candidate.num_parameters, 1)
            costs.append(np.maximum(cost.to_array() - base, 0))
    if not candidates:
        shown = ", ".join(map(str, pool.studies))
        raise UserError(f"{shown}: no trial can be used{_listed(left_out)}")
    return dataclasses.replace(pool, candidates=candidates, left_out=left_out), base, np.array(costs)


def _with_own_probs(variant: Candidate, pool: Pool, content: bytes) -> Candidate:
    """The variant with the probabilities that its file gives the validation sequences, computed once."""
    path = variant.study / PROBS / f"{sha256(content).hexdigest()}.npy"
    if not _is_kept(path, pool):
        probs = _predict(content, pool)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, probs.astype(np.float16), allow_pickle=False)
    own = dataclasses.replace(variant, probs=path)
    probs = own.val_probs()
    return dataclasses.replace(
        own, val_accuracy=accuracy(probs, pool.labels), val_log_loss=log_loss(probs, pool.labels)
    )


def _is_kept(path: Path, pool: Pool) -> bool:
    """Whether a file's probabilities are there, and whole."""
    try:
        probs = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return probs.shape == (len(pool.labels), len(pool.label_names)) and bool(np.isfinite(probs).all())


def _predict(content: bytes, pool: Pool) -> np.ndarray:
    """What a file gives the validation sequences, float32 [N, signs]; all cores share the work."""
    threads = min(os.cpu_count() or 1, len(pool.labels))

    def share(first: int) -> list[np.ndarray]:
        model = Model(content)
        return [model(raw) for raw in pool.raw_sequences(range(first, len(pool.labels), threads))]

    probs = np.empty((len(pool.labels), len(pool.label_names)), np.float32)
    with ThreadPoolExecutor(threads) as executor:
        for first, part in enumerate(executor.map(share, range(threads))):
            probs[first::threads] = part
    return probs


class _Cache:
    """Latencies of files by the SHA-256 of their content, in one setting; those of other settings are kept."""

    def __init__(self, study: Path, pool: Pool, target: Target, anew: bool) -> None:
        self._path = study / COSTS
        self._pool = pool
        self._target = target
        self._lengths = latency.typical_lengths(pool.lengths)
        setting = {
            "machine": latency.machine(),
            "litert": version("ai-edge-litert"),
            "threads": target.threads,
            "lengths": self._lengths,
        }
        self._settings: list[dict[str, Any]] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no cache, or one to be made anew
            self._settings = [
                {"setting": entry["setting"], "milliseconds": dict(entry["milliseconds"])}
                for entry in json.loads(self._path.read_text())["settings"]
            ]
        of_this = [entry for entry in self._settings if entry["setting"] == setting]
        if anew:
            self._settings = [entry for entry in self._settings if entry not in of_this]
        if anew or not of_this:
            of_this = [{"setting": setting, "milliseconds": {}}]
            self._settings += of_this
        self._milliseconds: dict[str, float] = of_this[0]["milliseconds"]

    def cost(self, model: bytes, parameters: int, members: int) -> Cost:
        """Of a .tflite file, labels attached; timed only if it never was."""
        model = with_labels(model, self._pool.label_names)
        key = sha256(model).hexdigest()
        if key not in self._milliseconds:
            self._milliseconds[key] = latency.measure(model, self._lengths, threads=self._target.threads).mean
            write_json(self._path, {"settings": self._settings})
        milliseconds = self._target.scale * self._milliseconds[key]
        return Cost(parameters=parameters, size=len(model), latency=milliseconds, members=members)
