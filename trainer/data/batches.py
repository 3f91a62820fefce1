"""The batches of a training run and of its validation: sequences end to end, augmented, without padding."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import numpy as np
import torch

from trainer.config import TrainConfig
from trainer.data.augment import AUGMENTATIONS, consecutive, mixup
from trainer.data.dataset import PackedDataset

FEWEST_STEPS: Final = 30  # per epoch, of batches that nobody asked to be of another size
SMALLEST_BATCH: Final = 8  # smaller ones make each step's gradient too much a matter of chance
LARGEST_BATCH: Final = 128  # the recipe's


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


def fitting_batch_size(num_sequences: int) -> int:
    """Sequences per optimizer step where none are asked for: an epoch of few sequences has 30 steps all the same.

    >>> [fitting_batch_size(number) for number in (100, 400, 4_000, 94_477)]
    [8, 13, 128, 128]
    """
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, num_sequences // FEWEST_STEPS))


_RESIDENT: WeakValueDictionary[tuple[Path, str, str], torch.Tensor] = WeakValueDictionary()


def resident(dataset: PackedDataset, device: torch.device) -> torch.Tensor:
    """All frames of a dataset on a device: one copy, as long as somebody holds it."""
    key = dataset.path, dataset.fingerprint, str(torch.empty(0, device=device).device)  # cuda is cuda:0
    frames = _RESIDENT.get(key)
    if frames is None:
        frames = _RESIDENT[key] = torch.from_numpy(np.array(dataset.frames)).to(device)
    return frames


class Batches:
    """Makes the batches of a training run and of its validation, on the device where the model is."""

    def __init__(self, dataset: PackedDataset, config: TrainConfig, device: torch.device) -> None:
        """On a GPU the frames are copied there once for all runs of a process; on CPU they stay in the memory map."""
        self.dataset = dataset
        self.config = config
        self.device = device
        others, self.val_indices = dataset.split(config.num_folds, config.fold)
        self.train_indices = np.arange(len(dataset)) if config.all_participants else others
        self.batch_size = config.batch_size or fitting_batch_size(len(others))
        passes = -(-len(self.train_indices) // self.batch_size)
        self.steps_per_epoch = config.steps_per_epoch or passes
        self._resident = resident(dataset, device) if device.type != "cpu" else None

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Augmented training batches of an epoch counted from 0. They depend on the seed and the epoch alone.

        Every sequence comes once before any comes again, so an epoch of one pass repeats only as many as fill
        its last batch. With several ``copies`` a batch has so many of each (Hoffer et al. 2020, "Augment Your Batch"),
        and it takes as many epochs for all to have come.
        """
        rng = np.random.default_rng((self.config.seed, epoch))
        distinct = -(-self.batch_size // self.config.copies)
        needed = self.steps_per_epoch * distinct
        passes = -(-needed // len(self.train_indices))
        order = np.concatenate([rng.permutation(self.train_indices) for _ in range(passes)])
        for begin in range(0, needed, distinct):
            chosen = np.repeat(order[begin : begin + distinct], self.config.copies)
            yield self._training_batch(chosen[: self.batch_size], rng)

    def _training_batch(self, chosen: np.ndarray, rng: np.random.Generator) -> Batch:
        config, longest = self.config, self.config.model.max_frames
        full = self.dataset.lengths[chosen]
        lengths = np.minimum(full, longest)
        starts = self.dataset.starts[chosen] + rng.integers(0, full - lengths + 1)
        frames = self._gather(consecutive(starts, lengths))
        for apply in AUGMENTATIONS.values():
            frames, lengths = apply(frames, lengths, config, rng)
        partners, align = config.mixup_partners, config.align_partners
        mixed = mixup(frames, lengths, config.mixup_alpha, rng, num_partners=partners, align=align)
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
