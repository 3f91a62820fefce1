"""A packed dataset, memory-mapped; its participants dealt into folds; and the batches made from it.

On disk (written by trainer.pack): frames.npy float32 [F, 85, 2], sequences.parquet with one row a
sequence, manifest.json. Opening costs the same at any size, and processes on one machine share the frames
through the page cache.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow.parquet as pq
import torch

from trainer.common.errors import UserError
from trainer.config import TrainConfig
from trainer.data import augment
from trainer.data.augment import ranges
from trainer.landmarks import NUM_LANDMARKS, ROWS

FORMAT_VERSION: Final = 1
FRAMES, SEQUENCES, MANIFEST = "frames.npy", "sequences.parquet", "manifest.json"


@dataclass(frozen=True)
class PackedDataset:
    """Sequences of normalised landmarks, end to end in one array. All per-sequence arrays share one order."""

    path: Path
    frames: np.ndarray
    """float32 [F, 85, 2], read-only; frames of sequence i are starts[i] : starts[i] + lengths[i]"""
    starts: np.ndarray
    """int64 [N]"""
    lengths: np.ndarray
    """int64 [N], frames of each sequence"""
    labels: np.ndarray
    """int64 [N], index into sign_names"""
    participants: np.ndarray
    """int64 [N], participant_id"""
    sequence_ids: np.ndarray
    """int64 [N]"""
    sign_names: tuple[str, ...]
    fingerprint: str
    """SHA-256 of frames.npy and sequences.parquet, as the manifest states them"""
    source: str = ""
    """Where every machine finds it: the URI that it was fetched from (trainer.common.storage), else the path"""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_signs(self) -> int:
        return len(self.sign_names)

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open a packed dataset. Raises UserError if it is absent, unfinished or of another format."""
        path = Path(path)
        manifest = _read_manifest(path)
        try:
            frames = np.load(path / FRAMES, mmap_mode="r", allow_pickle=False)
            table = pq.read_table(path / SEQUENCES)
            columns = {
                name: table[name].to_numpy().astype(np.int64, copy=False)
                for name in ("start", "length", "label", "participant_id", "sequence_id")
            }
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: cannot read the packed dataset ({error}); pack it again with trainer.pack"
            ) from error
        expected = (manifest["num_frames"], NUM_LANDMARKS, 2)
        if frames.shape != expected or frames.dtype != np.float32 or len(table) != manifest["num_sequences"]:
            raise UserError(f"{path}: the files do not fit {MANIFEST}; pack it again with trainer.pack")
        return cls(
            path=path.resolve(),
            frames=frames,
            starts=columns["start"],
            lengths=columns["length"],
            labels=columns["label"],
            participants=columns["participant_id"],
            sequence_ids=columns["sequence_id"],
            sign_names=tuple(manifest["label_names"]),
            fingerprint=fingerprint(manifest),
            source=str(path.resolve()),
        )

    def sequence(self, index: int) -> np.ndarray:
        """Frames of one sequence: float32 [n, 85, 2], a view."""
        start = self.starts[index]
        return self.frames[start : start + self.lengths[index]]

    def folds(self, num_folds: int) -> list[np.ndarray]:
        """Deal the participants into folds: a list of sorted participant ids (int64) for each fold.

        The participant with the most sequences not yet dealt goes to the fold with the fewest, so folds
        come out even; the deal depends on the data alone. Raises UserError if there are fewer participants
        than folds.
        """
        ids, counts = np.unique(self.participants, return_counts=True)
        if len(ids) < num_folds:
            raise UserError(
                f"{self.path}: {len(ids)} participants cannot be dealt into {num_folds} folds; lower num_folds"
            )
        folds: list[list[int]] = [[] for _ in range(num_folds)]
        sizes = [0] * num_folds
        for index in np.lexsort((ids, -counts)):
            fold = sizes.index(min(sizes))
            folds[fold].append(int(ids[index]))
            sizes[fold] += int(counts[index])
        return [np.array(sorted(fold), dtype=np.int64) for fold in folds]

    def split(self, num_folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices of training and of validation sequences, int64, ascending; no participant is in both."""
        held_out = np.isin(self.participants, self.folds(num_folds)[fold])
        return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: not a packed dataset (no {MANIFEST}); make one with: python -m trainer.pack SOURCE {path}"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path / MANIFEST}: cannot be read ({error}); pack it again with trainer.pack") from error
    if manifest.get("format_version") != FORMAT_VERSION or tuple(manifest.get("landmark_ids", ())) != ROWS:
        raise UserError(f"{path}: packed in another format; pack it again with this version of trainer.pack")
    return manifest


def fingerprint(manifest: dict[str, Any]) -> str:
    """Identity of a packed dataset's content: the two SHA-256 of its manifest, joined."""
    hashes = manifest["sha256"]
    return f"{hashes[FRAMES][:32]}{hashes[SEQUENCES][:32]}"


def resize_indices(length: int, target: int) -> np.ndarray:
    """Source frames of a nearest-neighbour resize from ``length`` to ``target`` frames: int64 [target].

    Frame i comes from floor(i * length / target), as in TensorFlow's and PyTorch's nearest resize.
    """
    return np.arange(target) * length // target


@dataclass(frozen=True)
class Batch:
    """Sequences end to end, without padding."""

    frames: torch.Tensor
    """float32 [sum of lengths, 85, 2]"""
    lengths: np.ndarray
    """int64 [batch]"""
    labels: torch.Tensor
    """int64 [batch, mixed], the sequence's own sign first, then those that mixup mixed in"""
    weights: torch.Tensor
    """float32 [batch, mixed], the share of the loss of each of these signs: 1 in all"""


class Batches:
    """Makes the batches of a training run and of its validation, on the device where the model is."""

    def __init__(self, dataset: PackedDataset, config: TrainConfig, device: torch.device) -> None:
        """On a GPU the frames are copied there once; on CPU they stay in the memory map."""
        self.dataset = dataset
        self.config = config
        self.device = device
        others, self.val_indices = dataset.split(config.num_folds, config.fold)
        self.train_indices = np.arange(len(dataset)) if config.all_participants else others
        passes = -(-len(self.train_indices) // config.batch_size)
        self.steps_per_epoch = config.steps_per_epoch or passes
        self._resident = torch.from_numpy(np.array(dataset.frames)).to(device) if device.type != "cpu" else None

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Augmented training batches of an epoch counted from 0. They depend on the seed and the epoch alone.

        Every sequence comes once before any comes again, so an epoch of one pass repeats only as many as fill
        its last batch.
        """
        rng = np.random.default_rng((self.config.seed, epoch))
        needed = self.steps_per_epoch * self.config.batch_size
        passes = -(-needed // len(self.train_indices))
        order = np.concatenate([rng.permutation(self.train_indices) for _ in range(passes)])
        for begin in range(0, needed, self.config.batch_size):
            yield self._training_batch(order[begin : begin + self.config.batch_size], rng)

    def _training_batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        config, longest = self.config, self.config.model.max_frames
        full = self.dataset.lengths[chosen]
        lengths = np.minimum(full, longest)
        starts = self.dataset.starts[chosen] + rng.integers(0, full - lengths + 1)
        frames = self._gather(ranges(starts, lengths))
        spline = config.time_interpolation == "spline"
        frames, lengths = augment.stretch(frames, lengths, config.time_stretch, longest, rng, spline=spline)
        frames = augment.mirror(frames, lengths, config.mirror_probability, rng)
        frames = augment.turn(frames, lengths, config.rotation, config.scale, rng)
        frames = augment.shift(frames, lengths, config.group_shift, config.landmark_shift, rng)
        partners, align = config.mixup_partners, config.align_partners
        mixed = augment.mixup(frames, lengths, config.mixup_alpha, rng, num_partners=partners, align=align)
        labels = self.dataset.labels[chosen][mixed.members]
        return Batch(mixed.frames, mixed.lengths, self._to(labels), self._to(mixed.weights))

    def validation(self, frames_per_batch: int = 8192) -> Iterator[tuple[np.ndarray, torch.Tensor, np.ndarray]]:
        """Held-out sequences, similar lengths together: (places int64 [batch] in ``val_indices``, frames, lengths).

        Sequences over max_frames are resized to it. A batch holds about ``frames_per_batch`` frames.
        """
        longest = self.config.model.max_frames
        lengths = np.minimum(self.dataset.lengths[self.val_indices], longest)
        by_length = np.argsort(lengths, kind="stable")
        cuts = np.flatnonzero(np.diff(np.cumsum(lengths[by_length]) // frames_per_batch)) + 1
        for places in np.split(by_length, cuts):
            chosen = self.val_indices[places]
            rows = [
                self.dataset.starts[i] + resize_indices(self.dataset.lengths[i], min(self.dataset.lengths[i], longest))
                for i in chosen
            ]
            yield places, self._gather(np.concatenate(rows)), lengths[places]

    def _gather(self, rows: np.ndarray) -> torch.Tensor:
        """Frames of the dataset by row: int64 [n] -> float32 [n, 85, 2] on the device."""
        if self._resident is None:
            return torch.from_numpy(self.dataset.frames[rows])
        return self._resident[self._to(rows)]

    def _to(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)
