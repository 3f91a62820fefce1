"""Batches of training and validation: which sequences they show, and how."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainer.config import ModelConfig, TrainConfig
from trainer.data.augment import AUGMENTATIONS
from trainer.data.batches import Batches, fitting_batch_size, resident, resize_indices
from trainer.data.dataset import PackedDataset


@pytest.mark.parametrize(("length", "target"), [(1, 1), (5, 5), (600, 512), (513, 512), (3, 7), (537, 100)])
def test_resizing_is_torchs_nearest_neighbour(length: int, target: int) -> None:
    frames = torch.arange(length, dtype=torch.float64)[None, None]
    expected = F.interpolate(frames, size=target, mode="nearest")[0, 0].long()
    np.testing.assert_array_equal(resize_indices(length, target), expected)


def test_validation_shows_every_held_out_sequence_whole_or_resized(packed: PackedDataset) -> None:
    longest = 20
    config = TrainConfig(model=ModelConfig(num_signs=6, max_frames=longest), num_folds=3)
    batches = Batches(packed, config, torch.device("cpu"))
    seen: dict[int, np.ndarray] = {}
    for places, frames, lengths in batches.validation(frames_per_batch=100):
        seen |= dict(zip(places.tolist(), np.split(frames.numpy(), np.cumsum(lengths)[:-1]), strict=True))
    assert sorted(seen) == list(range(len(batches.val_indices)))
    lengths = packed.lengths[batches.val_indices]
    assert (lengths > longest).any()
    for place, index in enumerate(batches.val_indices):
        whole = packed.sequence(int(index))
        rows = [row * len(whole) // longest for row in range(longest)] if len(whole) > longest else slice(None)
        np.testing.assert_array_equal(seen[place], whole[rows])


def test_an_epoch_shows_every_training_sequence_once(packed: PackedDataset) -> None:
    """Unaugmented, the first pass of an epoch is a permutation; another epoch is another, the same one the same."""
    model = ModelConfig(num_signs=6)
    config = TrainConfig(model=model, mixup_alpha=0, mirror_probability=0, batch_size=16, num_folds=3)
    batches = Batches(packed, config, torch.device("cpu"))
    assert batches.steps_per_epoch == 3

    def sequences(epoch: int) -> list[bytes]:
        pieces: list[bytes] = []
        for batch in batches.epoch(epoch):
            assert len(batch.lengths) == 16
            assert batch.lengths.sum() == len(batch.frames)
            pieces += [piece.numpy().tobytes() for piece in batch.frames.split(batch.lengths.tolist())]
        return pieces

    first = sequences(0)
    assert sorted(first) == sorted(packed.sequence(int(index)).tobytes() for index in batches.train_indices)
    assert first == sequences(0)
    assert first != sequences(1)


@pytest.mark.parametrize("asked", [None, 16])
def test_a_step_takes_as_many_sequences_whether_people_are_held_out_or_not(
    packed: PackedDataset, asked: int | None
) -> None:
    """What ships was trained as what was validated: by the size of the held-out training, where it is not asked for."""
    model = ModelConfig(num_signs=6)
    config = TrainConfig(model=model, batch_size=asked, num_folds=2)
    held_out = Batches(packed, config, torch.device("cpu"))
    everyone = Batches(packed, config.replace(all_participants=True), torch.device("cpu"))
    assert len(everyone.train_indices) == len(packed) > len(held_out.train_indices)
    expected = asked or fitting_batch_size(len(held_out.train_indices))
    assert held_out.batch_size == everyone.batch_size == expected


def test_an_epoch_of_few_sequences_has_thirty_steps_of_at_least_eight() -> None:
    assert [fitting_batch_size(number) for number in (1, 239, 240, 300, 3839, 3840, 10**6)] == [
        *(8, 8, 8, 10, 127, 128, 128),
    ]


def test_all_participants_are_trained_on_where_that_is_asked(dataset: PackedDataset) -> None:
    held_out = Batches(dataset, TrainConfig(), torch.device("cpu"))
    everyone = Batches(dataset, TrainConfig(all_participants=True), torch.device("cpu"))
    assert everyone.train_indices.tolist() == list(range(len(dataset)))
    assert everyone.val_indices.tolist() == held_out.val_indices.tolist()
    assert not set(held_out.train_indices) & set(held_out.val_indices)


def test_an_entry_of_the_table_is_applied_to_every_training_batch(
    dataset: PackedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And to none of validation: adding an augmentation takes nothing but the entry."""

    def far_away(
        frames: torch.Tensor, lengths: np.ndarray, config: TrainConfig, rng: np.random.Generator
    ) -> tuple[torch.Tensor, np.ndarray]:
        offset = config.model.dropout * rng.integers(100, 101)
        return frames + float(offset), lengths

    config = TrainConfig(model=ModelConfig(num_signs=dataset.num_signs, dropout=0.5), mixup_alpha=0)
    batches = Batches(dataset, config, torch.device("cpu"))
    before = next(batches.epoch(0))
    monkeypatch.setitem(AUGMENTATIONS, "far away", far_away)
    after = next(batches.epoch(0))
    torch.testing.assert_close(after.frames, before.frames + 50, rtol=0, atol=1e-3)
    assert max(frames.max().item() for _, frames, _ in batches.validation()) < 10


def test_runs_of_one_process_share_the_frames_on_a_device(packed: PackedDataset) -> None:
    elsewhere = torch.device("meta")  # as a GPU: memory that the map on disk is not
    config = TrainConfig(model=ModelConfig(num_signs=6), num_folds=3)
    runs = [Batches(packed, config.replace(seed=seed), elsewhere) for seed in range(2)]
    frames = weakref.ref(resident(packed, elsewhere))
    assert runs[0]._resident is runs[1]._resident is frames()
    assert runs[0]._resident is not None
    assert runs[0]._resident.shape == packed.frames.shape
    runs.clear()
    gc.collect()
    assert frames() is None, "memory of a dataset that no run has"


@pytest.mark.parametrize(("copies", "distinct"), [(1, 10), (2, 5), (3, 4), (40, 1)])
def test_a_batch_has_copies_of_each_sequence_which_differ(copies: int, distinct: int, packed: PackedDataset) -> None:
    config = TrainConfig(model=ModelConfig(num_signs=6), num_folds=3, batch_size=10, copies=copies, mixup_alpha=0.0)
    batches = Batches(packed, config.replace(landmark_shift=0.01, mirror_probability=0.0), torch.device("cpu"))
    plain = Batches(packed, config.replace(mirror_probability=0.0), torch.device("cpu"))
    assert batches.steps_per_epoch == -(-len(batches.train_indices) // 10)
    for batch, exact in zip(batches.epoch(0), plain.epoch(0), strict=True):
        assert len(batch.lengths) == 10
        parts, shifted = (item.frames.split(item.lengths.tolist()) for item in (exact, batch))
        contents = [part.numpy().tobytes() for part in parts]
        assert len(set(contents)) == distinct
        assert all(contents.count(content) <= copies for content in contents)
        assert len({part.numpy().tobytes() for part in shifted}) == 10


def test_with_copies_all_sequences_come_before_one_comes_again(packed: PackedDataset) -> None:
    config = TrainConfig(model=ModelConfig(num_signs=6), num_folds=3, batch_size=8, copies=2, mixup_alpha=0.0)
    config = config.replace(mirror_probability=0.0, steps_per_epoch=12)  # of 48 sequences, 4 a step
    batches = Batches(packed, config, torch.device("cpu"))
    assert len(batches.train_indices) == 48
    seen = [part.numpy().tobytes() for batch in batches.epoch(0) for part in batch.frames.split(batch.lengths.tolist())]
    assert len(set(seen)) == 48
