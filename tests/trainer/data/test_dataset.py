"""The packed dataset as its readers see it: opening, splitting by participant, and pieces of batches."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from tests.trainer.conftest import write_dataset
from trainer.common.errors import UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import Batches, PackedDataset, resize_indices


def test_opening_reads_no_frames(packed: PackedDataset) -> None:
    assert isinstance(packed.frames, np.memmap)
    assert not packed.frames.flags.writeable
    assert isinstance(packed.sequence(3), np.memmap)


def test_sequences_are_the_tables_own(packed: PackedDataset) -> None:
    table = pd.read_parquet(packed.path / "sequences.parquet")
    frames = np.load(packed.path / "frames.npy")
    assert len(packed) == len(table)
    assert packed.num_signs == 6
    for index, row in enumerate(table.itertuples()):
        np.testing.assert_array_equal(packed.sequence(index), frames[row.start : row.start + row.length])
        assert packed.sign_names[packed.labels[index]] == row.sign
        assert packed.participants[index] == row.participant_id


def test_the_fingerprint_is_that_of_the_content(packed: PackedDataset, tmp_path: Path) -> None:
    shutil.copytree(packed.path, tmp_path / "copy")
    assert PackedDataset.open(tmp_path / "copy").fingerprint == packed.fingerprint
    other = PackedDataset.open(write_dataset(tmp_path / "other"))
    assert len(other.fingerprint) == 64
    assert other.fingerprint != packed.fingerprint


def change_manifest(**values: object) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | values))

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: shutil.rmtree(path), "not a packed dataset"),
        (lambda path: (path / "manifest.json").unlink(), "not a packed dataset"),
        (lambda path: (path / "manifest.json").write_text('{"format'), "manifest.json: cannot be read"),
        (change_manifest(format_version=0), "another format"),
        (change_manifest(landmark_ids=list(range(85))), "another format"),
        (change_manifest(num_frames=7), "do not fit"),
        (change_manifest(num_sequences=7), "do not fit"),
        (lambda path: (path / "frames.npy").unlink(), "cannot read the packed dataset"),
        (lambda path: (path / "frames.npy").write_bytes(b""), "cannot read the packed dataset"),
        (lambda path: np.save(path / "frames.npy", np.zeros((9, 85, 2))), "do not fit"),
        (lambda path: (path / "sequences.parquet").write_bytes(b"PAR1"), "cannot read the packed dataset"),
        (lambda path: pd.DataFrame({"start": [0]}).to_parquet(path / "sequences.parquet"), "cannot read the packed"),
    ],
)
def test_what_is_no_dataset_is_refused(
    harm: Callable[[Path], object], message: str, packed: PackedDataset, tmp_path: Path
) -> None:
    path = tmp_path / "copy"
    shutil.copytree(packed.path, path)
    harm(path)
    with pytest.raises(UserError, match=message) as caught:
        PackedDataset.open(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("num_folds", [2, 3, 6])
def test_every_participant_is_held_out_once_and_never_trained_on(num_folds: int, packed: PackedDataset) -> None:
    held_out = []
    for fold in range(num_folds):
        training, validation = packed.split(num_folds, fold)
        assert not set(packed.participants[training]) & set(packed.participants[validation])
        np.testing.assert_array_equal(np.sort(np.concatenate([training, validation])), np.arange(len(packed)))
        assert (np.diff(training) > 0).all()
        assert (np.diff(validation) > 0).all()
        held_out.append(validation)
    np.testing.assert_array_equal(np.sort(np.concatenate(held_out)), np.arange(len(packed)))


def test_the_real_participants_make_even_folds(real_sample: Path, packed: PackedDataset) -> None:
    participants = pd.read_csv(real_sample / "full_index.csv.gz").participant_id.to_numpy()
    folds = dataclasses.replace(packed, participants=participants).folds(5)
    sizes = [np.isin(participants, fold).sum() for fold in folds]
    assert sum(sizes) == 94_477
    assert max(sizes) - min(sizes) < np.unique(participants, return_counts=True)[1].max()
    again = dataclasses.replace(packed, participants=participants[::-1]).folds(5)
    for fold, same in zip(folds, again, strict=True):
        np.testing.assert_array_equal(fold, same, "the order of the sequences changed the folds")


def test_more_folds_than_participants_are_refused(packed: PackedDataset) -> None:
    with pytest.raises(UserError, match="6 participants cannot be dealt into 7 folds; lower num_folds"):
        packed.folds(7)


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
        whole = packed.sequence(index)
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
    assert sorted(first) == sorted(packed.sequence(index).tobytes() for index in batches.train_indices)
    assert first == sequences(0)
    assert first != sequences(1)


def test_all_participants_are_trained_on_where_that_is_asked(dataset: PackedDataset) -> None:
    held_out = Batches(dataset, TrainConfig(), torch.device("cpu"))
    everyone = Batches(dataset, TrainConfig(all_participants=True), torch.device("cpu"))
    assert everyone.train_indices.tolist() == list(range(len(dataset)))
    assert everyone.val_indices.tolist() == held_out.val_indices.tolist()
    assert not set(held_out.train_indices) & set(held_out.val_indices)
